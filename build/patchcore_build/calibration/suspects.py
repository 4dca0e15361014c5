"""Find training images that do not belong: score each one without its own rows of the bank.

features of N images + their memory bank -> a score per image, and the outliers among them.
Each row of a bank records the image it comes from. So leaving one image out costs one search, and a
second one for the patches whose nearest row was their own image's. The score is PatchCore's eq. 6,
the plain maximum, whatever the artifact's rule is: eq. 7 would use the rows that are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.errors import DatasetError
from patchcore_build.progress import Progress, silent
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.neighbours import distances_to_nearest
from patchcore_runtime.scoring.patch_scorer import PatchScorer

_DEVIATIONS = 4.0
MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """Distances of each image to the rows of other images."""

    scores: NDArray[np.float64]  # (N,), the largest distance of each image
    distances: NDArray[np.float32]  # (N, h, w)


def leave_one_out(
    training: TrainingFeatures, bank: MemoryBank, scorer: PatchScorer, progress: Progress = silent
) -> LeftOut:
    """Score every image against the rows of other groups only.

    Args:
        training: The N images that the bank was made of.
        bank: Their memory bank.
        scorer: Scores with that bank.
        progress: Called with the number of images that are done.
    """
    store = training.store
    distances = np.empty((store.images, *store.cells), np.float32)
    group_of_row = training.groups[bank.origins[:, 0]]
    for image in range(store.images):
        found = scorer.score(store.as_network_output(image))
        distances[image] = found.distances
        own = group_of_row == training.groups[image]
        counts = True if store.region is None else store.region.patches
        places = np.flatnonzero(own[found.rows] & counts)
        if len(places) and not own.all():
            patches = store.take(store.owned_rows(image, places))
            others = bank.whole_rows(np.flatnonzero(~own))
            found_there = distances_to_nearest(np.hstack(patches), others, bank.norms[~own])
            distances[image].flat[places] = found_there
        progress(image + 1, store.images)
    return LeftOut(scores=distances.max(axis=(1, 2)).astype(np.float64), distances=distances)


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image to leave out: its number, and a line for the log and the manifest."""

    image: int
    reason: str


def choose_suspects(
    scores: NDArray[np.float64], names: Sequence[str], wanted: int | Literal["auto"]
) -> tuple[Suspect, ...]:
    """Choose the images to leave out, the most suspicious first.

    `auto` chooses images whose log score lies more than four robust standard deviations above the
    median. The deviation is 1.4826 times the median distance of the upper half to the median,
    because good scores are skewed.

    Args:
        scores: Scores of `leave_one_out`, (N,).
        names: Names of the N images.
        wanted: How many images, or `auto`, which drops a tenth at most.

    Raises:
        DatasetError: fewer than two images would remain.
    """
    order = np.argsort(-scores, kind="stable")
    count = int((scores > _limit(scores)).sum()) if wanted == "auto" else wanted
    if wanted == "auto":
        count = min(count, len(scores) // 10)
    require_images_left(len(scores), count)
    median = float(np.median(scores))
    return tuple(
        Suspect(
            image=int(image),
            reason=f"{names[image]}: {scores[image] / median:.2f} times as far from the other "
            "images as the median one",
        )
        for image in order[:count]
    )


def require_images_left(images: int, dropped: int) -> None:
    """Refuse to leave out so many images that fewer than two remain.

    Raises:
        DatasetError: fewer than two images would remain.
    """
    if dropped and images - dropped < 2:
        raise DatasetError(
            f"--drop-suspects {dropped}: expected at least two of the {images} images to "
            f"remain; drop {max(0, images - 2)} at most"
        )


def _limit(scores: NDArray[np.float64]) -> float:
    """The score above which `auto` drops."""
    logs = np.log(np.maximum(scores, 1e-300))
    median = float(np.median(logs))
    upper = logs[logs >= median] - median
    return float(np.exp(median + _DEVIATIONS * MAD_TO_SIGMA * float(np.median(upper))))
