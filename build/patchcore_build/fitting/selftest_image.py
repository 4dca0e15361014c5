"""A real training image with a drawn defect, and the artifact's expected result for it.

photograph + detector -> selftest.png, selftest_input.png, selftest_map.npy and a manifest entry.
`patchcore-runtime check` repeats this self-test on the machine where the artifact will be used.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from patchcore_runtime.artifact.folder import SELFTEST_IMAGE, SELFTEST_INPUT
from patchcore_runtime.detector import Detector
from patchcore_runtime.image.preprocess import fit_to_input, read_photograph
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.features import FeaturePrecision
from patchcore_runtime.manifest.manifest import Preprocessing, SelfTest
from patchcore_runtime.result import Result
from patchcore_runtime.selftest import layer_magnitudes, write_selftest_map

# Relative. CPUs round differently, and real faults are far larger. In int8 an activation may round
# to another of its 256 levels, which changes more than float32 rounding: the same int8 file without
# fused layers changed maps by up to 0.6 % and scores by up to 1.1 % (bottle, 17 images).
TOLERANCES: dict[FeaturePrecision, float] = {"float32": 1e-3, "int8": 2e-2}
_LARGEST_SIDE_PX = 1024
_CONTRASTS = (0.35, 0.6, 1.0)


def write_selftest(folder: Path, detector: Detector, photograph: Path) -> SelfTest:
    """Draw a defect on a photograph, score it, and store image, input, map and score.

    The defect is a dark and a bright bar across an eighth of the input. It lies at the centre, or
    at the nearest place where most of it is inside of the region of interest. Its contrast grows
    until the detector raises an alarm, or up to full contrast.

    Args:
        folder: The artifact that is being written.
        detector: Loaded from the same files.
        photograph: One of the training images; it is scaled down to 1,024 px or the input's size,
            whichever is larger.
    """
    size = detector.manifest.preprocess
    image = read_photograph(photograph, size, notes=[])  # `load_inputs` names dark images
    # An image smaller than the input would be blurred, and blur looks like a defect.
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
        layer_magnitudes=layer_magnitudes(detector.features(pixels)),
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
    """Top left corner of the square: central, or the nearest of those with most of the region."""
    top, left = (settings.height - side) // 2, (settings.width - side) // 2
    if region is None:
        return top, left
    sums = np.pad(region.pixels.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.nonzero(inside == inside.max())
    nearest = int(((y - top) ** 2 + (x - left) ** 2).argmin())
    return int(y[nearest]), int(x[nearest])
