"""Any source of an image -> decoded image: 8-bit RGB, oriented as shown, of an allowed size.

This is the only way in: learning, scoring, monitoring and evaluating read images here.
artifacts/FORMAT.md, section Preprocess, defines the accepted formats and what is refused.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.errors import ImageError
from patchcore_runtime.files.names import shown_path
from patchcore_runtime.files.regular import open_regular
from patchcore_runtime.image.jpeg_scans import refuse_endless_jpeg
from patchcore_runtime.image.limits import check_size, too_large
from patchcore_runtime.image.orientation import orientation_of, shown_size, turned
from patchcore_runtime.image.png_chunks import SIGNATURE, PngView, readable_png
from patchcore_runtime.image.to_rgb import grey_to_rgb, stored_depth, to_rgb
from patchcore_runtime.manifest.manifest import WHITE_16_BITS

ImageSource = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[np.uint8]
    | NDArray[np.uint16]
)
ChannelOrder = Literal["rgb", "bgr"]

MOST_FILE_BYTES = 2**30  # far above any file of 2^26 pixels
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_PNG_SIZE_END = 24  # of width and height in a PNG's header
# The exceptions that Pillow's decoders raise on corrupt files.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    AssertionError,
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    KeyError,
    IndexError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_image(
    source: ImageSource,
    *,
    channel_order: ChannelOrder = "rgb",
    white_level: int = WHITE_16_BITS,
    accept: Callable[[str, int, int], None] | None = None,
    notes: list[str] | None = None,
) -> Image.Image:
    """Decode an image to 8-bit RGB, oriented as shown.

    Args:
        source: Path, the bytes of a file, a file opened for reading bytes, a PIL image, or an
            array: uint8 (H, W, 3), and grey as uint8 or uint16, (H, W) or (H, W, 1).
        channel_order: Order of an array's three channels; OpenCV's is `bgr`.
        white_level: Value of white in grey of 16 bits, unless a TIFF declares fewer bits.
        accept: Called with the beginning of a message, height and width as shown, before the
            pixels are decoded; raises ImageError for a size that the caller cannot use.
        notes: Receives a line about an image that is almost black; None gives an `ImageWarning`.

    Raises:
        ImageError: the image is unreadable, of another format, truncated, or of a refused size.
    """
    if channel_order not in get_args(ChannelOrder):
        raise ImageError(f'channel_order: expected "rgb" or "bgr", got {channel_order!r:.40}')
    if isinstance(source, np.ndarray):
        return _from_array(source, channel_order, white_level, accept, notes)
    if channel_order != "rgb":
        raise ImageError(
            f'channel_order: "{channel_order}" applies to arrays only; a file says its own order'
        )
    if isinstance(source, Image.Image):
        check_size("image", *source.size)
        opened = _Opened(image=source, where="image")
        return turned(*_decoded(opened, white_level, accept, notes))
    with _opened(source) as opened:
        rgb, orientation = _decoded(opened, white_level, accept, notes)
    del opened  # the pixels as stored, which a turn does not need
    return turned(rgb, orientation)


def image_size(source: ImageSource) -> tuple[int, int]:
    """Read (height, width) as shown, after EXIF orientation, from the data before the pixels.

    Raises:
        ImageError: see `read_image`.
    """
    if isinstance(source, np.ndarray):
        return source.shape[0], source.shape[1]
    if isinstance(source, Image.Image):
        return shown_size(source)
    with _opened(source) as opened:
        try:
            return shown_size(opened.image)
        except DECODER_ERRORS as error:
            raise ImageError(_unreadable(opened.where, error)) from None


def largest_grey(source: ImageSource) -> int:
    """Return the largest value of a grey image of 16 bits; 0 for every other kind of image.

    Raises:
        ImageError: see `read_image`.
    """
    with _opened(source) as opened:
        image, where = opened.image, opened.where
        try:
            depth = stored_depth(image, where, WHITE_16_BITS)
            if not image.mode.startswith("I") or depth.white != WHITE_16_BITS:
                return 0
            image.load()
            low, high = image.getextrema()
            return int(depth.white - low if depth.inverted else high)  # type: ignore[operator,arg-type]
        except DECODER_ERRORS as error:
            raise ImageError(_unreadable(where, error)) from None


def _from_array(
    array: NDArray[np.generic],
    channel_order: ChannelOrder,
    white_level: int,
    accept: Callable[[str, int, int], None] | None,
    notes: list[str] | None,
) -> Image.Image:
    is_grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    is_color = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not is_color and not (is_grey and array.dtype in (np.uint8, np.uint16)):
        raise ImageError(
            "array: expected uint8 (H, W, 3), or grey as uint8 or uint16, (H, W) or (H, W, 1), got "
            f"{array.dtype} {array.shape}"
        )
    height, width = array.shape[:2]
    check_size("array", width, height)
    if accept is not None:
        accept("array", height, width)
    if is_grey:
        grey = np.ascontiguousarray(array.reshape(height, width))
        if grey.dtype == np.uint16:
            return grey_to_rgb(grey, white_level, "array", notes)
        return Image.fromarray(grey).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(array[..., :: -1 if channel_order == "bgr" else 1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    """An image whose header was read, its name for messages, and what Pillow sees of a PNG."""

    image: Image.Image
    where: str
    view: PngView | None = None


@contextmanager
def _opened(source: object) -> Iterator[_Opened]:
    """Open an image, read its header and check its size."""
    file, where = _file_of(source)
    # Pillow gets the file instead of its path. With a path it maps an uncompressed grey TIFF into
    # memory, and then confuses rows and columns if the orientation swaps the sides (Pillow 13.0).
    with file:
        try:
            refuse_endless_jpeg(file, where)
            opened = _open_image(file, where)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise ImageError(too_large(where)) from None
        except DECODER_ERRORS as error:
            raise ImageError(_unreadable(where, error)) from None
        with opened.image:
            check_size(where, *opened.image.size)
            yield opened


def _open_image(file: BinaryIO, where: str) -> _Opened:
    start = file.read(_PNG_SIZE_END)
    file.seek(0)
    if not start.startswith(SIGNATURE):
        return _Opened(image=Image.open(file, formats=FORMATS), where=where)
    if len(start) == _PNG_SIZE_END and start[12:16] == b"IHDR":
        check_size(where, *struct.unpack(">II", start[16:]))
    view = readable_png(file)
    image = Image.open(io.BufferedReader(view), formats=("PNG",))
    return _Opened(image=image, where=where, view=view)


def _file_of(source: object) -> tuple[BinaryIO, str]:
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), "bytes"
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        where = shown_path(path)
        try:
            return open_regular(path, limit=MOST_FILE_BYTES), where
        except FileNotFoundError:
            raise ImageError(f"{where}: no such file") from None
        except (OSError, ValueError) as error:
            raise ImageError(_unreadable(where, error)) from None
    read = getattr(source, "read", None)
    content = read() if callable(read) else None
    if not isinstance(content, bytes):
        raise ImageError(
            "image: expected a path, bytes, a file opened for reading bytes, a PIL image or an "
            f"array, got {type(source).__name__}"
        )
    return io.BytesIO(content), "file"


def _decoded(
    opened: _Opened,
    white_level: int,
    accept: Callable[[str, int, int], None] | None,
    notes: list[str] | None,
) -> tuple[Image.Image, int]:
    """Decode the pixels of an opened image; return them as RGB, and how they are to be turned."""
    image, where = opened.image, opened.where
    try:
        if accept is not None:
            accept(where, *shown_size(image))
        depth = stored_depth(image, where, white_level)
        image.load()
        if opened.view is not None:
            opened.view.refuse_missing_rows(image)
        orientation = orientation_of(image)
        return to_rgb(image, depth, where, notes), orientation
    except DECODER_ERRORS as error:
        raise ImageError(_unreadable(where, error)) from None


def _unreadable(where: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{where}: not a readable image ({reason[:120]}); expected {', '.join(FORMATS)}"
