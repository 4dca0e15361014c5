"""Evaluation, gallery and manifest -> the text of report.html, one file that needs no other.

No scripts, nothing from elsewhere; every name is escaped. Each figure stands in a `<data>` element
with the exact value of report.json and, in `data-field`, its place there.
"""

from collections.abc import Sequence

from patchcore_build.evaluation.evaluate import Evaluation
from patchcore_build.report.facts import ArtifactFacts, KindFacts
from patchcore_build.report.figures import figures_section
from patchcore_build.report.gallery import Shot
from patchcore_build.report.html import document, number, table
from patchcore_build.report.images import html_text, pictures_section
from patchcore_build.report.score_histogram import bin_scores, histogram_svg
from patchcore_runtime.explain.heatmap import HeatmapScale


def render_page(
    evaluation: Evaluation,
    artifact: ArtifactFacts,
    kinds: Sequence[KindFacts],
    shots: Sequence[Shot],
    scale: HeatmapScale,
) -> str:
    """Write the page.

    Args:
        evaluation: The figures.
        artifact: What was tested.
        kinds: Counts of each kind of picture.
        shots: All test pictures, the most confusing first.
        scale: Of the heat maps.
    """
    title = f"{html_text(evaluation.category)}: test report"
    body = f"""<a class="skip" href="#figures">Skip to the figures</a>
<header>
<h1>{title}</h1>
{_artifact(evaluation, artifact)}
<nav aria-label="Sections"><ul>
<li><a href="#figures">Figures</a></li>
<li><a href="#scores">Scores</a></li>
<li><a href="#kinds">Kinds of pictures</a></li>
<li><a href="#problems">Problems ({len(evaluation.problems)})</a></li>
<li><a href="#pictures">Pictures</a></li>
</ul></nav>
</header>
<main>
{figures_section(evaluation)}
{_scores(evaluation)}
{_kinds(kinds)}
{_problems(evaluation.problems)}
{pictures_section(shots, scale)}
</main>
"""
    return document(title, body)


def _artifact(evaluation: Evaluation, artifact: ArtifactFacts) -> str:
    size = (
        f"{number(artifact.input_height, 'artifact.input_height', 'd')} x "
        f"{number(artifact.input_width, 'artifact.input_width', 'd')} px"
    )
    facts = {
        "Recipe": f'<span class="value">{html_text(artifact.recipe)}</span>',
        "Backbone": f'<span class="value">{html_text(artifact.backbone)}</span>',
        "Input (height x width)": size,
        "Memory-bank rows": number(artifact.rows, "artifact.rows", "d"),
        "Image threshold": number(artifact.image_threshold, "artifact.image_threshold"),
        "Pixel threshold": number(artifact.pixel_threshold, "artifact.pixel_threshold"),
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    trained = ""
    if artifact.category != evaluation.category:
        trained = (
            f"<p>The artifact was built for <bdi>{html_text(artifact.category)}</bdi>, "
            "not for these pictures.</p>\n"
        )
    return f'{trained}<dl class="facts">{listed}</dl>'


def _scores(evaluation: Evaluation) -> str:
    threshold = evaluation.image_confusion.threshold
    good = [image.score for image in evaluation.images if not image.is_anomalous]
    defect = [image.score for image in evaluation.images if image.is_anomalous]
    drawn = histogram_svg(bin_scores(good, defect, threshold), threshold)
    return (
        '<section aria-labelledby="scores"><h2 id="scores">Scores</h2>\n'
        f"<figure>{drawn}\n<figcaption>Number of pictures by image score: "
        '<span class="key good"></span>good above the line, '
        '<span class="key defect"></span>defect below it.</figcaption></figure></section>'
    )


def _kinds(kinds: Sequence[KindFacts]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><bdi>{html_text(facts.kind)}</bdi></th>'
        f'<td class="number">{number(facts.pictures, f"kinds.{n}.pictures", "d")}</td>'
        f'<td class="number">{number(facts.flagged, f"kinds.{n}.flagged", "d")}</td>'
        f'<td class="number">{number(facts.median_score, f"kinds.{n}.median_score")}</td>'
        "</tr>\n"
        for n, facts in enumerate(kinds)
    )
    heads = ("Kind", "Pictures", "Flagged", "Median score")
    caption = "A flagged defect is detected, a flagged good picture is a false alarm"
    return (
        '<section aria-labelledby="kinds"><h2 id="kinds">Kinds of pictures</h2>\n'
        f"{table('kinds', caption, heads, rows)}</section>"
    )


def _problems(problems: Sequence[str]) -> str:
    listed = "".join(f"<li>{html_text(problem)}</li>\n" for problem in problems)
    shown = f"<ul>\n{listed}</ul>" if problems else "<p>None.</p>"
    return f'<section aria-labelledby="problems"><h2 id="problems">Problems</h2>\n{shown}</section>'
