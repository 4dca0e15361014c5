"""Evaluation -> the rows of report.html's tables, each number with its place in report.json.

Every metric names its protocol and the origin of its threshold; one that does not exist is `none`
with the reason that report.json gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from patchcore_build.evaluation.evaluate import Evaluation
from patchcore_build.report.facts import ArtifactFacts, KindFacts
from patchcore_build.report.html import four_digits

PRO_LIMIT = 0.3
_CHOSEN = "this threshold is chosen on the test set, so the figure is an upper bound"
_PRO = "mean overlap with the marked regions, up to a false-positive rate of"
_ALL, _BESIDE = "over the normal pixels of all images", "of the anomalous images only"
_HEADLINES = (
    ("Image AUROC", "image_auroc"),
    ("Image average precision", "image_average_precision"),
    ("Image best F1", "image_best_f1.f1"),
    ("Pixel AUROC", "pixel_auroc"),
    ("AUPRO 0.30", "aupro_030_all_images"),
    ("Segmentation F1", "pixel_rates.f1"),
)


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as people read it, its exact value, and its place in report.json."""

    words: str
    exact: str
    field: str


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table of metrics; without a value, `remark` is the reason."""

    name: str
    value: Number | None
    remark: Sequence[str | Number]


@dataclass(frozen=True, kw_only=True)
class KindRow:
    """A row of the table of kinds."""

    kind: str
    images: Number
    flagged: Number
    median_score: Number


def number(value: float, field: str, shown: str = "") -> Number:
    """A number in the form of a format specification, by default with four digits."""
    words = f"{value:{shown}}" if shown else four_digits(value)
    return Number(words=words, exact=repr(value), field=field)


def headlines(evaluation: Evaluation) -> list[Metric]:
    """The metrics that a reader looks for first, as far as they exist."""
    metrics = (_metric(evaluation, name, field) for name, field in _HEADLINES)
    return [metric for metric in metrics if metric.value]


def artifact_rows(artifact: ArtifactFacts) -> list[tuple[str, Sequence[str | Number]]]:
    """Names and values of what was tested."""

    def fact(field: str, shown: str = "") -> Number:
        return number(getattr(artifact, field), f"artifact.{field}", shown)

    return [
        ("Recipe", [artifact.recipe]),
        ("Backbone", [artifact.backbone]),
        (
            "Input (height x width)",
            [fact("input_height", "d"), " x ", fact("input_width", "d"), " px"],
        ),
        ("Memory-bank rows", [fact("rows", "d")]),
        ("Image threshold", [fact("image_threshold")]),
        ("Pixel threshold", [fact("pixel_threshold")]),
    ]


def metric_rows(evaluation: Evaluation) -> list[Metric]:
    """Every metric of the evaluation."""
    at = f"at {evaluation.resolution} resolution"
    if evaluation.region_share < 1:
        at += f", in the region of interest ({evaluation.region_share:.1%} of the input)"
    own = "at the artifact's own threshold"
    rows: tuple[tuple[str, str, str | Sequence[str | Number]], ...] = (
        ("Image AUROC", "image_auroc", "of image scores"),
        ("Image average precision", "image_average_precision", "of image scores"),
        ("Image best F1", "image_best_f1.f1", _best_remark(evaluation, "image_best_f1")),
        ("Image true-positive rate", "image_rates.true_positive_rate", own),
        ("Image false-positive rate", "image_rates.false_positive_rate", own),
        ("Pixel AUROC", "pixel_auroc", f"of map values, {at}"),
        ("Pixel average precision", "pixel_average_precision", f"of map values, {at}"),
        ("AUPRO 0.30", "aupro_030_all_images", f"{_PRO} 0.30, {_ALL}"),
        ("AUPRO 0.05", "aupro_005_all_images", f"{_PRO} 0.05, {_ALL}"),
        ("AUPRO 0.30, anomalous", "aupro_030_anomalous_images_only", f"{_PRO} 0.30, {_BESIDE}"),
        ("AUPRO 0.05, anomalous", "aupro_005_anomalous_images_only", f"{_PRO} 0.05, {_BESIDE}"),
        ("Pixel best F1", "pixel_best_f1.f1", _best_remark(evaluation, "pixel_best_f1")),
        ("Segmentation F1", "pixel_rates.f1", own),
        ("Pixel true-positive rate", "pixel_rates.true_positive_rate", own),
        ("Pixel false-positive rate", "pixel_rates.false_positive_rate", own),
    )
    threshold = number(evaluation.pixel_threshold, "pixel_threshold")
    return [
        *(_metric(evaluation, name, field, remark) for name, field, remark in rows),
        _metric(
            evaluation,
            "Good images with any flagged pixel",
            "pixel_share_flagged_good",
            ("above ", threshold, " in the map"),
            shown=".1%",
        ),
    ]


def verdict_numbers(evaluation: Evaluation) -> dict[str, Number]:
    """Counts at the artifact's own threshold, and the threshold, by the name of each."""
    counts = evaluation.image_confusion
    names = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    found = {name: number(getattr(counts, name), f"image_confusion.{name}", "d") for name in names}
    return found | {"threshold": number(counts.threshold, "image_confusion.threshold")}


def kind_rows(kinds: Sequence[KindFacts]) -> list[KindRow]:
    """A row for each kind of image, in the order given."""
    return [
        KindRow(
            kind=facts.kind,
            images=number(facts.images, f"kinds.{place}.images", "d"),
            flagged=number(facts.flagged, f"kinds.{place}.flagged", "d"),
            median_score=number(facts.median_score, f"kinds.{place}.median_score"),
        )
        for place, facts in enumerate(kinds)
    ]


def _best_remark(evaluation: Evaluation, field: str) -> Sequence[str | Number]:
    best = getattr(evaluation, field)
    if best is None:
        return ()
    return ("at ", number(best.threshold, f"{field}.threshold"), f"; {_CHOSEN}")


def _metric(
    evaluation: Evaluation,
    name: str,
    field: str,
    remark: str | Sequence[str | Number] = (),
    shown: str = ".4f",
) -> Metric:
    value = _value(evaluation, field)
    if value is None:
        return Metric(name=name, value=None, remark=(_reason(evaluation, field),))
    pieces = (remark,) if isinstance(remark, str) else remark
    return Metric(name=name, value=number(value, field, shown), remark=pieces)


def _value(evaluation: Evaluation, field: str) -> float | None:
    value: Any = evaluation
    for name in field.split("."):
        value = None if value is None else getattr(value, name)
    return None if value is None else float(value)


def _reason(evaluation: Evaluation, field: str) -> str:
    """Why a figure, or the whole it is part of, does not exist."""
    reasons = evaluation.reasons
    return reasons.get(field) or reasons.get(field.split(".", maxsplit=1)[0], "not measured")
