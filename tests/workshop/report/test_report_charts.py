"""Laws of the charts: every count and every point is drawn where its value is, always the same."""

import dataclasses
import logging
import re
import subprocess
import sys

import numpy as np
import pytest

from evaluations import CURVE, MANIFEST, THRESHOLD, Page, report, run
from patchcore_build.evaluation.metrics import Rates
from patchcore_build.report.charts import histogram_chart, pro_chart, roc_chart
from patchcore_build.report.report import write_report
from patchcore_build.report.score_bins import bin_scores

RATES = Rates(threshold=THRESHOLD, true_positive_rate=0.8, false_positive_rate=0.1, f1=0.5)


def _group(chart, name):
    """Elements of the chart inside of the group of that id."""
    page = Page(chart.svg)
    group = page.by_id(name)
    return [one for one in page.elements if group in one.above()]


def _values(chart, path):
    """The points of a path, (n, 2), as values instead of places."""
    places = np.array(re.findall(r"[ML] ([-0-9.e]+) ([-0-9.e]+)", path), float)
    return (places - chart.origin) / chart.unit


def test_bars_never_mix_verdicts_and_count_every_image():
    rng = np.random.default_rng(0)
    good, defect = rng.normal(1, 0.3, 50), rng.normal(3, 1, 70)
    good[0] = THRESHOLD  # not flagged
    binned = bin_scores({"good": good.tolist(), "crack": defect.tolist()}, THRESHOLD)
    edge = int(np.flatnonzero(binned.edges == THRESHOLD)[0])
    for scores, counts in ((good, binned.counts["good"]), (defect, binned.counts["crack"])):
        assert counts.sum() == len(scores)
        assert counts[edge:].sum() == (scores > THRESHOLD).sum()
        assert len(counts) == len(binned.edges) - 1


@pytest.mark.parametrize("score", [0.0, THRESHOLD, -3.0, 1e9])
def test_scores_that_are_all_but_equal_still_give_a_histogram(score):
    for threshold in (score, THRESHOLD):
        binned = bin_scores({"good": [score, np.nextafter(score, 1e10)], "crack": []}, threshold)
        assert binned.counts["good"].sum() == 2
        assert binned.counts["crack"].sum() == 0
        assert (np.diff(binned.edges) > 0).all()
        chart = histogram_chart(binned, threshold, "good")
        assert np.isfinite([*chart.origin, *chart.unit]).all()
        assert chart.unit[0] > 0


def test_each_bar_of_the_histogram_is_where_and_as_tall_as_its_count():
    scores = {"good": [1.0, 1.0, 1.5], "crack": [1.25, 3.5, 3.5, 3.5, 3.0], "stain": []}
    binned = bin_scores(scores, THRESHOLD)
    chart = histogram_chart(binned, THRESHOLD, "good")
    bars = [
        (_values(chart, one.attributes["d"]), one.attributes["style"])
        for one in _group(chart, "histogram-axes_1")
        if one.attributes.get("style", "").startswith("fill: var(--")
        and one.attributes.get("d", "").count("L") == 3
    ]
    assert len(bars) == 2 + 3
    for row, (kind, color) in enumerate((("good", "good"), ("crack", "defect"))):
        counts = binned.counts[kind]
        base = len(scores) - 1 - row
        filled = np.flatnonzero(counts)
        of_kind = [points for points, style in bars if style == f"fill: var(--{color})"]
        assert [points[:, 0].min() for points in of_kind] == pytest.approx(binned.edges[filled])
        tops = np.array([points[:, 1].max() for points in of_kind]) - base
        np.testing.assert_allclose(tops / tops.max(), counts[filled] / counts.max(), rtol=1e-5)
        assert tops.max() == pytest.approx(0.82)  # of its row, whatever the row's counts are
        assert all(points[:, 1].min() == pytest.approx(base, abs=1e-5) for points in of_kind)
    (line,) = _group(chart, "histogram-at-threshold")
    assert _values(chart, line.attributes["d"])[:, 0] == pytest.approx([THRESHOLD] * 2)


def test_the_histogram_says_each_kind_and_its_tallest_count():
    kinds = {"good": [1.0] * 7, "a" * 30: [3.0] * 12, "<$\\frac{1}{2}$ & \n\N{SNOWMAN}": [2.5]}
    wide = "\N{CJK UNIFIED IDEOGRAPH-4E2D}"
    kinds |= {wide * 8: [2.5], wide * 9: [2.5]}
    chart = histogram_chart(bin_scores(kinds, THRESHOLD), THRESHOLD, "good")
    words = [one.text for one in Page(chart.svg).all("text")]
    for label in ("good", f"{'a' * 7}…{'a' * 7}", "7", "12", wide * 8, f"{wide * 3}…{wide * 3}"):
        assert words.count(label) == 1
    assert "<$\\frac…a\N{SNOWMAN}" in [word[:8] + word[-2:] for word in words]


def test_each_curve_is_drawn_point_by_point_and_cut_at_the_limit():
    roc = roc_chart(CURVE, RATES)
    (drawn,) = _group(roc, "roc-curve-0")
    expected = np.array([CURVE.false_positive_rates, CURVE.rates]).T
    np.testing.assert_allclose(_values(roc, drawn.attributes["d"]), expected, atol=1e-6)
    second = dataclasses.replace(CURVE, rates=tuple(rate / 2 for rate in CURVE.rates))
    pro = pro_chart([CURVE, second], limit=0.3)
    for number, share in enumerate((1.0, 0.5)):
        (drawn,) = _group(pro, f"pro-curve-{number}")
        # The limit is two thirds of the way from (0.1, 0.8) to (0.4, 0.9).
        ends = np.array([[0, 0], [0, 0.5], [0.1, 0.8], [0.3, 0.8 + 2 / 30]]) * [1, share]
        np.testing.assert_allclose(_values(pro, drawn.attributes["d"]), ends, atol=1e-6)
    assert "stroke-dasharray" in drawn.attributes["style"]


@pytest.mark.parametrize("limit", [0.1, 0.4, 1.0])
def test_a_limit_on_a_point_of_the_curve_cuts_there(limit):
    steps = dataclasses.replace(
        CURVE, false_positive_rates=(0.0, 0.1, 0.1, 0.4, 0.4, 1.0), rates=(0, 0.2, 0.4, 0.5, 0.7, 1)
    )
    (drawn,) = _group(pro_chart([steps], limit=limit), "pro-curve-0")
    points = _values(pro_chart([steps], limit=limit), drawn.attributes["d"])
    kept = sum(rate <= limit for rate in steps.false_positive_rates)
    expected = np.array([steps.false_positive_rates, steps.rates]).T[:kept]
    np.testing.assert_allclose(points, expected, atol=1e-6)


def test_the_dot_of_the_roc_curve_is_at_the_rates_of_the_threshold():
    chart = roc_chart(CURVE, RATES)
    (dot,) = [one for one in _group(chart, "roc-at-threshold") if one.tag == "use"]
    place = np.array([float(dot.attributes["x"]), float(dot.attributes["y"])])
    assert (place - chart.origin) / chart.unit == pytest.approx([0.1, 0.8], abs=1e-6)
    unknown = dataclasses.replace(RATES, false_positive_rate=None)
    for rates in (unknown, None):
        assert "at-threshold" not in roc_chart(CURVE, rates).svg


def test_charts_have_the_pages_colours_and_words_and_nothing_else(tmp_path):
    page = report(tmp_path)
    for chart in page.all("svg"):
        assert chart.attributes["role"] == "img"
        title, description = chart.attributes["aria-labelledby"].split()
        assert page.by_id(title).text.strip()
        assert page.by_id(description).text.strip()
        inside = [one for one in page.elements if chart in one.above()]
        assert {one.tag for one in inside} <= {
            "g", "path", "defs", "use", "text", "title", "desc", "clippath", "rect",
        }  # fmt: skip
        painted = [
            paint
            for one in inside
            for paint in re.findall(r"(?:fill|stroke): ([^;]+)", one.attributes.get("style", ""))
        ]
        assert len(painted) > 20
        assert {*painted} <= {"none", *(f"var(--{name})" for name in
                                        ("ink", "faint", "line", "good", "defect"))}  # fmt: skip


def test_settings_of_the_user_do_not_change_the_bytes(tmp_path):
    """Neither a matplotlibrc, nor the hash seed, nor a home that cannot be written."""
    program = (
        "from evaluations import CURVE, THRESHOLD\n"
        "from patchcore_build.report.charts import *\n"
        "from patchcore_build.report.score_bins import bin_scores\n"
        "print(pro_chart([CURVE], limit=0.3), roc_chart(CURVE, None))\n"
        "print(histogram_chart(bin_scores({'good': [1.0], 'x': [3.0]}, THRESHOLD), 2.0, 'good'))"
    )
    (tmp_path / "matplotlibrc").write_text("xtick.major.size: 9\naxes.grid: True\nfont.size: 30\n")
    printed = set()
    for seed, rc in (("1", str(tmp_path)), ("2", ""), ("3", "/proc/none")):
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed, "MPLCONFIGDIR": rc,
                 "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.stderr == ""
        printed.add(done.stdout)
    (words,) = printed
    assert words.count("<svg") == 3


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib as mpl

    before, level = dict(mpl.rcParams), logging.getLogger("matplotlib").level
    with mpl.rc_context({"lines.linewidth": 9}):
        roc_chart(CURVE, None)
        assert mpl.rcParams["lines.linewidth"] == 9
    assert dict(mpl.rcParams) == before
    assert logging.getLogger("matplotlib").level == level


def test_matplotlib_is_imported_when_a_report_is_written_and_never_its_windows(tmp_path):
    evaluation, gallery = run(tmp_path / "dataset")
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    program = (
        "import sys, patchcore_build.report.report, patchcore_build.fitting.review\n"
        "print('matplotlib' in sys.modules)\n"
        "from evaluations import CURVE\nfrom patchcore_build.report.charts import roc_chart\n"
        "roc_chart(CURVE, None)\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True", "False"]
