"""Photograph -> the network's input: decode, orient, 8-bit RGB, resize, crop.

path, PIL image or uint8 (H', W', 3) -> uint8 (H, W, 3) and its placement on the photograph.
One definition for building, evaluating and scoring; artifacts/FORMAT.md, section Preprocess,
defines it to the bit. The resize is Pillow's antialiased one.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from patchcore_runtime.errors import ImageError
from patchcore_runtime.files.regular import open_regular
from patchcore_runtime.image.jpeg_scans import MOST_SCANS, has_too_many_scans
from patchcore_runtime.manifest.manifest import Preprocessing

ImageSource = str | Path | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 2**26  # 8192 x 8192: refused beyond, before anything is decoded
MIN_SIDE_PX = 8
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap the sides
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# What Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    KeyError,
    IndexError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the input lies on the photograph; all lengths in pixels.

    The photograph (as shown, after EXIF orientation) was resized to `resized_*`, of which the
    input is the window with its corner at (`top`, `left`).
    """

    photo_height: int
    photo_width: int
    resized_height: int
    resized_width: int
    top: int
    left: int

    def uncropped(self, values: NDArray[Any]) -> NDArray[Any]:
        """Lay values of the input, (H, W), on the resized photograph; 0 where a crop hides it."""
        resized = np.zeros((self.resized_height, self.resized_width), values.dtype)
        height, width = values.shape
        resized[self.top : self.top + height, self.left : self.left + width] = values
        return resized


def read_image(source: ImageSource) -> Image.Image:
    """Decode to 8-bit RGB, oriented as shown.

    16-bit grey is scaled by 1/257 and rounded; transparency is flattened on black; of an
    animation the first frame counts.

    Raises:
        ImageError: unreadable, of another format, truncated, or of a refused size.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ImageError(
                f"array: expected uint8 (H, W, 3) RGB, got {source.dtype} {source.shape}"
            )
        _check_size("array", source.shape[1], source.shape[0])
        return Image.fromarray(source)
    if isinstance(source, Image.Image):
        _check_size("image", *source.size)
        return _decode(source, "image")
    path = Path(source)
    with _open(path) as image:
        return _decode(image, str(path))


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) as shown, after EXIF orientation, from what stands before the pixels.

    Raises:
        ImageError: see `read_image`.
    """
    with _open(path) as image:
        try:
            # Pillow decodes a whole PNG to look for EXIF behind its pixels; that rarity can wait.
            in_header = image.format != "PNG" or "exif" in image.info
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if in_header else 1
        except DECODER_ERRORS as error:
            raise ImageError(_unreadable(path, error)) from None
        width, height = image.size
        if isinstance(image, TiffImageFile):  # some Pillows have turned this size already
            width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return (width, height) if orientation in _SIDEWAYS else (height, width)


def preprocess(source: ImageSource, settings: Preprocessing) -> tuple[NDArray[np.uint8], Placement]:
    """Bring a photograph to the network's input.

    Args:
        source: Path, PIL image or uint8 (H', W', 3) RGB.
        settings: The artifact's geometry.

    Returns:
        The input, uint8 (H, W, 3), contiguous, and where it lies on the photograph.

    Raises:
        ImageError: see `read_image`.
    """
    return fit_to_input(read_image(source), settings)


def fit_to_input(
    image: Image.Image, settings: Preprocessing
) -> tuple[NDArray[np.uint8], Placement]:
    """Resize and crop a decoded RGB picture; the second half of `preprocess`."""
    width, height = image.size
    place = place_input(height, width, settings)
    resized_height, resized_width = place.resized_height, place.resized_width
    if max(resized_height, resized_width) ** 2 > MAX_PIXELS * 4:
        raise ImageError(f"image: {width} x {height} px is too elongated to resize")
    resample = _FILTERS[settings.filter]
    # The width first, as the format says: Pillow 13 alone takes the height first where that is less
    # work, which rounds differently. A side that keeps its length costs nothing.
    wide = image.resize((resized_width, height), resample)
    resized = wide.resize((resized_width, resized_height), resample)
    rows = slice(place.top, place.top + settings.height)
    columns = slice(place.left, place.left + settings.width)
    return np.ascontiguousarray(np.asarray(resized)[rows, columns]), place


def place_input(height: int, width: int, settings: Preprocessing) -> Placement:
    """Where the input lies on a photograph of that size, as shown."""
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
    """(height, width) of a photograph after the resize and before the crop."""
    if settings.resize == "stretch":
        return settings.resize_height, settings.resize_width
    side = settings.resize_height  # of the shorter side; the longer one is rounded down
    if height <= width:
        return side, side * width // height
    return side * height // width, side


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """A picture whose header is read and whose size is allowed; the file is closed at the end."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(_unreadable(path, error)) from None
    # Pillow gets the file and not its path: it would map an uncompressed grey TIFF of a known path
    # into memory, and takes rows for columns there when the orientation swaps the sides (13.0).
    with file:
        try:
            _refuse_endless_jpeg(file, path)
            image = Image.open(file, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise ImageError(_too_large(str(path))) from None
        except DECODER_ERRORS as error:
            raise ImageError(_unreadable(path, error)) from None
        with image:
            _check_size(str(path), *image.size)
            yield image


def _refuse_endless_jpeg(file: BinaryIO, path: Path) -> None:
    start = file.read(2)
    if start == b"\xff\xd8" and has_too_many_scans(start + file.read()):
        raise ImageError(
            f"{path}: expected at most {MOST_SCANS} scans in a JPEG, got more; save it as baseline"
        )
    file.seek(0)


def _decode(image: Image.Image, where: str) -> Image.Image:
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), where)
    except DECODER_ERRORS as error:
        raise ImageError(_unreadable(where, error)) from None


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit grey, or 32-bit holding 16-bit values
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(f"{where}: grey values outside 0..65535; save it as 16-bit grey")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError(f"{where}: expected 8- or 16-bit pixels, got floating point")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        flat = (rgba[..., :3] * rgba[..., 3:] + 127) // 255  # 255 * 255 + 127 fits in 16 bits
        return Image.fromarray(flat.astype(np.uint8))
    return image.convert("RGB")


def _check_size(where: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(where, f", got {width} x {height}"))
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            f"{where}: expected at least {MIN_SIDE_PX} x {MIN_SIDE_PX} px, got {width} x {height}"
        )


def _too_large(where: str, got: str = "") -> str:
    return f"{where}: expected at most {MAX_PIXELS} pixels{got}; scale it down or cut it into tiles"


def _unreadable(where: str | Path, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{where}: not a readable picture ({reason[:120]}); expected {', '.join(FORMATS)}"
