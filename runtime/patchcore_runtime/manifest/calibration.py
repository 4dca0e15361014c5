"""Thresholds and held-out scores of good images: the `calibration` section of manifest.json.

JSON object -> frozen dataclasses. artifacts/FORMAT.md defines the fields; `thresholds` uses them.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from patchcore_runtime.files.strict_json import OPTIONAL, check


@dataclass(frozen=True, kw_only=True)
class HeatmapRange:
    """The artifact's one scale for heat maps, in map units."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Tail:
    """Generalised Pareto tail: a share of `share` of good images lies above `level`."""

    level: float
    share: float
    scale: float
    shape: float

    def __post_init__(self) -> None:
        check(0 < self.share <= 1, "share", "in (0, 1]")
        check(self.scale > 0, "scale", "above 0")
        check(-0.5 <= self.shape <= 0.5, "shape", "-0.5 to 0.5")


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """One value of every held-out good image, sorted, and the tail beyond these values."""

    bias: float  # factor of the values, because fold banks are smaller than the final bank
    values: tuple[float, ...]
    tail: Tail

    def __post_init__(self) -> None:
        check(0.8 <= self.bias <= 1, "bias", "0.8 to 1")
        check(list(self.values) == sorted(self.values), "values", "in ascending order")


# The held-out scores of a detector without them: imported, or learned from one image.
NOT_KNOWN = HeldOut(bias=1.0, values=(), tail=Tail(level=0.0, share=1.0, scale=1.0, shape=0.0))


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Limits beyond which an image does not show the learned part; see `scoring.gate`."""

    usual_distance: float  # Euclidean, of held-out good images: the median of their medians
    largest_distance: float
    usual_rows: int
    fewest_rows: int

    def __post_init__(self) -> None:
        check(self.usual_distance >= 0, "usual_distance", "0 or more")
        above = self.largest_distance > self.usual_distance
        check(above, "largest_distance", "above usual_distance")
        check(1 <= self.usual_rows < 2**31, "usual_rows", "1 to 2^31 - 1")
        check(0 <= self.fewest_rows <= self.usual_rows, "fewest_rows", "0 to usual_rows")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds from held-out training images, and the scores behind them.

    A detector that was imported, or learned from one image, has thresholds without such scores;
    then `images` is 0.
    """

    method: str
    images: int
    groups: int
    folds: int
    target_fpr: float
    image_threshold: float
    image_interval: tuple[float, float]
    pixel_threshold: float
    pixel_interval: tuple[float, float]
    heatmap: HeatmapRange
    ranks: tuple[int, ...]
    image_scores: HeldOut
    map_maxima: HeldOut
    # None if it is not known which images show the part.
    gate: Gate | None = field(default=None, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        check(0 <= self.images < 2**31, "images", "0 to 2^31 - 1")
        least = min(1, self.images)
        check(least <= self.groups <= self.images, "groups", "1 to images; 0 if images is 0")
        check(least <= self.folds <= self.groups, "folds", "1 to groups; 0 if images is 0")
        rate = 0 < self.target_fpr < 1 if self.images else self.target_fpr == 0
        check(rate, "target_fpr", "in (0, 1); 0 if images is 0")
        check(self.image_threshold > 0, "image_threshold", "above 0")
        inside = self.heatmap.low < self.pixel_threshold < self.heatmap.high
        check(inside, "pixel_threshold", "between heatmap.low and heatmap.high")
        for name in ("image", "pixel"):
            low, high = getattr(self, f"{name}_interval")
            around = low <= getattr(self, f"{name}_threshold") <= high
            check(around, f"{name}_interval", f"lower and upper bound of {name}_threshold")
        rising = all(lower < upper for lower, upper in pairwise((0, *self.ranks)))
        ends = self.ranks[-1:] == (self.images,) if self.images else not self.ranks
        words = "from 1 on, rising, the last equal to images; empty if images is 0"
        check(rising and ends, "ranks", words)
        for scores in ("image_scores", "map_maxima"):
            same = len(getattr(self, scores).values) == len(self.ranks)
            check(same, f"{scores}.values", "as many entries as ranks")
            plain = self.images > 0 or getattr(self, scores) == NOT_KNOWN
            check(plain, scores, "bias 1, no values, tail 0, 1, 1, 0 if images is 0")


def thresholds_alone(
    *, image: float, pixel: float, heatmap: HeatmapRange, method: str, gate: Gate | None = None
) -> Calibration:
    """Return thresholds without held-out scores; `method` says where they come from."""
    return Calibration(
        method=f"{method}; held-out scores and false-alarm rate are not known",
        images=0,
        groups=0,
        folds=0,
        target_fpr=0.0,
        image_threshold=image,
        image_interval=(image, image),
        pixel_threshold=pixel,
        pixel_interval=(pixel, pixel),
        heatmap=heatmap,
        ranks=(),
        image_scores=NOT_KNOWN,
        map_maxima=NOT_KNOWN,
        gate=gate,
    )


def without_scores(calibration: Calibration) -> Calibration:
    """Return the same thresholds without held-out scores behind them."""
    return replace(
        calibration,
        images=0,
        groups=0,
        folds=0,
        target_fpr=0.0,
        ranks=(),
        image_scores=NOT_KNOWN,
        map_maxima=NOT_KNOWN,
    )
