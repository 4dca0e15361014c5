"""Evaluation -> the section of report.html with its metrics, verdicts and curves.

Every figure names its protocol, and where its threshold comes from; one that does not exist is
`none` with the reason that report.json gives.
"""

from typing import Any

from patchcore_build.evaluation.evaluate import Evaluation
from patchcore_build.report.curve_chart import curve_svg
from patchcore_build.report.html import number, table

_PRO_LIMIT = 0.3
_CHOSEN = "this threshold is chosen on the test set, so the figure is an upper bound"
_PRO = "mean overlap with the marked regions, up to a false-positive rate of"
_ALL, _BESIDE = "over the normal pixels of all images", "of the anomalous images only"


def figures_section(evaluation: Evaluation) -> str:
    """Metrics, confusion and curves."""
    heads = ("Metric", "Value", "Remark")
    return (
        '<section aria-labelledby="figures"><h2 id="figures" tabindex="-1">Figures</h2>\n'
        f"{table('metrics', 'Metrics of the test set', heads, _metric_rows(evaluation))}\n"
        f"{_confusion(evaluation)}\n{_curves(evaluation)}</section>"
    )


def _metric_rows(evaluation: Evaluation) -> str:
    where = f"at {evaluation.resolution} resolution"
    if evaluation.region_share < 1:
        where += f", in the region of interest ({evaluation.region_share:.1%} of the input)"
    own = "at the artifact's own threshold"
    rows = (
        ("Image AUROC", "image_auroc", "of image scores"),
        ("Image average precision", "image_average_precision", "of image scores"),
        ("Image best F1", "image_best_f1.f1", _best_note(evaluation, "image_best_f1")),
        ("Image true-positive rate", "image_rates.true_positive_rate", own),
        ("Image false-positive rate", "image_rates.false_positive_rate", own),
        ("Pixel AUROC", "pixel_auroc", f"of map values, {where}"),
        ("Pixel average precision", "pixel_average_precision", f"of map values, {where}"),
        ("AUPRO 0.30", "aupro_030_all_images", f"{_PRO} 0.30, {_ALL}"),
        ("AUPRO 0.05", "aupro_005_all_images", f"{_PRO} 0.05, {_ALL}"),
        ("AUPRO 0.30, anomalous", "aupro_030_anomalous_images_only", f"{_PRO} 0.30, {_BESIDE}"),
        ("AUPRO 0.05, anomalous", "aupro_005_anomalous_images_only", f"{_PRO} 0.05, {_BESIDE}"),
        ("Pixel best F1", "pixel_best_f1.f1", _best_note(evaluation, "pixel_best_f1")),
        ("Segmentation F1", "pixel_rates.f1", own),
        ("Pixel true-positive rate", "pixel_rates.true_positive_rate", own),
        ("Pixel false-positive rate", "pixel_rates.false_positive_rate", own),
    )
    threshold = number(evaluation.pixel_threshold, "pixel_threshold")
    lines = [_row(evaluation, name, field, note) for name, field, note in rows]
    lines.append(
        _row(
            evaluation,
            "Good pictures with any flagged pixel",
            "pixel_share_flagged_good",
            f"above {threshold} in the map",
            shown=".1%",
        )
    )
    return "".join(lines)


def _best_note(evaluation: Evaluation, field: str) -> str:
    best = getattr(evaluation, field)
    return "" if best is None else f"at {number(best.threshold, f'{field}.threshold')}; {_CHOSEN}"


def _row(evaluation: Evaluation, name: str, field: str, note: str, shown: str = ".4f") -> str:
    value = _value(evaluation, field)
    if value is None:
        cells = f'<td class="number">none</td><td class="faint">{_reason(evaluation, field)}</td>'
    else:
        cells = f'<td class="number">{number(value, field, shown)}</td>'
        cells += f'<td class="faint">{note}</td>'
    return f'<tr><th scope="row">{name}</th>{cells}</tr>\n'


def _value(evaluation: Evaluation, field: str) -> float | None:
    value: Any = evaluation
    for name in field.split("."):
        value = None if value is None else getattr(value, name)
    return None if value is None else float(value)


def _reason(evaluation: Evaluation, field: str) -> str:
    """Why a figure, or the whole it is part of, does not exist."""
    reasons = evaluation.reasons
    return reasons.get(field) or reasons.get(field.split(".", maxsplit=1)[0], "not measured")


def _confusion(evaluation: Evaluation) -> str:
    counts = evaluation.image_confusion

    def cell(field: str) -> str:
        value = number(getattr(counts, field), f"image_confusion.{field}", "d")
        return f'<td class="number">{value}</td>'

    threshold = number(counts.threshold, "image_confusion.threshold")
    rows = (
        f'<tr><th scope="row">defect</th>{cell("true_positives")}{cell("false_negatives")}</tr>\n'
        f'<tr><th scope="row">good</th>{cell("false_positives")}{cell("true_negatives")}</tr>\n'
    )
    caption = f"Verdicts at the artifact's own threshold, {threshold}"
    return table("verdicts", caption, ("Truth", "Flagged", "Passed"), rows)


def _curves(evaluation: Evaluation) -> str:
    """ROC of the pictures and PRO of the regions, side by side where there is room."""
    charts = []
    if evaluation.image_roc is not None:
        drawn = curve_svg("roc", "ROC curve of image scores", [evaluation.image_roc])
        charts.append(_chart(drawn, "ROC: share of the defects found by image score"))
    if evaluation.pixel_pro:
        drawn = curve_svg(
            "pro", "PRO curves of the anomaly maps", evaluation.pixel_pro, limit=_PRO_LIMIT
        )
        keys = " ".join(
            f'<span class="line {style}"></span>{curve.protocol}'
            for style, curve in zip(("first", "second"), evaluation.pixel_pro, strict=False)
        )
        charts.append(_chart(drawn, f"PRO: mean overlap with the marked regions; {keys}"))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _chart(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}\n<figcaption>{caption}</figcaption></figure>"
