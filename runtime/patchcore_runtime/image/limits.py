"""Bounds of an image, known from its header: sizes that are refused, and the memory of the rest.

(height, width) -> ImageError, or bytes. artifacts/FORMAT.md, sections Decode and Resize, defines
the bounds; both programs check them before they decode a pixel.
"""

from patchcore_runtime.errors import ImageError

MAX_PIXELS = 2**26  # 8192 x 8192
MIN_SIDE_PX = 8
MAX_RESIZED_SIDE_PX = 2**14

# The WEBP decoder's canvases need the most, then the pixels as stored and as RGB.
_DECODED_BYTES = 24
# Photograph, map, overlay and the two side by side, as arrays and as Pillow's images.
_DRAWN_BYTES = 64
# Pillow and NumPy hold 4 bytes for each pixel of a resize.
_RESIZED_BYTES = 4


def check_size(where: str, width: int, height: int) -> None:
    """Refuse an image with too many pixels, or with a side that is too short.

    Raises:
        ImageError: the message begins with `where`.
    """
    if width * height > MAX_PIXELS:
        raise ImageError(too_large(where, f", got {width} x {height}"))
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            f"{where}: expected at least {MIN_SIDE_PX} x {MIN_SIDE_PX} px, got {width} x {height}"
        )


def too_large(where: str, got: str = "") -> str:
    """Return the refusal of an image with too many pixels."""
    return f"{where}: expected at most {MAX_PIXELS} pixels{got}; scale it down or cut it into tiles"


def check_resize(where: str, size: tuple[int, int], resized: tuple[int, int]) -> None:
    """Refuse a resize whose result, or an image between its two steps, is too large.

    The step along the width gives (height, resized width). The map takes the way back, and then
    (resized height, width) lies between both steps.

    Args:
        where: The beginning of the message.
        size: (height, width) of the image.
        resized: (height, width) after the resize.

    Raises:
        ImageError: the image is too elongated.
    """
    (height, width), (resized_height, resized_width) = size, resized
    largest = max(height * resized_width, resized_height * width, resized_height * resized_width)
    if largest > MAX_PIXELS or max(resized) > MAX_RESIZED_SIDE_PX:
        raise ImageError(
            f"{where}: {width} x {height} px is too elongated to resize to {resized_width} x "
            f"{resized_height}; cut it into parts"
        )


def scoring_bytes(size: tuple[int, int], resized: tuple[int, int], *, drawn: bool) -> int:
    """Return an upper bound of the memory that an image needs, besides the network's.

    Args:
        size: (height, width) of the image.
        resized: (height, width) after the resize.
        drawn: Whether its map is also brought back to the size of the image, and drawn.
    """
    (height, width), (resized_height, resized_width) = size, resized
    needed = _DECODED_BYTES * height * width
    needed += _RESIZED_BYTES * (height + resized_height) * resized_width
    if drawn:
        needed += _DRAWN_BYTES * height * width + _RESIZED_BYTES * resized_height * width
    return needed
