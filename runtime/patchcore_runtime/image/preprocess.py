"""Photograph -> the network's input: decode, orient, 8-bit RGB, resize, crop.

path, PIL image or uint8 (H', W', 3) -> uint8 (H, W, 3) and its placement on the photograph.
Building, evaluating and scoring share this code; artifacts/FORMAT.md, section Preprocess, defines
it to the bit. The resize is Pillow's antialiased one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import MAX_PIXELS, ImageSource, read_image
from patchcore_runtime.manifest.manifest import Preprocessing

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The position of the input on the photograph; all lengths in pixels.

    The photograph (as shown, after EXIF orientation) was resized to `resized_*`. The input is the
    window of the result whose corner lies at (`top`, `left`).
    """

    photo_height: int
    photo_width: int
    resized_height: int
    resized_width: int
    top: int
    left: int

    def uncropped(self, values: NDArray[Any]) -> NDArray[Any]:
        """Place values of the input, (H, W), on the resized photograph; cropped parts are 0."""
        resized = np.zeros((self.resized_height, self.resized_width), values.dtype)
        height, width = values.shape
        resized[self.top : self.top + height, self.left : self.left + width] = values
        return resized


def preprocess(source: ImageSource, settings: Preprocessing) -> tuple[NDArray[np.uint8], Placement]:
    """Convert a photograph to the network's input.

    Args:
        source: Path, PIL image or uint8 (H', W', 3) RGB.
        settings: The artifact's geometry.

    Returns:
        The input, uint8 (H, W, 3), contiguous, and its position on the photograph.

    Raises:
        ImageError: see `read_image`.
    """
    return fit_to_input(read_image(source), settings)


def fit_to_input(
    image: Image.Image, settings: Preprocessing
) -> tuple[NDArray[np.uint8], Placement]:
    """Resize and crop a decoded RGB image; the second half of `preprocess`."""
    width, height = image.size
    place = place_input(height, width, settings)
    resized_height, resized_width = place.resized_height, place.resized_width
    if max(resized_height, resized_width) ** 2 > MAX_PIXELS * 4:
        raise ImageError(f"image: {width} x {height} px is too elongated to resize")
    resample = _FILTERS[settings.filter]
    # FORMAT.md resizes the width first. Pillow 13 itself may begin with the height to save work,
    # which rounds differently. A side that keeps its length costs nothing.
    wide = image.resize((resized_width, height), resample)
    resized = wide.resize((resized_width, resized_height), resample)
    rows = slice(place.top, place.top + settings.height)
    columns = slice(place.left, place.left + settings.width)
    return np.ascontiguousarray(np.asarray(resized)[rows, columns]), place


def place_input(height: int, width: int, settings: Preprocessing) -> Placement:
    """Compute the position of the input on a photograph of that size, as shown."""
    resized_height, resized_width = _resized_size(height, width, settings)
    return Placement(
        photo_height=height,
        photo_width=width,
        resized_height=resized_height,
        resized_width=resized_width,
        top=(resized_height - settings.height) // 2,
        left=(resized_width - settings.width) // 2,
    )


def _resized_size(height: int, width: int, settings: Preprocessing) -> tuple[int, int]:
    """Compute (height, width) of a photograph after the resize and before the crop."""
    if settings.resize == "stretch":
        return settings.resize_height, settings.resize_width
    side = settings.resize_height  # the shorter side; the longer one is rounded down
    if height <= width:
        return side, side * width // height
    return side * height // width, side
