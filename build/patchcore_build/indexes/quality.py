"""Measure an index against the exact search: recall, change of scores, and time.

images + several indexes of one artifact, in turns -> Quality of each. If an approximate search
misses the nearest row, it returns a farther one, so distances only ever increase.
"""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_build.indexes.images import made_images, with_drawn_defects
from patchcore_runtime.artifact.folder import FEATURES_ONNX, SELFTEST_INPUT, Artifact
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.engine.session import open_network
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.scoring.patch_scorer import PatchScorer
from patchcore_runtime.search.exact import Layers, NearestIndex

_TIE = 1e-6  # relative; rows whose distances differ by less are equally near
_SEED = 0  # of the made images and the drawn defects


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Measurements of an index against the reference, over some images."""

    images: int
    patches: int
    recall: float  # share of patches with the nearest row, or an equally near one
    largest_score_change: float  # relative, of image scores
    mean_score_change: float
    exact_ms: float  # search alone, median of the images
    approximate_ms: float
    scoring_ms: float  # search, image score and map, median of the images


class MeasuredIndex:
    """An index that scores images like a detector, and records its results and times.

    Args:
        bank: The bank of the index: the reference's bank, or its first rows.
        index: The index.
        artifact: Gives settings and region of interest.
    """

    def __init__(self, bank: MemoryBank, index: NearestIndex, artifact: Artifact) -> None:
        manifest = artifact.manifest
        self._index = index
        self._scorer = PatchScorer(
            bank,
            self,
            manifest.layout,
            manifest.scoring,
            grid=manifest.grid,
            region=artifact.region,
        )
        self._searched_ms = 0.0  # of the current image
        self.scores: list[float] = []
        self.search_ms: list[float] = []
        self.scoring_ms: list[float] = []
        self.found = self.patches = 0

    def nearest(self, layers: Layers) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search, and add the time to that of the current image."""
        start = time.perf_counter()
        answer = self._index.nearest(layers)
        self._searched_ms += 1e3 * (time.perf_counter() - start)
        return answer

    def score(self, layers: Layers) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Score one image, and return distances and rows of the whole input's patches."""
        self._searched_ms = 0.0
        start = time.perf_counter()
        result = self._scorer.score(layers)
        self.scoring_ms.append(1e3 * (time.perf_counter() - start))
        self.search_ms.append(self._searched_ms)
        self.scores.append(result.score)
        return result.distances, result.rows

    def quality(self, reference: "MeasuredIndex") -> Quality:
        """Compare this index with the reference of the same measurement."""
        changes = [
            abs(own - exact) / max(abs(exact), float(np.finfo(np.float32).tiny))
            for own, exact in zip(self.scores, reference.scores, strict=True)
        ]
        return Quality(
            images=len(changes),
            patches=self.patches,
            recall=self.found / self.patches,
            largest_score_change=max(changes),
            mean_score_change=statistics.fmean(changes),
            exact_ms=settled_median(reference.search_ms),
            approximate_ms=settled_median(self.search_ms),
            scoring_ms=settled_median(self.scoring_ms),
        )


def measure_indexes(
    artifact: Artifact,
    images: Iterable[NDArray[np.uint8]],
    indexes: Sequence[MeasuredIndex],
    *,
    threads: int | None = None,
) -> list[float]:
    """Score every image with every index; another index begins with each image.

    Args:
        artifact: Gives the network.
        images: Inputs, uint8 (H, W, 3) each, at least one; taken one by one.
        indexes: The first is the reference; all of them record their results.
        threads: Threads of the network.

    Returns:
        Milliseconds of the network for each image.
    """
    network = open_network(artifact.path(FEATURES_ONNX), threads=threads)
    grid, region = artifact.manifest.grid, artifact.region
    counts = ... if region is None else region.patches
    network_ms = []
    for number, pixels in enumerate(images):
        start = time.perf_counter()
        tiles = [network.run(network.outputs, {"images": tile[None]}) for tile in grid.cut(pixels)]
        layers = [np.concatenate(layer) for layer in zip(*tiles, strict=True)]
        network_ms.append(1e3 * (time.perf_counter() - start))
        first = number % len(indexes)
        turn = [*indexes[first:], *indexes[:first]]
        found = {index: index.score(layers) for index in turn}
        nearest, rows = found[indexes[0]]
        for index, (distances, own) in found.items():
            near = ((own == rows) | (distances <= nearest * (1 + _TIE)))[counts]
            index.found += int(near.sum())
            index.patches += near.size
    return network_ms


def settled_median(times: Sequence[float]) -> float:
    """The median without the first time, which is slower; a single time stays."""
    return statistics.median(times[1:] or times)


def images_for(artifact: Artifact, given: Sequence[str]) -> tuple[Iterable[NDArray[np.uint8]], str]:
    """Inputs to measure on, and a description of them.

    Args:
        artifact: Its self-test's input comes first; without given images, others are made from it.
        given: Paths of images, preferably not training images; each is used as it is, and with a
            drawn defect.
    """
    manifest = artifact.manifest
    own = np.asarray(read_image(artifact.path(SELFTEST_INPUT)))
    if not given:
        made = made_images(own, manifest.selftest.defect_box, seed=_SEED)
        return made, "the self-test image and 32 images made from it"
    inputs = (preprocess(path, manifest.preprocess)[0] for path in given)
    marked = with_drawn_defects(inputs, seed=_SEED)
    words = f"the self-test image and {len(given)} given ones, as they are and with a drawn defect"
    return (pixels for group in ((own,), marked) for pixels in group), words
