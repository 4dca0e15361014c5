"""Shots of a gallery -> the part of report.html that shows them, pictures as data URIs."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from patchcore_build.report.facts import four_digits, printable
from patchcore_build.report.gallery import Shot
from patchcore_runtime.explain.heatmap import HeatmapScale, colorize

MAX_SHOTS = 60  # in the page: about 3 MB; report.json names every picture


def html_text(value: object) -> str:
    """Any value as text that is safe between tags and inside quotes."""
    return escape(printable(str(value)))


def pictures_section(shots: Sequence[Shot], scale: HeatmapScale) -> str:
    """Write the section: what the colours mean, then a list of pictures.

    Args:
        shots: All test pictures, the most confusing first; the first MAX_SHOTS are shown.
        scale: Of the heat maps.
    """
    shown = shots[:MAX_SHOTS]
    wrong = sum(not shot.is_right for shot in shots)
    return (
        '<section aria-labelledby="pictures"><h2 id="pictures">Pictures</h2>\n'
        f"<p>{len(shown)} of {len(shots)} pictures, from the most confusing to the clearest. "
        f"Wrong verdicts ({wrong}) come first, the farthest beyond the threshold on top, then "
        "right ones, the closest to the threshold on top. Every picture's score is in "
        "report.json.</p>\n"
        f"{_colours(scale)}\n"
        '<p class="faint">The same colours for every picture; a white line surrounds what lies '
        'above the pixel threshold. <span class="key truth"></span>surrounds the marked defect, '
        "as far as the detector sees it.</p>\n"
        f'<ol class="shots">\n{"".join(map(_shot, shown))}</ol></section>'
    )


def _colours(scale: HeatmapScale) -> str:
    """The colour scale as an SVG gradient; its labels follow the page's colours."""
    values = np.linspace(scale.low, scale.high, 17, dtype=np.float32)
    stops = "".join(
        f'<stop offset="{place / 16:.4f}" stop-color="rgb({red},{green},{blue})"/>'
        for place, (red, green, blue) in enumerate(colorize(values[None], scale)[0].tolist())
    )
    notch = 1 + 358 * (scale.threshold - scale.low) / (scale.high - scale.low)
    middle = min(max(notch, 110), 250)
    low, threshold, high = map(four_digits, (scale.low, scale.threshold, scale.high))
    return (
        '<svg class="colours" viewBox="0 0 360 44" role="img" aria-label="Colour scale from '
        f'{low} to {high}, threshold {threshold}">'
        f'<defs><linearGradient id="heat">{stops}</linearGradient></defs>'
        '<rect x="1" y="1" width="358" height="18" fill="url(#heat)"/>'
        f'<path class="notch" d="M{notch:.1f} 1v18"/>'
        f'<text x="1" y="36">{low}</text>'
        f'<text x="{middle:.1f}" y="36" text-anchor="middle">threshold {threshold}</text>'
        f'<text x="359" y="36" text-anchor="end">{high}</text></svg>'
    )


def _shot(shot: Shot) -> str:
    name, small = html_text(shot.image.name), shot.thumbnails
    side = "above" if shot.image.is_flagged else "not above"
    views = [
        _view(shot, small.photo, f"Photograph {name}", "photograph"),
        _view(shot, small.truth, f"{name} with its marked defect outlined", "truth"),
        _view(shot, small.heat, f"Heat map of {name}", "heat map"),
    ]
    score, threshold = four_digits(shot.image.score), four_digits(shot.threshold)
    verdict = "right" if shot.is_right else "wrong"
    return (
        f"<li><h3><bdi>{name}</bdi></h3>\n"
        f'<p><span class="outcome {verdict}">{verdict}: {shot.outcome}</span>, kind '
        f'<bdi>{html_text(shot.image.defect)}</bdi>, score <data value="{shot.image.score!r}">'
        f"{score}</data>, {side} the threshold {threshold}</p>\n"
        f'<div class="views">{"".join(views)}</div></li>\n'
    )


def _view(shot: Shot, jpeg: bytes | None, alt: str, caption: str) -> str:
    """One thumbnail with its caption, or words in its place."""
    small = shot.thumbnails
    if jpeg is None:
        size = f"width:{small.width}px;aspect-ratio:{small.width}/{small.height}"
        shown = f'<div class="none" style="{size}">{small.no_truth}</div>'
    else:
        encoded = base64.b64encode(jpeg).decode("ascii")
        shown = (
            f'<img src="data:image/jpeg;base64,{encoded}" alt="{alt}" '
            f'width="{small.width}" height="{small.height}">'
        )
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"
