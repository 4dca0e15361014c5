"""Published figures on MVTec AD, to compare with ours.

name of a source -> image and pixel AUROC per category, copied from that source. A source that only
publishes averages has no figures per category.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MVTEC_AD = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut",
    "pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published run: its name, its source, and its AUROCs."""

    name: str
    source: str
    image_auroc: Mapping[str, float]  # per category; empty if only the average is published
    pixel_auroc: Mapping[str, float]
    image_average: float  # over all fifteen categories, as published
    pixel_average: float

    def average(self, metric: str, categories: Sequence[str]) -> float | None:
        """Mean over some categories; None if one of them is not published.

        Args:
            metric: `image_auroc` or `pixel_auroc`.
            categories: The categories of our benchmark.
        """
        figures: Mapping[str, float] = getattr(self, metric)
        if not categories or any(category not in figures for category in categories):
            complete = set(categories) == set(MVTEC_AD)
            whole: float = getattr(self, metric.replace("auroc", "average"))
            return whole if complete else None
        return sum(figures[category] for category in categories) / len(categories)


def _by_category(*figures: float) -> dict[str, float]:
    return dict(zip(MVTEC_AD, figures, strict=True))


_MODELS = "github.com/mindspore-ai/models, official/cv/PatchCore/README.md"
_ANOMALIB = "github.com/openvinotoolkit/anomalib, src/anomalib/models/image/patchcore/README.md"
_PAPER = "Roth et al. 2021, arXiv:2106.08265, averages over MVTec AD"

PUBLISHED = (
    Published(
        name="MindSpore Models, Ascend 910",
        source=_MODELS,
        image_auroc=_by_category(
            1.0, 0.9946, 0.9813, 0.9896, 0.9741, 1.0, 1.0, 0.9990,
            0.9539, 0.9477, 0.9859, 0.9917, 1.0, 0.9930, 0.9945,
        ),
        pixel_auroc=_by_category(
            0.9812, 0.9833, 0.9887, 0.9886, 0.9698, 0.9841, 0.9904, 0.9850,
            0.9781, 0.9799, 0.9491, 0.9866, 0.9728, 0.9379, 0.9836,
        ),
        image_average=0.9870,
        pixel_average=0.9773,
    ),
    Published(
        name="MindSpore Models, GPU",
        source=_MODELS,
        image_auroc=_by_category(
            1.0, 0.9930, 0.9772, 0.9884, 0.9766, 1.0, 1.0, 0.9970,
            0.9563, 0.9106, 0.9862, 0.9889, 0.9996, 0.9930, 0.9966,
        ),
        pixel_auroc=_by_category(
            0.9810, 0.9816, 0.9886, 0.9885, 0.9700, 0.9839, 0.9904, 0.9845,
            0.9786, 0.9834, 0.9477, 0.9859, 0.9748, 0.9358, 0.9834,
        ),
        image_average=0.9842,
        pixel_average=0.9772,
    ),
    Published(
        name="MindSpore Models, Ascend 310",
        source=_MODELS + " (average computed here)",
        image_auroc=_by_category(
            1.0, 0.9964, 0.9852, 0.9928, 0.9816, 1.0, 1.0, 1.0,
            0.9414, 0.9108, 0.9917, 1.0, 1.0, 0.9895, 0.9966,
        ),
        pixel_auroc=_by_category(
            0.9810, 0.9827, 0.9886, 0.9886, 0.9670, 0.9844, 0.9904, 0.9812,
            0.9794, 0.9826, 0.9490, 0.9860, 0.9718, 0.9376, 0.9842,
        ),
        image_average=0.9857,
        pixel_average=0.9770,
    ),
    Published(
        name="paper, wide_resnet50_2, 1 %",
        source=_PAPER,
        image_auroc={},
        pixel_auroc={},
        image_average=0.990,
        pixel_average=0.980,
    ),
    Published(
        name="anomalib, wide_resnet50_2",
        source=_ANOMALIB,
        image_auroc=_by_category(
            1.0, 0.990, 0.982, 0.984, 0.959, 1.0, 1.0, 0.994,
            0.924, 0.960, 1.0, 0.933, 1.0, 0.989, 0.982,
        ),
        pixel_auroc=_by_category(
            0.984, 0.988, 0.988, 0.988, 0.968, 0.987, 0.991, 0.989,
            0.980, 0.989, 0.961, 0.988, 0.981, 0.934, 0.983,
        ),
        image_average=0.980,
        pixel_average=0.980,
    ),
    Published(
        name="anomalib, resnet18",
        source=_ANOMALIB,
        image_auroc=_by_category(
            1.0, 0.986, 0.965, 0.970, 0.947, 1.0, 1.0, 0.991,
            0.916, 0.943, 0.997, 0.931, 0.996, 0.997, 0.953,
        ),
        pixel_auroc=_by_category(
            0.981, 0.984, 0.986, 0.986, 0.955, 0.986, 0.990, 0.986,
            0.974, 0.991, 0.943, 0.988, 0.974, 0.933, 0.983,
        ),
        image_average=0.973,
        pixel_average=0.976,
    ),
)  # fmt: skip
