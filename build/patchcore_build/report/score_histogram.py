"""Image scores and a threshold -> histogram as inline SVG, good pictures up, defects down.

A bar ends exactly at the threshold, so no bar holds both verdicts. Colours come from the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_build.report.facts import four_digits

_BINS = 32  # about; the threshold is always an edge
_WIDTH, _HEIGHT = 420, 232
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 410, 30, 196
_LETTERS_PX = 6  # width of a letter of the labels, roughly


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Counts of scores in (edges[i], edges[i + 1]]; `edges` has one entry more."""

    edges: NDArray[np.float64]
    good: NDArray[np.int64]
    defect: NDArray[np.int64]


def bin_scores(good: Sequence[float], defect: Sequence[float], threshold: float) -> Histogram:
    """Count scores in equal bins, one of whose edges is the threshold.

    Bins are open below and closed above, as a score on the threshold is not flagged.

    Args:
        good: Scores of good pictures, finite.
        defect: Scores of pictures with a defect, finite.
        threshold: Of the scores.
    """
    everything = [*good, *defect, threshold]
    low, high = min(everything), max(everything)
    # Equal scores need bins of some width too.
    width = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-30) / _BINS
    first = min(math.ceil((low - threshold) / width) - 1, -1)
    last = max(math.ceil((high - threshold) / width) - 1, 0)

    def count(scores: Sequence[float]) -> NDArray[np.int64]:
        steps = np.ceil((np.array(scores, np.float64) - threshold) / width).astype(np.int64) - 1
        return np.bincount(steps - first, minlength=last - first + 1).astype(np.int64)

    edges = threshold + np.arange(first, last + 2, dtype=np.float64) * width
    return Histogram(edges=edges, good=count(good), defect=count(defect))


def histogram_svg(histogram: Histogram, threshold: float) -> str:
    """Draw the histogram as an `<svg>` with title, description, axis and marked threshold."""
    good_top, defect_top = int(histogram.good.max()), int(histogram.defect.max())
    unit = (_BOTTOM - _TOP) / max(good_top + defect_top, 1)
    axis = _TOP + good_top * unit
    marks = [
        *_bars(histogram.edges, histogram.good, axis, -unit, "good"),
        *_bars(histogram.edges, histogram.defect, axis, unit, "defect"),
        f'<path class="axis" d="M{_LEFT} {axis:.1f}H{_RIGHT}"/>',
        *_counts(axis, unit, good_top, defect_top),
        *_ticks(histogram.edges),
        _threshold_line(_place(threshold, histogram.edges), threshold),
    ]
    description = (
        f"{int(histogram.good.sum())} good pictures are drawn upwards, "
        f"{int(histogram.defect.sum())} with a defect downwards; "
        f"scores right of the threshold {four_digits(threshold)} are flagged."
    )
    return (
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-labelledby="histogram-title histogram-desc">'
        '<title id="histogram-title">Histogram of image scores</title>'
        f'<desc id="histogram-desc">{description}</desc>{"".join(marks)}</svg>'
    )


def _place(value: float, edges: NDArray[np.float64]) -> float:
    """Where a score stands on the drawing."""
    share = (value - edges[0]) / (edges[-1] - edges[0])
    return float(_LEFT + share * (_RIGHT - _LEFT))


def _bars(
    edges: NDArray[np.float64], counts: NDArray[np.int64], axis: float, unit: float, name: str
) -> list[str]:
    """Rectangles on one side of the axis: above it for a negative unit, below for a positive."""
    bars = []
    for index in np.flatnonzero(counts):
        left, right = _place(edges[index], edges), _place(edges[index + 1], edges)
        length = counts[index] * abs(unit)
        top = axis - length if unit < 0 else axis
        bars.append(
            f'<rect class="{name}" x="{left + 0.5:.1f}" y="{top:.1f}" '
            f'width="{max(right - left - 1, 0.5):.1f}" height="{length:.1f}"/>'
        )
    return bars


def _counts(axis: float, unit: float, good_top: int, defect_top: int) -> list[str]:
    """The height of the tallest bar on either side."""
    marks = []
    for tallest, spot, name in (
        (good_top, axis - good_top * unit, "good"),
        (defect_top, axis + defect_top * unit, "defect"),
    ):
        if tallest:
            marks.append(
                f'<text x="{_LEFT - 6}" y="{spot:.1f}" text-anchor="end" '
                f'dominant-baseline="middle" class="of-{name}">{tallest}</text>'
            )
    return marks


def _ticks(edges: NDArray[np.float64]) -> list[str]:
    """Round values along the scores, at most about seven."""
    span = float(edges[-1] - edges[0])
    raw = span / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(size for size in (1, 2, 5, 10) if size * power >= raw)
    marks = []
    for number in range(math.ceil(edges[0] / step), math.floor(edges[-1] / step) + 1):
        x = _place(number * step, edges)
        marks.append(
            f'<path class="tick" d="M{x:.1f} {_BOTTOM + 4}v4"/>'
            f'<text x="{x:.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{number * step:.4g}</text>'
        )
    return marks


def _threshold_line(x: float, threshold: float) -> str:
    """A vertical line with its value, written where there is room."""
    words = f"threshold {four_digits(threshold)}"
    half = len(words) * _LETTERS_PX / 2
    middle = min(max(x, half + 2), _WIDTH - half - 2)
    return (
        f'<path class="threshold" d="M{x:.1f} {_TOP - 8}V{_BOTTOM + 4}"/>'
        f'<text class="threshold-label" x="{middle:.1f}" y="{_TOP - 14}" '
        f'text-anchor="middle">{words}</text>'
    )
