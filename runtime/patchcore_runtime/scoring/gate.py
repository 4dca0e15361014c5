"""Is this an image of the learned part at all? Two figures that every search gives without cost.

patch distances and nearest rows -> GateValues -> the reasons why the image is something else.
An empty station, a black frame or noise is near a few rows only, so a score alone may call it
good. And an image of something else is far from everything, though no patch is farther than the
threshold. Both limits come from held-out good images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.manifest.calibration import Gate

BEYOND = 1.05  # limits keep this factor of the largest median distance of a good image
BELOW = 0.8  # and of its smallest number of rows
_NEXT_TO_ZERO = np.float32(0.01)  # of an image's largest distance


@dataclass(frozen=True, kw_only=True)
class GateValues:
    """The two figures of one image."""

    distance: float  # lower median of the patch distances that are not next to 0; 0 without any
    rows: int  # different rows of the bank that are the nearest of a patch


def measure_gate(
    distances: NDArray[np.float32],
    rows: NDArray[np.int64],
    counts: NDArray[np.bool_] | None = None,
) -> GateValues:
    """Measure one image.

    A distance next to 0 belongs to a patch that the network masks, or that is itself a row of the
    bank, and does not count; rounding decides whether such a distance is exactly 0.

    Args:
        distances: Distance of each patch to its nearest row, (h, w).
        rows: These rows, (h, w).
        counts: The patches of the learned region of interest; None: all.
    """
    if counts is not None:
        distances, rows = distances[counts], rows[counts]
    apart = distances[distances > _NEXT_TO_ZERO * distances.max(initial=0)]
    middle = (apart.size - 1) // 2
    distance = float(np.partition(apart, middle)[middle]) if apart.size else 0.0
    return GateValues(distance=distance, rows=len(np.unique(rows)))


def describe_gate(gate: Gate | None) -> str:
    """Describe the limits for a person."""
    if gate is None:
        return "none: an image without the part may be called good"
    return (
        f"not this part below {gate.fewest_rows} rows in use (usual {gate.usual_rows}), or above "
        f"a median distance of {gate.largest_distance:.4g} (usual {gate.usual_distance:.4g})"
    )


def widened(gate: Gate | None, values: Sequence[GateValues]) -> Gate | None:
    """Return limits that also let these images through, which somebody calls good."""
    if gate is None:
        return None
    return replace(
        gate,
        largest_distance=max(gate.largest_distance, *(BEYOND * one.distance for one in values)),
        fewest_rows=min(gate.fewest_rows, *(int(BELOW * one.rows) for one in values)),
    )


def strangeness(gate: Gate | None, values: GateValues) -> tuple[str, ...]:
    """Return why an image does not show the learned part, in words and numbers; empty if it may.

    Args:
        gate: The limits; None if the artifact has none.
        values: The figures of the image.
    """
    if gate is None:
        return ()
    found = []
    if values.rows < gate.fewest_rows:
        found.append(
            f"most of what was learned is missing: {values.rows} rows of the memory bank are "
            f"nearest to a patch, in good images about {gate.usual_rows}, expected at least "
            f"{gate.fewest_rows}"
        )
    if values.distance > gate.largest_distance:
        found.append(
            f"nothing looks as learned: the median patch distance is {values.distance:.4g}, in "
            f"good images about {gate.usual_distance:.4g}, expected at most "
            f"{gate.largest_distance:.4g}"
        )
    return tuple(found)
