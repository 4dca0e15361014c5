"""A few rising curves -> one chart as inline SVG: false-positive rate across, a rate upwards.

Colours come from the page. Curves are told apart by dashes too, not by colour alone.
"""

from collections.abc import Sequence

from patchcore_build.evaluation.metrics import Curve

_SIDE = 240  # of the plotting area
_LEFT, _TOP = 40, 12
_WIDTH, _HEIGHT = _LEFT + _SIDE + 24, _TOP + _SIDE + 44
_TICKS = 5


def curve_svg(name: str, title: str, curves: Sequence[Curve], *, limit: float = 1.0) -> str:
    """Draw the curves up to a false-positive rate.

    Args:
        name: Of the chart, unique on the page.
        title: What it shows, for screen readers.
        curves: Both coordinates rising; at most two, told apart as `first` and `second`.
        limit: Right end of the false-positive axis, in (0, 1].
    """
    marks = [*_axes(limit)]
    for style, curve in zip(("first", "second"), curves, strict=False):
        marks.append(f'<path class="curve {style}" d="{_path(curve, limit)}"/>')
    told = "; ".join(f"{curve.protocol}, {len(curve.rates)} points" for curve in curves)
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{title}</title><desc id="{name}-desc">{told}</desc>'
        f"{''.join(marks)}</svg>"
    )


def _place(across: float, upward: float, limit: float) -> str:
    return f"{_LEFT + across / limit * _SIDE:.1f} {_TOP + (1 - upward) * _SIDE:.1f}"


def _path(curve: Curve, limit: float) -> str:
    """The curve as far as the limit, its last piece cut there."""
    places = []
    before = (0.0, 0.0)
    for point in zip(curve.false_positive_rates, curve.rates, strict=True):
        if point[0] > limit:
            share = (limit - before[0]) / (point[0] - before[0])
            upward = before[1] + share * (point[1] - before[1])
            places.append(_place(limit, upward, limit))
            break
        places.append(_place(*point, limit))
        before = point
    return "M" + "L".join(places)


def _axes(limit: float) -> list[str]:
    bottom = _TOP + _SIDE
    marks = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_LEFT + _SIDE}"/>']
    for step in range(_TICKS + 1):
        share = step / _TICKS
        x, y = _LEFT + share * _SIDE, bottom - share * _SIDE
        marks += [
            f'<path class="tick" d="M{x:.1f} {bottom}v4M{_LEFT} {y:.1f}h-4"/>',
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{share * limit:.2g}</text>',
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.1f}</text>',
        ]
    middle = _LEFT + _SIDE / 2
    label = "false-positive rate"
    marks.append(f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">{label}</text>')
    return marks
