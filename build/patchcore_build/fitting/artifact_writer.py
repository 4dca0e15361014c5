"""Complete a staged artifact folder with manifest, self-test and checksums.

staging folder with graphs and bank -> complete artifact. artifacts/FORMAT.md defines the files.
"""

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any

from patchcore_build.config import Config, describe_features, plan_tiling, scoring_rule
from patchcore_build.data.roi import write_region
from patchcore_build.data.training_inputs import Inputs, digest_images
from patchcore_build.data.views import ANGLES, turn_photograph
from patchcore_build.fitting.selftest_image import write_selftest
from patchcore_runtime.artifact.folder import (
    FEATURES_MINDIR,
    MEMORY_BANK,
    THUMBNAILS,
    Artifact,
)
from patchcore_runtime.artifact.writing import EXACT_INDEX, seal
from patchcore_runtime.bank.memory_bank import MemoryBank, read_memory_bank
from patchcore_runtime.detector import Detector
from patchcore_runtime.image.preprocess import read_photograph
from patchcore_runtime.image.thumbnails import Thumbnail, make_thumbnail, write_thumbnails
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.manifest.manifest import (
    FORMAT,
    FORMAT_VERSION,
    Bank,
    Index,
    Manifest,
    SelfTest,
    Training,
)
from patchcore_runtime.manifest.monitoring import Monitoring

_PACKAGES = ("patchcore-build", "mindspore", "onnx", "onnxruntime", "numpy", "pillow")
_NO_SELFTEST_YET = SelfTest(
    score=0.0,
    layer_magnitudes=(),
    defect_box=(0, 0, 0, 0),
    score_tolerance=1e-3,
    map_tolerance=1e-3,
)


def provenance(
    staging: Path,
    *,
    weights: dict[str, str],
    device: str,
    quantization: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe how the artifact was made, without anything that changes from run to run.

    Args:
        staging: The folder that becomes the artifact.
        weights: Source of the network's parameters.
        device: Where MindSpore computed the features.
        quantization: How features.onnx became int8, and its accuracy; None for float32, which also
            has a features.mindir.
    """
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    made_by = {"weights": weights, "device": device}
    if quantization is not None:
        return {"packages": packages, **made_by, "quantization": quantization}
    if not (staging / FEATURES_MINDIR).exists():
        return {"packages": packages, **made_by}
    from patchcore_build.export.mindir import mind_ir_version

    version = mind_ir_version(staging / FEATURES_MINDIR)
    return {"packages": packages, "mind_ir_version": version, **made_by}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtifactFacts:
    """Content of the manifest that neither images nor bank give.

    `category` says what the images show. `dropped` has a line for each image that was left out as
    suspicious.
    """

    category: str
    config: Config
    monitoring: Monitoring
    provenance: dict[str, Any]
    index: Index = EXACT_INDEX
    dropped: tuple[str, ...] = ()


def write_manifest(
    staging: Path, inputs: Inputs, calibration: Calibration, facts: ArtifactFacts
) -> None:
    """Write roi.png, run the self-test on the staged files, write manifest.json and SHA256SUMS.

    Args:
        staging: The folder; it already contains graphs, bank and index.
        inputs: The training images; the self-test image is made from the middle one.
        calibration: The thresholds.
        facts: The rest of the manifest.
    """
    write_region(staging, inputs.roi)
    manifest = plan_manifest(staging, inputs, calibration, facts)
    detector = Detector(Artifact(staging, manifest))
    selftest = write_selftest(staging, detector, inputs.paths[len(inputs.paths) // 2])
    seal(staging, dataclasses.replace(manifest, selftest=selftest))


def keep_thumbnails(staging: Path, inputs: Inputs, bank: MemoryBank) -> None:
    """Write thumbnails.bin, for explanations: every training image with a row in the bank.

    Raises:
        ImageError: an image has become unreadable.
    """
    shown = set(bank.origins[:, 0].tolist())
    images = (
        make_thumbnail(
            turn_photograph(
                read_photograph(path, inputs.preprocessing, notes=[]),
                ANGLES[number % inputs.views],
            )
        )
        if number in shown
        else Thumbnail()
        for number, path in enumerate(inputs.paths)
    )
    write_thumbnails(staging / THUMBNAILS, list(images))


def plan_manifest(
    staging: Path, inputs: Inputs, calibration: Calibration, facts: ArtifactFacts
) -> Manifest:
    """The manifest of a folder with graphs and a bank, before the self-test is made."""
    bank = read_memory_bank(staging / MEMORY_BANK)
    config = facts.config
    return Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        preprocess=inputs.preprocessing,
        region=inputs.region,
        tiling=plan_tiling(config, inputs.preprocessing),
        features=describe_features(config, bank.channels),
        memory_bank=Bank(
            rows=bank.rows, neighbours=bank.neighbours.shape[1], precision=bank.precision
        ),
        index=facts.index,
        scoring=scoring_rule(config, inputs.preprocessing),
        calibration=calibration,
        monitoring=facts.monitoring,
        selftest=dataclasses.replace(
            _NO_SELFTEST_YET, layer_magnitudes=(0.0,) * 2 * len(bank.channels)
        ),
        training=Training(
            category=facts.category,
            images=inputs.names,
            skipped=inputs.skipped,
            dropped=facts.dropped,
            digest=digest_images(inputs),
            thumbnails="jpeg" if (staging / THUMBNAILS).exists() else "none",
        ),
        config=dataclasses.asdict(config),
        provenance=facts.provenance,
    )
