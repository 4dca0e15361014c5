"""Decoded pixels of any kind -> 8-bit RGB.

artifacts/FORMAT.md, section 8-bit RGB, defines each kind. Rows are converted in bands, so that no
copy of the whole image in a wider type exists.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from patchcore_runtime.errors import ImageError, ImageWarning
from patchcore_runtime.manifest.manifest import WHITE_16_BITS

_BAND_PX = 2**20
_SIGNED, _FLOAT = 2, 3  # values of TIFF's SampleFormat
_MIN_IS_WHITE = 0  # of TIFF's PhotometricInterpretation
_DARK_SHARE = 16  # an image that stays below this part of its range is named


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What grey and colour values above 8 bits mean."""

    white: int  # value of white of grey
    inverted: bool = False  # white is 0
    deep_color: bool = False  # RGB of 16 bits each, of which Pillow keeps the high bytes


def stored_depth(image: Image.Image, where: str, white_level: int) -> Depth:
    """Read from the header what the values of an image mean; call it before the pixels are loaded.

    Args:
        image: An opened image.
        where: The beginning of the message.
        white_level: Value of white in grey of 16 bits, unless the file declares fewer bits.

    Raises:
        ImageError: the values are signed or floating point, or the white level does not apply.
    """
    white, inverted = white_level, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        formats = image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        if _SIGNED in formats:
            raise ImageError(f"{where}: expected unsigned pixels, got signed integers; convert it")
        if _FLOAT in formats:
            raise ImageError(_no_floats(where))
        bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        if 8 < bits < 16:
            white = 2**bits - 1
        inverted = image.tag_v2.get(
            TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
        ) == _MIN_IS_WHITE and image.mode.startswith("I")
    # How Pillow will decode the pixels; empty for an image whose pixels are loaded.
    tiles = getattr(image, "tile", None) or ()
    deep = not image.mode.startswith("I") and any(";16" in str(tile) for tile in tiles)
    if deep and white_level != WHITE_16_BITS:
        raise ImageError(
            f"{where}: expected grey, because this artifact has the white level {white_level}, got "
            "colours of 16 bits; save it as 16-bit grey or as 8-bit RGB"
        )
    return Depth(white=white, inverted=inverted, deep_color=deep)


def to_rgb(image: Image.Image, depth: Depth, where: str, notes: list[str] | None) -> Image.Image:
    """Convert loaded pixels to 8-bit RGB.

    Args:
        image: The pixels as stored, not turned.
        depth: The meaning of its values.
        where: The beginning of messages.
        notes: Receives a line about an image that is almost black; None gives an `ImageWarning`.

    Raises:
        ImageError: grey values are beyond white, or values are floating point.
    """
    if image.mode.startswith("I"):  # 16-bit grey, or 32-bit holding 16-bit values
        return _from_grey(image, depth, where, notes)
    if image.mode == "F":
        raise ImageError(_no_floats(where))
    if image.mode == "RGB" and "transparency" not in image.info:
        rgb = image
    elif image.has_transparency_data:
        rgb = _on_black(image)
    else:
        rgb = image.convert("RGB")
    if depth.deep_color:
        largest = max(high for _, high in rgb.getextrema())  # type: ignore[misc]
        _name_dark(int(largest) * 256 + 255, depth.white, where, notes)
    return rgb


def grey_to_rgb(
    values: NDArray[np.uint16], white_level: int, where: str, notes: list[str] | None
) -> Image.Image:
    """Convert an array of 16-bit grey, (H, W); arguments and errors as in `to_rgb`."""
    return _from_grey(Image.fromarray(values), Depth(white=white_level), where, notes)


def _from_grey(
    image: Image.Image, depth: Depth, where: str, notes: list[str] | None
) -> Image.Image:
    white, largest = depth.white, 0

    def convert(band: Image.Image) -> NDArray[np.uint8]:
        nonlocal largest
        grey = np.asarray(band).astype(np.int64)
        if grey.min() < 0 or grey.max() > white:
            raise ImageError(
                f"{where}: grey values outside 0..{white}; save it as 16-bit grey"
                if white == WHITE_16_BITS
                else f"{where}: expected grey values up to the white level {white}, got "
                f"{grey.max()}; save it with the camera's own values"
            )
        if depth.inverted:
            grey = white - grey
        largest = max(largest, int(grey.max()))
        return ((grey * 255 + white // 2) // white).astype(np.uint8)

    rgb = _in_bands(image, convert)
    _name_dark(largest, white, where, notes)
    return rgb


def _on_black(image: Image.Image) -> Image.Image:
    """Flatten transparency on black; an image that is transparent everywhere counts as opaque."""
    visible = False

    def flatten(band: Image.Image) -> NDArray[np.uint8]:
        nonlocal visible
        rgba = np.asarray(band.convert("RGBA")).astype(np.uint16)
        visible = visible or bool(rgba[..., 3].any())
        # 255 * 255 + 127 fits in 16 bits.
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)

    flat = _in_bands(image, flatten)
    if visible:
        return flat
    return _in_bands(image, lambda band: np.asarray(band.convert("RGBA"))[..., :3])


def _in_bands(
    image: Image.Image, convert: Callable[[Image.Image], NDArray[np.uint8]]
) -> Image.Image:
    """Convert some rows at a time: grey (rows, W) or RGB (rows, W, 3) of a part of the image."""
    rgb = Image.new("RGB", image.size)
    width, height = image.size
    rows = max(1, _BAND_PX // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        rgb.paste(Image.fromarray(np.ascontiguousarray(convert(band))).convert("RGB"), (0, top))
    return rgb


def _name_dark(largest: int, white: int, where: str, notes: list[str] | None) -> None:
    """Name an image that uses less than a sixteenth of its range."""
    if largest * _DARK_SHARE > white:
        return
    line = (
        f"{where}: 16-bit values up to {largest} of {white} make an almost black image; the "
        "camera may have fewer bits: see `patchcore-build fit --white-level`"
    )
    if notes is None:
        warnings.warn(line, ImageWarning, stacklevel=2)
    else:
        notes.append(line)


def _no_floats(where: str) -> str:
    return f"{where}: expected 8- or 16-bit pixels, got floating point"
