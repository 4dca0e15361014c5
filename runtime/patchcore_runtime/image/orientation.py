"""Orientation: how an image as stored is turned or mirrored to be shown (EXIF tag 0x0112).

image -> value 1 to 8, or the image as shown. A damaged EXIF block counts as orientation 1.
"""

import struct

from PIL import Image, TiffImagePlugin

_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # they swap the sides
# The exceptions that Pillow raises on damaged metadata.
_DAMAGES = (
    ValueError, TypeError, KeyError, IndexError, OverflowError, SyntaxError, EOFError, OSError,
    AttributeError, ZeroDivisionError, struct.error,
)  # fmt: skip


def orientation_of(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, of an image as it is in memory.

    Pillow turns a TIFF itself while it decodes the pixels; afterwards the value is 1.
    """
    try:
        value = _exif_of(image).get(_TAG, 1)
        return value if value in _TURNS else 1
    except _DAMAGES:
        return 1


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) as shown, of an image whose pixels are not decoded yet."""
    width, height = image.size
    # Pillow would decode a whole PNG to find EXIF after its pixels; this case is too rare.
    in_header = image.format != "PNG" or "exif" in image.info
    orientation = orientation_of(image) if in_header else 1
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # some versions of Pillow turn this size
        width = image.tag_v2[TiffImagePlugin.IMAGEWIDTH]
        height = image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return (width, height) if orientation in _SIDEWAYS else (height, width)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn or mirror pixels as stored, so that they are as shown."""
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def _exif_of(image: Image.Image) -> Image.Exif:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.getexif()
    # Pillow reads EXIF once and keeps what it has, even after an error. A second image with the
    # same metadata is read afresh, so every caller gets the same answer.
    probe = Image.new("1", (1, 1))
    probe.info = image.info
    return probe.getexif()
