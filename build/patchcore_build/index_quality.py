"""What an approximate index costs: recall, change of scores and time, against the exact search.

pictures through both indexes of one artifact -> Quality. Pictures are the user's own, or made from
the artifact's self-test picture: that is a training picture, so figures from it alone flatter. A
walk that goes astray ends at a farther row, never at a nearer one: distances are only ever raised.
"""

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.artifact import FEATURES_ONNX, Artifact
from patchcore_runtime.index import NearestIndex
from patchcore_runtime.patch_scorer import PatchScorer
from patchcore_runtime.session import open_session
from patchcore_runtime.tiling import TileGrid

_TIE = 1e-6  # relative; of two rows as near as that either is the nearest
_VARIANTS = 16  # pictures without a drawn defect, and as many with one
_LARGEST_SHIFT_PX = 12


@dataclass(frozen=True, kw_only=True)
class Quality:
    """An approximate index beside the exact one, over some pictures."""

    pictures: int
    patches: int
    recall: float  # share of patches whose row is the nearest, or as near
    largest_score_change: float  # relative, of image scores
    mean_score_change: float
    exact_ms: float  # search alone, median of the pictures
    approximate_ms: float


def measure_index(
    artifact: Artifact,
    exact: NearestIndex,
    approximate: NearestIndex,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    threads: int | None = None,
) -> Quality:
    """Search every picture with both.

    Args:
        artifact: Gives the network, the bank and the scoring rule.
        exact: The reference.
        approximate: What is measured.
        pictures: Inputs, uint8 (H, W, 3) each, at least one; taken one by one.
        threads: Of the network.
    """
    network = open_session(artifact.path(FEATURES_ONNX), threads=threads)
    manifest = artifact.manifest
    size, region = manifest.preprocess, artifact.region
    grid = TileGrid(manifest.tiling, size.height, size.width)
    counted = ... if region is None else region.patches
    indexes = [_Timed(exact), _Timed(approximate)]
    scorers = [
        PatchScorer(
            artifact.memory_bank,
            index,
            manifest.features,
            manifest.scoring,
            grid=grid,
            region=region,
        )
        for index in indexes
    ]
    found = patches = 0
    changes = []
    for pixels in pictures:
        tiles = [
            network.run(["layer2", "layer3"], {"images": tile[None]}) for tile in grid.cut(pixels)
        ]
        reference, other = (scorer.score_tiles(tiles) for scorer in scorers)
        near = other.distances <= reference.distances * (1 + _TIE)
        right = ((reference.rows == other.rows) | near)[counted]
        found += int(right.sum())
        patches += right.size
        gap = abs(other.score - reference.score)
        changes.append(gap / max(abs(reference.score), float(np.finfo(np.float32).tiny)))
    return Quality(
        pictures=len(changes),
        patches=patches,
        recall=found / patches,
        largest_score_change=max(changes),
        mean_score_change=statistics.fmean(changes),
        exact_ms=indexes[0].median_ms(),
        approximate_ms=indexes[1].median_ms(),
    )


class _Timed:
    """An index that remembers how long it took."""

    def __init__(self, index: NearestIndex) -> None:
        self._index = index
        self._seconds: list[float] = []

    def nearest(
        self, layer2: NDArray[np.float32], layer3: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        start = time.perf_counter()
        answer = self._index.nearest(layer2, layer3)
        self._seconds.append(time.perf_counter() - start)
        return answer

    def median_ms(self) -> float:
        """Median without the first search, which is slower, where there are others."""
        return 1e3 * statistics.median(self._seconds[1:] or self._seconds)


def made_pictures(
    pixels: NDArray[np.uint8], box: tuple[int, int, int, int], *, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """The self-test input and 32 pictures made of it: held-out-like ones and drawn defects.

    The marked defect is covered by what stands beside it; then the picture is shifted, its light
    changed and noise added. Every other one gets a defect of one of four kinds: walks go astray
    where patches are far from every row, and there they must be measured.

    Args:
        pixels: The self-test's input, uint8 (H, W, 3).
        box: top, left, bottom, right of its defect.
        seed: Of everything random.
    """
    yield pixels
    random = np.random.default_rng(seed)
    covered = _covered(pixels, box)
    for number in range(_VARIANTS):
        yield _like_held_out(covered, random)
        yield _with_defect(_like_held_out(covered, random), number % 4, random)


def _covered(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    top, left, bottom, right = box
    width = right - left
    beside = left - width if left >= width else right
    covered: NDArray[np.uint8] = pixels.copy()
    source = pixels[top:bottom, beside : beside + width]
    covered[top:bottom, left : left + source.shape[1]] = source
    return covered


def _like_held_out(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Shifted, its border repeated; a gain of 0.9 to 1.1; noise of 1 to 6 grey levels."""
    down, right = random.integers(-_LARGEST_SHIFT_PX, _LARGEST_SHIFT_PX + 1, 2)
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    noise = random.normal(0, random.uniform(1, 6), pixels.shape)
    lit = pixels[rows[:, None], columns] * random.uniform(0.9, 1.1) + noise
    rounded: NDArray[np.uint8] = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return rounded


def _with_defect(
    pixels: NDArray[np.uint8], kind: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    """A box, each side 4 px to a third of the picture's, filled: grey, noise, inverse, turned."""
    height, width = pixels.shape[:2]
    tall, wide = (int(random.integers(4, side // 3 + 1)) for side in (height, width))
    top = int(random.integers(0, height - tall + 1))
    left = int(random.integers(0, width - wide + 1))
    marked: NDArray[np.uint8] = pixels.copy()
    box = marked[top : top + tall, left : left + wide]
    if kind == 0:
        box[:] = random.integers(0, 256, 3)
    elif kind == 1:
        box[:] = random.integers(0, 256, box.shape)
    elif kind == 2:
        box[:] = 255 - box
    else:  # a piece from anywhere, upside down
        y = int(random.integers(0, height - tall + 1))
        x = int(random.integers(0, width - wide + 1))
        box[:] = pixels[y : y + tall, x : x + wide][::-1, ::-1]
    return marked
