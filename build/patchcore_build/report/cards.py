"""Images of a gallery -> what the page's cards show, and what its script computes with.

The script decides as the product does: an image is flagged if its score is greater than the
threshold. JSON writes a double exactly, so that both compare the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchcore_build.report.charts import Chart
from patchcore_build.report.gallery import GalleryImage
from patchcore_build.report.html import jpeg_uri
from patchcore_runtime.explain.heatmap import HeatmapScale, colorize

MAX_IMAGES = 60  # in the page: at most 5 MB; report.json names every image
_STOPS = 16  # of the colour scale


@dataclass(frozen=True, kw_only=True)
class View:
    """One preview with its caption; without `uri`, `instead` says why."""

    caption: str
    alt: str
    uri: str | None
    instead: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One image of the page: number and kind are its places in the script's data."""

    number: int
    kind_number: int
    image: GalleryImage
    views: tuple[View, ...]


def make_cards(images: Sequence[GalleryImage], kinds: Sequence[str]) -> list[Card]:
    """The first MAX_IMAGES images as cards, in the order given.

    Args:
        images: All test images, the most confusing first.
        kinds: Every kind among them.
    """
    return [
        Card(
            number=number,
            kind_number=kinds.index(image.scored.defect),
            image=image,
            views=_views(image),
        )
        for number, image in enumerate(images[:MAX_IMAGES])
    ]


def _views(image: GalleryImage) -> tuple[View, ...]:
    name, previews = image.scored.name, image.previews
    shown = (
        ("image", f"Image {name}", previews.photo),
        ("truth", f"{name} with its marked defect outlined", previews.truth),
        ("heat map", f"Heat map of {name}", previews.heat),
    )
    return tuple(
        View(
            caption=caption,
            alt=alt,
            uri=None if jpeg is None else jpeg_uri(jpeg),
            instead=previews.no_truth,
        )
        for caption, alt, jpeg in shown
    )


def script_data(
    images: Sequence[GalleryImage], kinds: Sequence[str], threshold: float, charts: dict[str, Chart]
) -> dict[str, Any]:
    """What report.js reads.

    Args:
        images: All test images in the page's order; the first ones have cards.
        kinds: Every kind among them.
        threshold: The artifact's.
        charts: By the name of the chart.

    Returns:
        `threshold`; `kinds`, their names; `images`, for each the number of its kind, whether it
        has a defect (0 or 1), and its score; `units`, for each chart the points of its drawing
        that one unit of x and of y takes.
    """
    return {
        "threshold": threshold,
        "kinds": list(kinds),
        "images": [
            [kinds.index(image.scored.defect), int(image.scored.is_anomalous), image.scored.score]
            for image in images
        ],
        "units": {name: list(chart.unit) for name, chart in charts.items()},
    }


@dataclass(frozen=True, kw_only=True)
class ColorScale:
    """The heat maps' colours as a CSS gradient, and where on it the threshold is, in percent."""

    gradient: str
    low: float
    threshold: float
    high: float
    notch_percent: float


def color_scale(scale: HeatmapScale) -> ColorScale:
    """Describe the scale by colours at equal steps."""
    values = np.linspace(scale.low, scale.high, _STOPS + 1, dtype=np.float32)
    colors = colorize(values[None], scale)[0].tolist()
    return ColorScale(
        gradient=", ".join(f"rgb({red} {green} {blue})" for red, green, blue in colors),
        low=scale.low,
        threshold=scale.threshold,
        high=scale.high,
        notch_percent=round(100 * (scale.threshold - scale.low) / (scale.high - scale.low), 2),
    )
