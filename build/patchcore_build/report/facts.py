"""Manifest and evaluation -> what a report says besides the metrics, and report.json whole."""

import dataclasses
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from patchcore_build.data.dataset import GOOD
from patchcore_build.evaluation.evaluate import Evaluation
from patchcore_runtime.manifest.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class ArtifactFacts:
    """Which artifact was tested."""

    category: str  # it was built for
    recipe: str
    backbone: str
    input_height: int
    input_width: int
    rows: int  # of the memory bank
    image_threshold: float
    pixel_threshold: float


@dataclass(frozen=True, kw_only=True)
class KindFacts:
    """One kind of test image; `flagged` is detected for a defect, a false alarm for good ones."""

    kind: str
    images: int
    flagged: int
    median_score: float


def sort_kinds(kinds: Iterable[str]) -> list[str]:
    """Each kind of image once: good ones first, then defects by name."""
    return sorted(set(kinds), key=lambda kind: (kind != GOOD, kind))


def artifact_facts(manifest: Manifest) -> ArtifactFacts:
    """Select from the manifest what a reader of figures must know."""
    return ArtifactFacts(
        category=manifest.training.category,
        recipe=str(manifest.config.get("recipe", "unnamed")),
        backbone=manifest.features.backbone,
        input_height=manifest.preprocess.height,
        input_width=manifest.preprocess.width,
        rows=manifest.memory_bank.rows,
        image_threshold=manifest.calibration.image_threshold,
        pixel_threshold=manifest.calibration.pixel_threshold,
    )


def kind_facts(evaluation: Evaluation) -> tuple[KindFacts, ...]:
    """Count each kind of image, in the order of `sort_kinds`."""
    facts = []
    for kind in sort_kinds(image.defect for image in evaluation.images):
        images = [image for image in evaluation.images if image.defect == kind]
        facts.append(
            KindFacts(
                kind=kind,
                images=len(images),
                flagged=sum(image.is_flagged for image in images),
                median_score=statistics.median(image.score for image in images),
            )
        )
    return tuple(facts)


def report_dict(evaluation: Evaluation, manifest: Manifest) -> dict[str, Any]:
    """The content of report.json: the evaluation, the artifact, and the kinds of images."""
    return {
        "artifact": dataclasses.asdict(artifact_facts(manifest)),
        **evaluation.to_dict(),
        "kinds": [dataclasses.asdict(facts) for facts in kind_facts(evaluation)],
    }
