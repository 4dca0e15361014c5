"""Rotated views of an image, from which a bank of few images learns more orientations.

uint8 (H, W, 3) -> the same image turned about its centre, in steps of 45 degrees. AnomalyDINO
(Damm et al. 2024, arXiv:2405.14529) adds these eight views of every reference image; the corners
are filled by reflection, as there.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ANGLES = (0, 45, 90, 135, 180, 225, 270, 315)  # degrees, counter-clockwise


def rotated(image: NDArray[np.uint8], angle: int) -> NDArray[np.uint8]:
    """Turn an image about its centre; the size stays, and the corners are reflected.

    Args:
        image: uint8 (H, W, 3).
        angle: One of `ANGLES`.
    """
    if angle == 0:
        return image
    height, width = image.shape[:2]
    reach = math.ceil(math.hypot(height, width)) + 2
    rows, columns = (-(-(reach - side) // 2) for side in (height, width))
    padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode="reflect")
    turned = Image.fromarray(padded).rotate(angle, Image.Resampling.BILINEAR)
    window = (columns, rows, columns + width, rows + height)
    return np.asarray(turned.crop(window), dtype=np.uint8)


def turn_photograph(photograph: Image.Image, angle: int) -> Image.Image:
    """Turn a photograph as `rotated` turns an input."""
    if angle == 0:
        return photograph
    return Image.fromarray(rotated(np.asarray(photograph.convert("RGB")), angle))


def view_name(name: str, angle: int) -> str:
    """The name of a view in the list of training images: `a.png@45`."""
    return f"{name}@{angle}" if angle else name
