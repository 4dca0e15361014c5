"""Limits of the gate: how few rows, and how large a median distance, good images never come near.

figures of held-out good images -> Gate. A good image uses about as many rows as another, and its
median distance hardly varies. An image of something else is far off in one of them, so both limits
keep a wide margin; benchmarks/results/gate.md has the figures.
"""

from collections.abc import Sequence

import numpy as np

from patchcore_build.calibration.suspects import MAD_TO_SIGMA
from patchcore_runtime.manifest.calibration import Gate
from patchcore_runtime.scoring.gate import BELOW, BEYOND, GateValues

_FACTOR = 1.22  # of the usual median distance, at least
_DEVIATIONS = 5.0  # robust standard deviations above it, at least
_SHARE = 0.35  # of the usual number of rows, at most
_SMALLEST = 1e-12  # if all images are equal


def estimate_gate(values: Sequence[GateValues]) -> Gate | None:
    """Set both limits beyond the figures of good images; None without any.

    A fold's bank has fewer rows than the final one, so distances are a little too large and rows
    too few: both limits err on the side of good images.
    """
    if not values:
        return None
    distances = np.array([one.distance for one in values])
    rows = np.array([one.rows for one in values])
    usual = float(np.median(distances))
    logs = np.log(np.maximum(distances, _SMALLEST))
    middle = float(np.median(logs))
    reach = max(
        float(np.log(_FACTOR)),
        _DEVIATIONS * MAD_TO_SIGMA * float(np.median(np.abs(logs - middle))),
    )
    largest = max(float(np.exp(middle + reach)), BEYOND * float(distances.max()))
    return Gate(
        usual_distance=usual,
        largest_distance=max(largest, usual * (1 + _SMALLEST) + _SMALLEST),
        usual_rows=int(np.median(rows)),
        fewest_rows=int(min(_SHARE * float(np.median(rows)), BELOW * float(rows.min()))),
    )
