"""A real training image with a marked defect, and what the artifact must give for it.

photograph + detector -> selftest.png, selftest_input.png, selftest_map.npy and a manifest entry.
`patchcore-runtime check` runs it on arrival, on the machine that will do the work.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from patchcore_runtime.artifact.folder import SELFTEST_IMAGE, SELFTEST_INPUT
from patchcore_runtime.detector import Detector, Result
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import fit_to_input
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.manifest import FeaturePrecision, Preprocessing, SelfTest
from patchcore_runtime.selftest import layer_magnitudes, write_selftest_map

# Relative; other CPUs round differently, other faults are far larger. An activation that rounds to
# the next of its 256 levels moves more than float32 ever does: the same int8 file with its layers
# not fused gave maps up to 0.6 % and scores up to 1.1 % away (bottle, 17 images).
TOLERANCES: dict[FeaturePrecision, float] = {"float32": 1e-3, "int8": 2e-2}
_LARGEST_SIDE_PX = 1024
_CONTRASTS = (0.35, 0.6, 1.0)


def write_selftest(folder: Path, detector: Detector, photograph: Path) -> SelfTest:
    """Mark a defect on a photograph, score it, and store image, input, map and score.

    The defect is a dark and a bright bar across an eighth of the input around its centre, or where
    most of it lies in the region of interest; its contrast grows until the detector raises an
    alarm, or ends at full contrast.

    Args:
        folder: The artifact being written.
        detector: Loaded from the same files.
        photograph: One of the training images; scaled down beyond 1,024 px, or the input.
    """
    image = read_image(photograph)
    size = detector.manifest.preprocess
    # An image smaller than the input would be blurred, which is a defect of its own.
    largest = max(_LARGEST_SIDE_PX, size.resize_height, size.resize_width)
    image.thumbnail((largest, largest))
    for contrast in _CONTRASTS:
        marked, result, box = _score_marked(image, detector, contrast)
        if result.is_anomalous:
            break
    pixels, _ = fit_to_input(marked, detector.manifest.preprocess)
    marked.save(folder / SELFTEST_IMAGE)
    Image.fromarray(pixels).save(folder / SELFTEST_INPUT)
    write_selftest_map(folder, result)
    tolerance = TOLERANCES[detector.manifest.features.precision]
    return SelfTest(
        score=result.score,
        layer_magnitudes=layer_magnitudes(*detector.features(pixels)),
        defect_box=box,
        score_tolerance=tolerance,
        map_tolerance=tolerance,
    )


def _score_marked(
    image: Image.Image, detector: Detector, contrast: float
) -> tuple[Image.Image, Result, tuple[int, int, int, int]]:
    """The image with its defect, its result, and the defect's box in input pixels."""
    settings = detector.manifest.preprocess
    _, place = fit_to_input(image, settings)
    side = min(settings.height, settings.width) // 8
    top, left = _corner(settings, detector.region, side)
    box = (top, left, top + side, left + side)
    vertical = place.photo_height / place.resized_height
    horizontal = place.photo_width / place.resized_width
    marked = image.copy()
    middle = (box[0] + box[2]) / 2
    for upper, lower, target in ((box[0], middle, 0), (middle, box[2], 255)):
        corners = (
            int((place.left + box[1]) * horizontal),
            int((place.top + upper) * vertical),
            int((place.left + box[3]) * horizontal),
            int((place.top + lower) * vertical),
        )
        patch = np.asarray(image.crop(corners), dtype=np.float32)
        mixed = np.rint(patch + contrast * (target - patch)).astype(np.uint8)
        marked.paste(Image.fromarray(mixed), corners[:2])
    return marked, detector.predict(marked), box


def _corner(settings: Preprocessing, region: Region | None, side: int) -> tuple[int, int]:
    """Of a square: around the centre, or of those with most of the region the nearest to there."""
    top, left = (settings.height - side) // 2, (settings.width - side) // 2
    if region is None:
        return top, left
    sums = np.pad(region.pixels.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.nonzero(inside == inside.max())
    nearest = int(((y - top) ** 2 + (x - left) ** 2).argmin())
    return int(y[nearest]), int(x[nearest])
