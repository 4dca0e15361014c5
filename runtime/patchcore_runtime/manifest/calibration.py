"""Thresholds and held-out scores of good images: the `calibration` section of manifest.json.

JSON object -> frozen dataclasses. artifacts/FORMAT.md defines the fields; `thresholds` uses them.
"""

from dataclasses import dataclass
from itertools import pairwise

from patchcore_runtime.files.strict_json import check


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


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds from held-out training images, and the scores behind them."""

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

    def __post_init__(self) -> None:
        check(1 <= self.images < 2**31, "images", "1 to 2^31 - 1")
        check(1 <= self.groups <= self.images, "groups", "1 to images")
        check(1 <= self.folds <= self.groups, "folds", "1 to groups")
        check(0 < self.target_fpr < 1, "target_fpr", "in (0, 1)")
        check(self.image_threshold > 0, "image_threshold", "above 0")
        inside = self.heatmap.low < self.pixel_threshold < self.heatmap.high
        check(inside, "pixel_threshold", "between heatmap.low and heatmap.high")
        for name in ("image", "pixel"):
            low, high = getattr(self, f"{name}_interval")
            around = low <= getattr(self, f"{name}_threshold") <= high
            check(around, f"{name}_interval", f"lower and upper bound of {name}_threshold")
        rising = all(lower < upper for lower, upper in pairwise((0, *self.ranks)))
        ends = self.ranks[-1:] == (self.images,)
        check(rising and ends, "ranks", "from 1 on, rising, the last equal to images")
        for scores in ("image_scores", "map_maxima"):
            same = len(getattr(self, scores).values) == len(self.ranks)
            check(same, f"{scores}.values", "as many entries as ranks")
