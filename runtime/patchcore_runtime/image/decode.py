"""Photograph -> decoded image: 8-bit RGB, oriented as shown, of an allowed size.

path, PIL image or uint8 (H', W', 3) -> PIL image in RGB. artifacts/FORMAT.md, section Preprocess,
defines the accepted formats and what is refused.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from patchcore_runtime.errors import ImageError
from patchcore_runtime.files.regular import open_regular

ImageSource = str | Path | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 2**26  # 8192 x 8192; a larger image is refused before anything is decoded
MIN_SIDE_PX = 8
MOST_FILE_BYTES = 2**30  # far above any file of 2^26 pixels
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap the sides
# The exceptions that Pillow's decoders raise on corrupt files.
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

# A progressive JPEG may have any number of scans of ten bytes each, and each scan costs a pass over
# all pixels. Scans are counted by their SOS markers up to the end of the image (ITU T.81, annex B).
MOST_SCANS = 100  # encoders write one to about twenty

# Stuffed zeros, fill bytes and restarts are no markers: they occur inside a scan's data.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_END, _SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, 0xD8)


def read_image(source: ImageSource) -> Image.Image:
    """Decode an image to 8-bit RGB, oriented as shown.

    16-bit grey is scaled by 1/257 and rounded. Transparency is flattened on black. An animation is
    represented by its first frame.

    Raises:
        ImageError: the image is unreadable, of another format, truncated, or of a refused size.
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


def image_size(path: Path) -> tuple[int, int]:
    """Read (height, width) as shown, after EXIF orientation, from the data before the pixels.

    Raises:
        ImageError: see `read_image`.
    """
    with _open(path) as image:
        try:
            # Pillow would decode a whole PNG to find EXIF after its pixels; this case is too rare.
            in_header = image.format != "PNG" or "exif" in image.info
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if in_header else 1
        except DECODER_ERRORS as error:
            raise ImageError(_unreadable(path, error)) from None
        width, height = image.size
        if isinstance(
            image, TiffImageFile
        ):  # some versions of Pillow have turned this size already
            width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return (width, height) if orientation in _SIDEWAYS else (height, width)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image, read its header and check its size; the file is closed at the end."""
    try:
        file = open_regular(path, limit=MOST_FILE_BYTES)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(_unreadable(path, error)) from None
    # Pillow gets the file instead of its path. With a path it maps an uncompressed grey TIFF into
    # memory, and then confuses rows and columns if the orientation swaps the sides (Pillow 13.0).
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
    return f"{where}: not a readable image ({reason[:120]}); expected {', '.join(FORMATS)}"


def has_too_many_scans(content: bytes) -> bool:
    """Return whether a JPEG has more than `MOST_SCANS` scans; False for any other kind of file."""
    if content[:2] != b"\xff\xd8":
        return False
    place, scans = 2, 0
    while found := _MARKER.search(content, place):
        kind, place = found[1][0], found.end()
        if kind == _END:
            break
        scans += kind == _SCAN
        if scans > MOST_SCANS:
            return True
        if kind not in _WITHOUT_LENGTH:
            place += int.from_bytes(content[place : place + 2], "big")
    return False
