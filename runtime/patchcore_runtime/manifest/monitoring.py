"""Statistics of normal images as a whole: the `monitoring` section of manifest.json.

JSON object -> frozen dataclasses. artifacts/FORMAT.md defines the fields; `image.statistics`
compares images with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from patchcore_runtime.files.strict_json import check

THUMBNAIL_SIDE = 16
GROUPS = 16  # largest number of channel groups
LEVELS = 33  # quantiles of a statistic, from the smallest value to the largest


@dataclass(frozen=True, kw_only=True)
class ChannelGroups:
    """Mean and standard deviation over images of each channel group's mean, for one layer."""

    means: tuple[float, ...]
    spreads: tuple[float, ...]

    def __post_init__(self) -> None:
        same = 1 <= len(self.means) == len(self.spreads) <= GROUPS
        check(same, "spreads", f"as many entries as means, 1 to {GROUPS}")
        check(min(self.spreads, default=0) > 0, "spreads", "above 0")


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """33 quantiles of each statistic over the normal images, each compared with the others."""

    brightness: tuple[float, ...]
    contrast: tuple[float, ...]
    warmth: tuple[float, ...]
    sharpness: tuple[float, ...]
    row_shift: tuple[float, ...]
    column_shift: tuple[float, ...]
    likeness: tuple[float, ...]
    layers: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for name, values in self.named([f"layers[{at}]" for at in range(len(self.layers))]).items():
            whole = len(values) == LEVELS and list(values) == sorted(values)
            check(whole, name, f"{LEVELS} values in ascending order")

    def named(self, layers: Sequence[str]) -> dict[str, tuple[float, ...]]:
        """Return the quantiles of each statistic by name, those of the layers by the given ones."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return named | dict(zip(layers, named.pop("layers"), strict=True))


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The reference with which a monitor compares images."""

    images: int
    thumbnail: tuple[float, ...]
    layers: tuple[ChannelGroups, ...]
    quantiles: Quantiles

    def __post_init__(self) -> None:
        check(1 <= self.images < 2**31, "images", "1 to 2^31 - 1")
        cells = THUMBNAIL_SIDE**2
        check(len(self.thumbnail) == cells, "thumbnail", f"{cells} values")
