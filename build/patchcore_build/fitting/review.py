"""The most suspicious training images -> one page to look through, suspects.html.

Scores and maps of `suspects` -> each image as the network sees it, beside its heat map, the
strangest first. One file that needs no other, in the style of report.html.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.calibration.suspects import LeftOut, Suspect
from patchcore_build.config import scoring_rule
from patchcore_build.data.training_inputs import Inputs
from patchcore_build.report.cards import View
from patchcore_build.report.html import jpeg_uri, render
from patchcore_runtime.explain.heatmap import HeatmapScale, overlay
from patchcore_runtime.files.whole import write_whole
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.scoring.rules import anomaly_map, map_matrix

REVIEW_PAGE = "suspects.html"
SHOWN = 40  # images on the page: about 2 MB


@dataclass(frozen=True, kw_only=True)
class SuspectCard:
    """One training image of the page; `width` and `height` are those of both views."""

    name: str
    score: float
    is_dropped: bool
    width: int
    height: int
    views: tuple[View, ...]


def write_review(
    folder: Path,
    found: LeftOut,
    features: TrainingFeatures,
    inputs: Inputs,
    suspects: tuple[Suspect, ...],
) -> Path:
    """Write suspects.html into a folder, over an earlier one; returns its path.

    Args:
        folder: Created if it is missing.
        found: How each image scores against the rows of the others.
        features: Of the N images that were scored.
        inputs: The same N images, as the network sees them.
        suspects: Those that are dropped; they are marked.

    Raises:
        ImageError: an image cannot be read.
        OutputError: the page cannot be written.
    """
    order = np.argsort(-found.scores, kind="stable")[:SHOWN]
    maps = _maps(found.distances[order], features)
    scale = _scale(found, maps)
    dropped = {suspect.image for suspect in suspects}
    cards = []
    for image, heat in zip(order.tolist(), maps, strict=True):
        pixels, _ = preprocess(inputs.paths[image], inputs.preprocessing)
        name = inputs.names[image]
        cards.append(
            SuspectCard(
                name=name,
                score=float(found.scores[image]),
                is_dropped=image in dropped,
                width=pixels.shape[1],
                height=pixels.shape[0],
                views=(
                    _view("image", f"Image {name}", pixels),
                    _view("heat map", f"Heat map of {name}", overlay(pixels, heat, scale)),
                ),
            )
        )
    page = render(
        "suspects.html.j2",
        suspects=cards,
        count=len(found.scores),
        dropped=len(suspects),
        median=float(np.median(found.scores)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REVIEW_PAGE
    write_whole(path, page.encode("utf-8"))
    return path


def _maps(distances: NDArray[np.float32], features: TrainingFeatures) -> list[NDArray[np.float32]]:
    """(n, h, w) -> n maps (H, W), smoothed like the artifact's."""
    size = features.size
    scoring = scoring_rule(features.config, size)
    rows = map_matrix(size.height, distances.shape[1], scoring)
    columns = map_matrix(size.width, distances.shape[2], scoring)
    return [anomaly_map(one, rows, columns) for one in distances]


def _scale(found: LeftOut, maps: list[NDArray[np.float32]]) -> HeatmapScale:
    """Nine tenths of all patches are dark; the middle is the median of the maps' maxima."""
    low = float(np.quantile(found.distances, 0.9))
    middle = max(float(np.median([heat.max() for heat in maps])), low + 1e-6 * max(1.0, low))
    return HeatmapScale(low=low, threshold=middle, high=2 * middle - low)


def _view(caption: str, alt: str, pixels: NDArray[np.uint8]) -> View:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=80)
    return View(caption=caption, alt=alt, uri=jpeg_uri(encoded.getvalue()), instead="")
