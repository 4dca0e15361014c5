"""Photograph -> the network's input: decode, orient, 8-bit RGB, resize, crop.

source of an image -> uint8 (H, W, 3) and its placement on the photograph. Building, evaluating and
scoring share this code; artifacts/FORMAT.md, section Preprocess, defines it to the bit. The resize
is Pillow's antialiased one.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.image.decode import ChannelOrder, ImageSource, read_image
from patchcore_runtime.image.limits import check_resize, scoring_bytes
from patchcore_runtime.image.placement import Placement, place_input, resized_size
from patchcore_runtime.manifest.manifest import Preprocessing

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def preprocess(
    source: ImageSource,
    settings: Preprocessing,
    *,
    channel_order: ChannelOrder = "rgb",
    notes: list[str] | None = None,
) -> tuple[NDArray[np.uint8], Placement]:
    """Convert a photograph to the network's input.

    Args:
        source: See `read_image`.
        settings: The artifact's geometry and white level.
        channel_order: See `read_image`.
        notes: See `read_image`.

    Returns:
        The input, uint8 (H, W, 3), contiguous, and its position on the photograph.

    Raises:
        ImageError: see `read_photograph`.
    """
    photograph = read_photograph(source, settings, channel_order=channel_order, notes=notes)
    return fit_to_input(photograph, settings)


def read_photograph(
    source: ImageSource,
    settings: Preprocessing,
    *,
    channel_order: ChannelOrder = "rgb",
    notes: list[str] | None = None,
    reserve: Callable[[int], None] | None = None,
    drawn: bool = False,
) -> Image.Image:
    """Decode a photograph for an artifact: with its white level, and of a size that it can resize.

    Args:
        source: See `read_image`.
        settings: The artifact's geometry and white level.
        channel_order: See `read_image`.
        notes: See `read_image`.
        reserve: Called with the bytes that the photograph needs, before its pixels are decoded;
            returns when they are free.
        drawn: Whether `reserve` counts the outputs that have the photograph's size, too.

    Raises:
        ImageError: see `read_image`; or the photograph is too elongated, which is found before its
            pixels are decoded.
    """

    def accept(where: str, height: int, width: int) -> None:
        resized = resized_size(height, width, settings)
        check_resize(where, (height, width), resized)
        if reserve is not None:
            reserve(scoring_bytes((height, width), resized, drawn=drawn))

    return read_image(
        source,
        channel_order=channel_order,
        white_level=settings.white_level,
        accept=accept,
        notes=notes,
    )


def fit_to_input(
    image: Image.Image, settings: Preprocessing
) -> tuple[NDArray[np.uint8], Placement]:
    """Resize and crop a decoded RGB image; the second half of `preprocess`.

    Raises:
        ImageError: the image is too elongated.
    """
    width, height = image.size
    place = place_input(height, width, settings)
    resized_height, resized_width = place.resized_height, place.resized_width
    check_resize("image", (height, width), (resized_height, resized_width))
    resample = _FILTERS[settings.filter]
    # FORMAT.md resizes the width first. Pillow 13 itself may begin with the height to save work,
    # which rounds differently. A side that keeps its length costs nothing.
    wide = image.resize((resized_width, height), resample)
    resized = wide.resize((resized_width, resized_height), resample)
    rows = slice(place.top, place.top + settings.height)
    columns = slice(place.left, place.left + settings.width)
    return np.ascontiguousarray(np.asarray(resized)[rows, columns]), place
