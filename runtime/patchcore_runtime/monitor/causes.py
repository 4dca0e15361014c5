"""Statistics that changed -> probable causes, with the evidence.

Alarms of charts + recent values -> candidates, the best supported first. If an image is unlike the
normal images, it cannot be aligned with them. Its shift, light and sharpness then indicate no
cause.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Cause = Literal["camera moved", "light changed", "focus changed", "batch changed"]

_CAUSES: dict[Cause, tuple[str, ...]] = {
    "camera moved": ("row_shift", "column_shift"),
    "light changed": ("brightness", "contrast", "warmth"),
    "focus changed": ("sharpness",),
}
_UNLIKE = 0.5  # share of the usual likeness, below which images cannot be aligned
_WEAK = 1 / 3  # share of the strongest evidence, below which a cause counts as a side effect


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One statistic that changed."""

    statistic: str
    test: str  # `ewma`, `kolmogorov-smirnov`, or both
    recent: float  # mean of the most recent values
    normal: tuple[float, float, float]  # 5 %, 50 % and 95 % of good images
    deviations: float  # (recent - median) over a robust standard deviation


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A cause that would explain the change."""

    cause: Cause
    evidence: tuple[Evidence, ...]

    @property
    def strength(self) -> float:
        """Return the largest deviation, in standard deviations of good images."""
        return max(abs(item.deviations) for item in self.evidence)


def find_causes(changed: Sequence[Evidence]) -> tuple[Candidate, ...]:
    """Find causes that explain the statistics in alarm; return none if nothing changed.

    If only score, features or likeness changed, the cause is the parts. A cause with less than a
    third of the strongest cause's evidence counts as a side effect of it.
    """
    if not changed:
        return ()
    whole = Candidate(cause="batch changed", evidence=tuple(changed))
    named = {item.statistic: item for item in changed}
    if "likeness" in named and named["likeness"].recent < _UNLIKE * named["likeness"].normal[1]:
        return (whole,)
    found = [
        Candidate(cause=cause, evidence=tuple(named[name] for name in names if name in named))
        for cause, names in _CAUSES.items()
        if any(name in named for name in names)
    ]
    strongest = max((candidate.strength for candidate in found), default=0.0)
    kept = [candidate for candidate in found if candidate.strength >= _WEAK * strongest]
    return tuple(sorted(kept, key=lambda candidate: -candidate.strength)) or (whole,)
