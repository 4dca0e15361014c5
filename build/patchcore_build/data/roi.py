"""`--roi` of `fit`: a mask image, or a polygon on the photograph -> the region of interest.

Corners of a polygon are fractions of the photograph's width and height, 0 to 1, and so apply to
photographs of any size. artifacts/FORMAT.md, section Region of interest, defines the rest.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.artifact.folder import ROI
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import image_size
from patchcore_runtime.image.placement import place_input
from patchcore_runtime.image.region import Region, read_region
from patchcore_runtime.manifest.manifest import Preprocessing, RegionOfInterest

_NUMBER = r"[-+]?[0-9]*\.?[0-9]+"
_POLYGON = re.compile(rf"\s*{_NUMBER},{_NUMBER}(\s+{_NUMBER},{_NUMBER})*\s*")
_FEWEST_CORNERS = 3

Corners = NDArray[np.float64]  # (n, 2), x and y


def plan_region(
    roi: str | Path | None,
    settings: Preprocessing,
    sizes: Sequence[tuple[int, int]],
    *,
    patch_px: int,
) -> tuple[RegionOfInterest, Region | None]:
    """Compute the manifest's entry, and the region itself; None if the whole input counts.

    Args:
        roi: Path of a mask image, or a polygon `x,y x,y x,y`.
        settings: The input geometry.
        sizes: (height, width) of the training images. A mask must have the size of the image with
            the median aspect ratio.
        patch_px: Side of a patch.

    Raises:
        ImageError: the mask or the polygon is invalid, or marks nothing.
    """
    ordered = sorted(sizes, key=lambda size: (size[1] / size[0], size))
    height, width = ordered[len(ordered) // 2]
    kind: RegionOfInterest = RegionOfInterest(
        kind="whole" if roi is None else "mask", photo_height=height, photo_width=width
    )
    if roi is None:
        return kind, None
    if isinstance(roi, str) and _POLYGON.fullmatch(roi):
        return kind, _polygon_region(roi, settings, (height, width), patch_px)
    return kind, read_region(roi, settings, kind, patch_px=patch_px)


def check_roi(roi: str | Path) -> None:
    """Check before long work that a region can be read; its size is compared in `plan_region`.

    Raises:
        ImageError: the polygon is no polygon, or the mask is no readable image.
    """
    if isinstance(roi, str) and _POLYGON.fullmatch(roi):
        _corners(roi)
    else:
        image_size(Path(roi))


def write_region(folder: Path, region: Region | None) -> None:
    """Write roi.png if there is a region."""
    if region is not None:
        Image.fromarray(region.pixels.astype(np.uint8) * 255).save(folder / ROI)


def _polygon_region(
    text: str, settings: Preprocessing, photo: tuple[int, int], patch_px: int
) -> Region:
    corners = _corners(text)
    place = place_input(*photo, settings)
    y = (place.top + np.arange(settings.height) + 0.5) / place.resized_height
    x = (place.left + np.arange(settings.width) + 0.5) / place.resized_width
    try:
        return Region.of(fill_polygon(corners, y[:, None], x), patch_px)
    except ValueError as error:
        raise ImageError(f"--roi {text!r}: {error}") from None


def _corners(text: str) -> Corners:
    corners = np.array([[float(side) for side in pair.split(",")] for pair in text.split()])
    if len(corners) < _FEWEST_CORNERS or corners.min() < 0 or corners.max() > 1:
        raise ImageError(
            f"--roi {text!r}: expected three or more corners `x,y` in fractions of the "
            "photograph's width and height, 0 to 1, or the path of a mask"
        )
    return corners


def fill_polygon(corners: Corners, y: Corners, x: Corners) -> NDArray[np.bool_]:
    """Compute which points of a grid lie inside a polygon, by the even-odd rule.

    Args:
        corners: x and y of each corner, (n, 2); the last is joined to the first.
        y: Coordinates of the grid's rows, (H, 1).
        x: Coordinates of the grid's columns, (W,).

    Returns:
        bool (H, W).
    """
    inside = np.zeros((len(y), len(x)), np.bool_)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        crossed = (y1 > y) != (y2 > y)
        inside ^= crossed & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside
