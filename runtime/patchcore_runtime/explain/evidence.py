"""Explain an image score: the strangest patches, each with its nearest normal patch.

patch distances and nearest rows (h, w) -> boxes on the photograph and on training images.
`origins` in memory_bank.bin gives the training image and the cell of every bank row.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.artifact.folder import MEMORY_BANK, Artifact
from patchcore_runtime.bank.memory_bank import UNKNOWN_ORIGIN
from patchcore_runtime.errors import ArtifactError, SettingError
from patchcore_runtime.explain.regions import Box, find_regions
from patchcore_runtime.image.placement import Placement
from patchcore_runtime.manifest.manifest import Manifest

_APART = 5  # smallest distance of two patches in cells: two cells lie between their boxes


@dataclass(frozen=True, kw_only=True)
class PatchEvidence:
    """One strange patch; boxes are top, left, bottom, right of the 3 x 3 cells a patch averages.

    `normal_box` is in input pixels (H, W), because the size of a training photograph is known only
    if thumbnails are kept.
    """

    distance: float  # Euclidean, to the nearest normal patch
    threshold: float  # the pixel threshold as a distance
    patch: tuple[int, int]  # (y, x) on the patch grid
    box: Box  # in pixels of the photograph
    row: int  # of the memory bank
    normal_number: int  # number of the training image
    normal_image: str  # name of the training image
    normal_patch: tuple[int, int]  # (y, x) on the patch grid
    normal_box: Box  # in input pixels of that image


def explain_patches(  # noqa: PLR0913 - the parts of a result, and the request
    artifact: Artifact,
    distances: NDArray[np.float32],
    nearest_rows: NDArray[np.int64],
    placement: Placement,
    *,
    counts: NDArray[np.bool_] | None,
    threshold: float,
    top: int,
) -> tuple[PatchEvidence, ...]:
    """Find the origins of the nearest rows of the strangest patches.

    Args:
        artifact: The artifact whose bank was searched.
        distances: Distance of each patch to the bank, (h, w).
        nearest_rows: Nearest row of each patch, (h, w).
        placement: Position of the input on the photograph.
        counts: The patches of the region of interest, (h, w); None: all.
        threshold: Patches with a larger distance form regions.
        top: Number of patches, at least 1.

    Returns:
        At most `top` patches, the strangest first.

    Raises:
        ArtifactError: the origin of a row is not an image of the manifest.
        SettingError: `top` is below 1, or the image behind a row is not known, as in an imported
            artifact.
    """
    if top < 1:
        raise SettingError(f"top: expected 1 or more, got {top}")
    manifest = artifact.manifest
    names = manifest.training.images
    evidence = []
    for y, x in choose_patches(distances, threshold, top, counts=counts):
        row = int(nearest_rows[y, x])
        number, *cell = (int(value) for value in artifact.memory_bank.origins[row])
        if number == UNKNOWN_ORIGIN:
            raise SettingError(
                f"{artifact.folder}: explanation: expected a bank that knows the images of its "
                "rows, got an imported one; look at the anomaly map instead"
            )
        if not 0 <= number < len(names):
            raise ArtifactError(
                f"{artifact.path(MEMORY_BANK)}: origins: row {row}: expected an image below "
                f"{len(names)}, got {number}; copy the folder again"
            )
        evidence.append(
            PatchEvidence(
                distance=float(distances[y, x]),
                threshold=threshold,
                patch=(y, x),
                box=on_photograph(patch_box((y, x), manifest), placement),
                row=row,
                normal_number=number,
                normal_image=names[number],
                normal_patch=(cell[0], cell[1]),
                normal_box=patch_box((cell[0], cell[1]), manifest),
            )
        )
    return tuple(evidence)


def choose_patches(
    distances: NDArray[np.float32],
    threshold: float,
    top: int,
    *,
    counts: NDArray[np.bool_] | None = None,
) -> list[tuple[int, int]]:
    """Pick the strangest patches of different places, the strangest first.

    The farthest patch of each region above the threshold is picked first. If fewer regions than
    `top` exist, the farthest other patches at least 5 cells from all picked ones follow.

    Args:
        distances: (h, w), 0 for patches that do not count.
        threshold: Patches with a larger distance form regions.
        top: Number of patches.
        counts: The patches that may be picked, (h, w); None: all.

    Returns:
        (y, x) of at most `top` patches, distances descending.
    """
    picked = [region.peak for region in find_regions(distances, threshold)][:top]
    left = distances.astype(np.float64)
    if counts is not None:
        left[~counts] = -np.inf
    for y, x in picked:
        _take_out(left, y, x)
    while len(picked) < top and np.isfinite(left.max()):
        y, x = divmod(int(left.argmax()), left.shape[1])
        picked.append((y, x))
        _take_out(left, y, x)
    return sorted(picked, key=lambda place: -distances[place])


def _take_out(left: NDArray[np.float64], y: int, x: int) -> None:
    reach = _APART - 1
    left[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = -np.inf


def patch_box(patch: tuple[int, int], manifest: Manifest) -> Box:
    """Return the box of the 3 x 3 cells around a patch, in input pixels, clipped to the input."""
    (y, x), size, side = patch, manifest.preprocess, manifest.features.patch_px
    return (
        max(0, (y - 1) * side),
        max(0, (x - 1) * side),
        min(size.height, (y + 2) * side),
        min(size.width, (x + 2) * side),
    )


def on_photograph(box: Box, placement: Placement) -> Box:
    """Convert a box of the input to pixels of the photograph, enlarged to whole pixels."""
    vertical = placement.photo_height / placement.resized_height
    horizontal = placement.photo_width / placement.resized_width
    top, left, bottom, right = box
    return (
        math.floor((placement.top + top) * vertical),
        math.floor((placement.left + left) * horizontal),
        min(placement.photo_height, math.ceil((placement.top + bottom) * vertical)),
        min(placement.photo_width, math.ceil((placement.left + right) * horizontal)),
    )
