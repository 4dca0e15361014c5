"""Curves and scores of an evaluation -> the report's charts, drawn by matplotlib.

Each chart says where its marks are, so that the page's script can move the one for the threshold.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from patchcore_build.evaluation.metrics import Curve, Rates
from patchcore_build.report.html import four_digits
from patchcore_build.report.inline_svg import DEFECT, FAINT, GOOD, INK, drawing, inline_svg
from patchcore_build.report.score_bins import Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS_PER_INCH = 72  # SVG's unit is a point
_CURVE_SIZE_PT = (330, 300)
_HISTOGRAM_WIDTH_PT, _NAMES_PT, _COUNTS_PT = 400, 104, 30  # names left of the bars, counts right
_ROW_PT, _AXIS_PT = 34, 52  # height of one kind's bars, and of what is below all of them
_BAR_SHARE = 0.82  # of a row's height, for its tallest bar
_STYLES = ((GOOD, "-"), (DEFECT, "--"))  # told apart by dashes too, not by colour alone
_KIND_COLUMNS = 16  # Latin letters of a kind's name


@dataclass(frozen=True, kw_only=True)
class Chart:
    """An SVG element, and where it has the value (x, y): at origin + (x, y) * unit."""

    svg: Markup
    origin: tuple[float, float]
    unit: tuple[float, float]


def roc_chart(curve: Curve, operating: Rates | None) -> Chart:
    """Draw the ROC curve of image scores and mark the artifact's threshold on it.

    Args:
        curve: Both coordinates rising.
        operating: Rates at the threshold; None, or a rate that is None, leaves the mark out.
    """
    description = _points([curve])
    with drawing():
        figure, axes = _curve_axes(1.0, "false-positive rate", "share of defects found")
        axes.plot((0, 1), (0, 1), color=FAINT, linewidth=0.75, linestyle=":")
        _draw(axes, [curve])
        rates = operating and (operating.false_positive_rate, operating.true_positive_rate)
        if rates and rates[0] is not None and rates[1] is not None:
            axes.plot(
                [rates[0]], [rates[1]], marker="o", markersize=8, color=INK, clip_on=False,
                gid="at-threshold", zorder=5,
            )  # fmt: skip
            description += "; the dot is the threshold"
        return _chart(figure, axes, "roc", "ROC curve of image scores", description)


def pro_chart(curves: Sequence[Curve], *, limit: float) -> Chart:
    """Draw PRO curves up to a false-positive rate.

    Args:
        curves: Both coordinates rising; at most two, the second one dashed.
        limit: Right end of the false-positive axis, in (0, 1].
    """
    with drawing():
        figure, axes = _curve_axes(limit, "false-positive rate of pixels", "mean region overlap")
        _draw(axes, [cut(curve, limit) for curve in curves])
        return _chart(figure, axes, "pro", "PRO curves of the anomaly maps", _points(curves))


def cut(curve: Curve, limit: float) -> Curve:
    """The curve as far as a false-positive rate, its last piece cut there."""
    across, upward = np.array(curve.false_positive_rates), np.array(curve.rates)
    kept = int(np.searchsorted(across, limit, side="right"))
    is_cut = kept < len(across) and across[kept - 1] < limit
    end = float(np.interp(limit, across, upward))
    return Curve(
        protocol=curve.protocol,
        false_positive_rates=(*across[:kept].tolist(), *([limit] if is_cut else [])),
        rates=(*upward[:kept].tolist(), *([end] if is_cut else [])),
    )


def histogram_chart(histogram: Histogram, threshold: float, good: str) -> Chart:
    """Draw a row of bars for each kind of image, over one axis of scores.

    Each row is scaled to its own tallest bar, whose count is written beside it. The axis counts
    shares of its length, so that scores that are all but equal are drawn, too.

    Args:
        histogram: One of its edges is the threshold.
        threshold: Marked by a line through all rows.
        good: The kind that is drawn in the colour of good images.
    """
    rows = len(histogram.counts)
    height = rows * _ROW_PT + _AXIS_PT + 18
    low, high = float(histogram.edges[0]), float(histogram.edges[-1])
    images = sum(int(counts.sum()) for counts in histogram.counts.values())
    description = (
        f"{images} images, a row for each kind; scores right of the threshold "
        f"{four_digits(threshold)} are flagged"
    )
    words = {f"kind-{row}": shorten(kind) for row, kind in enumerate(histogram.counts)}
    with drawing():
        figure = _figure(_HISTOGRAM_WIDTH_PT, height)
        left = _NAMES_PT / _HISTOGRAM_WIDTH_PT
        width = 1 - (_NAMES_PT + _COUNTS_PT) / _HISTOGRAM_WIDTH_PT
        axes = figure.add_axes((left, _AXIS_PT / height, width, rows * _ROW_PT / height))
        axes.set(xlim=(0, 1), ylim=(0, rows), yticks=[], xlabel="image score")
        ticks = _score_ticks(low, high, threshold)
        axes.set_xticks([(tick - low) / (high - low) for tick in ticks.values()], labels=[*ticks])
        axes.spines[["left", "bottom"]].set_visible(False)
        for row, (kind, counts) in enumerate(histogram.counts.items()):
            _draw_row(axes, rows - 1 - row, counts, GOOD if kind == good else DEFECT)
            axes.text(-0.02, rows - 0.7 - row, f"kind-{row}", ha="right")
        share = (threshold - low) / (high - low)
        axes.axvline(share, color=INK, linewidth=1.5, linestyle="--", gid="at-threshold")
        title = "Histogram of image scores"
        chart = _chart(figure, axes, "histogram", title, description, words)
    unit = chart.unit[0] / (high - low)
    return Chart(
        svg=chart.svg, origin=(chart.origin[0] - low * unit, chart.origin[1]),
        unit=(unit, chart.unit[1]),
    )  # fmt: skip


def _score_ticks(low: float, high: float, threshold: float) -> dict[str, float]:
    """Round scores within the axis by their labels; the threshold alone if labels would repeat."""
    from matplotlib.ticker import MaxNLocator

    ticks = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    labels = {f"{tick:.4g}": float(tick) for tick in ticks}
    return labels if len(labels) == len(ticks) > 1 else {f"{threshold:.4g}": threshold}


def _draw_row(axes: "Axes", base: int, counts: NDArray[np.int64], color: str) -> None:
    """Bars of one kind on the line `base`, and beside them the count of the tallest one."""
    tallest, filled = int(counts.max()), np.flatnonzero(counts)
    width = 1 / len(counts)
    axes.bar(
        filled * width, counts[filled] / max(tallest, 1) * _BAR_SHARE, width * 0.9, base,
        align="edge", color=color, linewidth=0,
    )  # fmt: skip
    axes.axhline(base, color=FAINT, linewidth=0.75)
    axes.text(1.02, base + 0.3, f"{tallest}", color=FAINT)


def shorten(kind: str) -> str:
    """A kind's name as the chart has room for it, without its middle where it is too long."""
    if _columns(kind) <= _KIND_COLUMNS:
        return kind
    ends = (f"{kind[:half]}…{kind[-half:]}" for half in range(_KIND_COLUMNS // 2 - 1, 0, -1))
    return next(name for name in ends if _columns(name) <= _KIND_COLUMNS)


def _columns(text: str) -> int:
    """Width of a text in Latin letters: East Asian ones are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _figure(width_pt: float, height_pt: float) -> "Figure":
    from matplotlib.figure import Figure

    size = (width_pt / _POINTS_PER_INCH, height_pt / _POINTS_PER_INCH)
    return Figure(figsize=size, dpi=_POINTS_PER_INCH)


def _curve_axes(limit: float, across: str, upward: str) -> "tuple[Figure, Axes]":
    width, height = _CURVE_SIZE_PT
    figure = _figure(width, height)
    axes = figure.add_axes((48 / width, 46 / height, 1 - 66 / width, 1 - 60 / height))
    axes.set(xlim=(0, limit), ylim=(0, 1), xlabel=across, ylabel=upward)
    axes.grid(visible=True, linewidth=0.75)
    axes.set_axisbelow(True)
    return figure, axes


def _draw(axes: "Axes", curves: Sequence[Curve]) -> None:
    for number, (curve, (color, dashes)) in enumerate(zip(curves, _STYLES, strict=False)):
        axes.plot(
            curve.false_positive_rates, curve.rates, color=color, linestyle=dashes, linewidth=2,
            gid=f"curve-{number}", clip_on=False,
        )  # fmt: skip


def _points(curves: Sequence[Curve]) -> str:
    return "; ".join(f"{curve.protocol}, {len(curve.rates)} points" for curve in curves)


def _chart(
    figure: "Figure",
    axes: "Axes",
    name: str,
    title: str,
    description: str,
    words: dict[str, str] | None = None,
) -> Chart:
    """Write the figure; SVG counts y downwards."""
    svg = inline_svg(figure, name, title, description, words)
    height = figure.get_figheight() * _POINTS_PER_INCH
    (x0, y0), (x1, y1) = axes.transData.transform([(0.0, 0.0), (1.0, 1.0)])
    return Chart(
        svg=svg,
        origin=(float(x0), float(height - y0)),
        unit=(float(x1 - x0), float(y0 - y1)),
    )
