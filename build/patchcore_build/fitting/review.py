"""The most suspicious training images -> one page to look through, suspects.html.

Scores and maps of `suspects` -> each image as the network sees it, beside its heat map, the
strangest first. One file that needs no other, in the style of report.html.
"""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.calibration.suspects import LeftOut, Suspect
from patchcore_build.config import scoring_rule
from patchcore_build.data.training_inputs import Inputs
from patchcore_build.report.facts import four_digits
from patchcore_build.report.html import document
from patchcore_build.report.images import html_text
from patchcore_runtime.explain.heatmap import HeatmapScale, overlay
from patchcore_runtime.files.whole import write_whole
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.scoring.rules import anomaly_map, map_matrix

REVIEW_PAGE = "suspects.html"
SHOWN = 40  # images on the page: about 2 MB


def write_review(
    folder: Path,
    found: LeftOut,
    training: TrainingFeatures,
    inputs: Inputs,
    suspects: tuple[Suspect, ...],
) -> Path:
    """Write suspects.html into a folder, over an earlier one; returns its path.

    Args:
        folder: Made where it is missing.
        found: What the other images' rows make of each image.
        training: The features they were made of.
        inputs: The same N images, as the network sees them.
        suspects: Those that are dropped; they are marked.
    """
    order = np.argsort(-found.scores, kind="stable")[:SHOWN]
    maps = _maps(found.distances[order], training)
    scale = _scale(found, maps)
    dropped = {suspect.image for suspect in suspects}
    median = float(np.median(found.scores))
    shots = []
    for image, heat in zip(order.tolist(), maps, strict=True):
        score = float(found.scores[image])
        verdict = '<span class="outcome wrong">dropped</span>, ' if image in dropped else ""
        pixels, _ = preprocess(inputs.paths[image], inputs.preprocessing)
        shots.append(
            f"<li><h3><bdi>{html_text(inputs.names[image])}</bdi></h3>\n<p>{verdict}score "
            f'<data value="{score!r}">{four_digits(score)}</data>, '
            f"{score / median:.2f} times the median</p>\n"
            f'<div class="views">{_view(pixels, "photograph", inputs.names[image])}'
            f"{_view(overlay(pixels, heat, scale), 'heat map', inputs.names[image])}</div></li>\n"
        )
    folder.mkdir(parents=True, exist_ok=True)
    page = _page("".join(shots), len(shots), len(found.scores), len(suspects))
    path = folder / REVIEW_PAGE
    write_whole(path, page.encode("utf-8"))
    return path


def _maps(distances: NDArray[np.float32], training: TrainingFeatures) -> list[NDArray[np.float32]]:
    """(n, h, w) -> n maps (H, W), smoothed like the artifact's."""
    size, sigma_px = training.size, scoring_rule(training.config, training.size).sigma_px
    rows = map_matrix(size.height, distances.shape[1], sigma_px)
    columns = map_matrix(size.width, distances.shape[2], sigma_px)
    return [anomaly_map(one, rows, columns) for one in distances]


def _scale(found: LeftOut, maps: list[NDArray[np.float32]]) -> HeatmapScale:
    """Dark up to what nine tenths of all patches stay below; the middle is a common maximum."""
    low = float(np.quantile(found.distances, 0.9))
    middle = max(float(np.median([heat.max() for heat in maps])), low + 1e-6 * max(1.0, low))
    return HeatmapScale(low=low, threshold=middle, high=2 * middle - low)


def _view(pixels: NDArray[np.uint8], caption: str, name: str) -> str:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=80)
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{caption} of {html_text(name)}" '
        f'width="{width}" height="{height}"><figcaption>{caption}</figcaption></figure>'
    )


def _page(shots: str, shown: int, count: int, dropped: int) -> str:
    body = f"""<header><h1>Suspicious training images</h1></header>
<main>
<p>{shown} of {count} training images, those least like the others first: each is scored by
what the others taught. Dropped: {dropped}. Look through them: a defect among the good
images teaches that it is normal.</p>
<ol class="shots">
{shots}</ol>
</main>
"""
    return document("Suspicious training images", body)
