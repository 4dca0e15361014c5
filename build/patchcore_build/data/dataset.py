"""Test images of a data set in any layout, and their masks in the input's geometry.

root, category -> test images; image -> its mask, bool (H, W). This module also gathers the names
that other rooms use: `layouts` detects the layout, and `image_folder` defines the listings.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.data.image_folder import GOOD, ImageFolder, TestImage, list_images
from patchcore_build.data.layouts import Dataset, open_dataset
from patchcore_build.errors import DatasetError
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.placement import Placement

__all__ = [
    "GOOD",
    "Dataset",
    "ImageFolder",
    "TestImage",
    "list_images",
    "list_test_images",
    "open_dataset",
    "read_mask",
]


def list_test_images(dataset: Path, category: str) -> list[TestImage]:
    """List the test images of a data set in any layout, sorted by name, defects with their masks.

    Raises:
        DatasetError: the folder is no data set, or has no such category or no test images.
    """
    return open_dataset(dataset).test_images(category)


def read_mask(image: TestImage, placement: Placement, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Load an image's mask and resize it to the input's geometry.

    Args:
        image: A test image; the mask of a good image is False everywhere.
        placement: Where the input lies on the photograph.
        shape: (H, W) of the input.

    Returns:
        bool (H, W), True on the defect; resized by nearest neighbour, which keeps two values.

    Raises:
        DatasetError: the mask is missing, unreadable, empty, or of another size than the image.
    """
    height, width = shape
    if not image.is_anomalous:
        return np.zeros((height, width), np.bool_)
    if image.mask is None:
        where = f" in {image.mask_source}" if image.mask_source else ""
        raise DatasetError(f"{image.path}: no mask found{where}")
    try:
        mask = read_image(image.mask).convert("L")
    except ImageError as error:
        raise DatasetError(str(error)) from None
    if mask.size != (placement.photo_width, placement.photo_height):
        raise DatasetError(
            f"{image.mask}: expected {placement.photo_width} x {placement.photo_height} px as its "
            f"image, got {mask.size[0]} x {mask.size[1]}"
        )
    largest = int(np.asarray(mask).max())
    if largest < image.mask_level:
        raise DatasetError(
            f"{image.mask}: expected a marked defect (at least {image.mask_level} of 255), got an "
            f"empty mask, its largest value is {largest}"
        )
    resized = mask.resize(
        (placement.resized_width, placement.resized_height), Image.Resampling.NEAREST
    )
    top, left = placement.top, placement.left
    return np.asarray(resized)[top : top + height, left : left + width] >= image.mask_level
