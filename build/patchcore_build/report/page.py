"""Evaluation, gallery and manifest -> the text of report.html, one file that needs no other.

The page is whole without its script: the script adds filters, the large view and a threshold to
try. Each number is in a `<data>` element with the exact value of report.json and, in `data-field`,
its place there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from patchcore_build.data.dataset import GOOD
from patchcore_build.evaluation.evaluate import Evaluation
from patchcore_build.report.cards import color_scale, make_cards, script_data
from patchcore_build.report.charts import Chart, histogram_chart, pro_chart, roc_chart
from patchcore_build.report.facts import ArtifactFacts, KindFacts
from patchcore_build.report.figures import (
    PRO_LIMIT,
    artifact_rows,
    headlines,
    kind_rows,
    metric_rows,
    verdict_numbers,
)
from patchcore_build.report.gallery import GalleryImage
from patchcore_build.report.html import render
from patchcore_build.report.score_bins import bin_scores
from patchcore_runtime.explain.heatmap import HeatmapScale

OUTCOMES = ("found", "missed", "false alarm", "passed")
_MARGIN = 0.02  # of the scores' span: the slider reaches beyond the smallest and largest score


@dataclass(frozen=True, kw_only=True)
class Slider:
    """Ends of the slider; at `low` every image is flagged, at `high` none is."""

    low: float
    high: float


def render_page(
    evaluation: Evaluation,
    artifact: ArtifactFacts,
    kinds: Sequence[KindFacts],
    images: Sequence[GalleryImage],
    scale: HeatmapScale,
) -> str:
    """Write the page.

    Args:
        evaluation: The figures.
        artifact: What was tested.
        kinds: Counts of each kind of image.
        images: All test images, the most confusing first.
        scale: Of the heat maps.
    """
    names = [facts.kind for facts in kinds]
    threshold = evaluation.image_confusion.threshold
    charts = _charts(evaluation, names)
    return render(
        "report.html.j2",
        script="report.js",
        evaluation=evaluation,
        artifact=artifact,
        facts=artifact_rows(artifact),
        headlines=headlines(evaluation),
        metrics=metric_rows(evaluation),
        verdicts=verdict_numbers(evaluation),
        counts=evaluation.image_confusion,
        kinds=kind_rows(kinds),
        charts=charts,
        protocols=[curve.protocol for curve in evaluation.pixel_pro],
        outcomes=OUTCOMES,
        images=images,
        wrong=sum(not image.is_right for image in images),
        cards=make_cards(images, names),
        colors=color_scale(scale),
        slider=slider_ends([image.scored.score for image in images], threshold),
        data=script_data(images, names, threshold, charts),
    )


def slider_ends(scores: Sequence[float], threshold: float) -> Slider:
    """Thresholds to try: from below every score to above every score, and the artifact's own."""
    low, high = min(*scores, threshold), max(*scores, threshold)
    margin = max((high - low) * _MARGIN, 1e-6 * max(abs(low), abs(high)), 1e-30)
    return Slider(low=low - margin, high=high + margin)


def _charts(evaluation: Evaluation, kinds: Sequence[str]) -> dict[str, Chart]:
    """The charts that the evaluation allows, by their names."""
    threshold = evaluation.image_confusion.threshold
    scores = {
        kind: [image.score for image in evaluation.images if image.defect == kind] for kind in kinds
    }
    charts = {"histogram": histogram_chart(bin_scores(scores, threshold), threshold, GOOD)}
    if evaluation.image_roc is not None:
        charts["roc"] = roc_chart(evaluation.image_roc, evaluation.image_rates)
    if evaluation.pixel_pro:
        charts["pro"] = pro_chart(evaluation.pixel_pro, limit=PRO_LIMIT)
    return charts
