"""Put an artifact folder into place whole, with manifest, self-test and checksums.

staging folder with graphs and bank -> complete artifact. artifacts/FORMAT.md defines the files.
"""

import dataclasses
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from patchcore_build.config import Config, describe_features, plan_tiling, scoring_rule
from patchcore_build.errors import OutputError
from patchcore_build.roi import write_region
from patchcore_build.selftest import write_selftest
from patchcore_build.signing import Signer
from patchcore_build.staging import staging_folder
from patchcore_build.training_inputs import Inputs, digest_images
from patchcore_runtime.artifact import (
    FEATURES_MINDIR,
    MANIFEST,
    MEMORY_BANK,
    SHA256SUMS,
    SIGNATURE,
    Artifact,
    file_digest,
    files_of,
)
from patchcore_runtime.calibration import Calibration
from patchcore_runtime.detector import Detector
from patchcore_runtime.manifest import (
    FORMAT,
    FORMAT_VERSION,
    Bank,
    Index,
    Manifest,
    SelfTest,
    Training,
)
from patchcore_runtime.memory_bank import read_memory_bank
from patchcore_runtime.monitoring import Monitoring

_PACKAGES = ("patchcore-build", "mindspore", "onnx", "onnxruntime", "numpy", "pillow")
EXACT_INDEX = Index(kind="exact", effort=0, recall=1.0, score_change=0.0, mindir_candidates=0)
_NO_SELFTEST_YET = SelfTest(
    score=0.0,
    layer_magnitudes=(0.0, 0.0, 0.0, 0.0),
    defect_box=(0, 0, 0, 0),
    score_tolerance=1e-3,
    map_tolerance=1e-3,
)


@contextmanager
def new_folder(target: Path, *, sign: Path | None = None) -> Iterator[Path]:
    """A staging folder beside `target`, renamed to it when the block ends well.

    Args:
        target: The folder to make.
        sign: PEM of the private key that signs what the block has sealed; read before it begins.

    Raises:
        SignatureError: that key is none.
        OutputError: the target exists, cannot be written, or the disk is full; the staging folder
            and parents made for it are removed whatever happens in the block.
    """
    signer = Signer(sign) if sign is not None else None
    missing: list[Path] = []
    try:
        if target.exists():
            raise OutputError(
                f"{target}: exists already; choose another --output, or remove it first"
            )
        missing = [folder for folder in target.parents if not folder.exists()]
        with staging_folder(target) as staging:
            yield staging
            if signer is not None:
                (staging / SIGNATURE).write_bytes(signer.signature_of(staging))
            staging.rename(target)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        reason = error.strerror or type(error).__name__
        raise OutputError(f"{target}: cannot be written ({reason}); nothing was kept") from error
    finally:
        for folder in missing:
            with suppress(OSError):  # not empty: the target is in it
                folder.rmdir()


def provenance(
    staging: Path,
    *,
    weights: dict[str, str],
    device: str,
    quantization: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What the artifact was made of and with; nothing that changes from run to run.

    `quantization` says how features.onnx became int8 and what that cost; without it there is a
    features.mindir.
    """
    from patchcore_build.mindir import mind_ir_version

    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    made_by = {"weights": weights, "device": device}
    if quantization is not None:
        return {"packages": packages, **made_by, "quantization": quantization}
    version = mind_ir_version(staging / FEATURES_MINDIR)
    return {"packages": packages, "mind_ir_version": version, **made_by}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Making:
    """How an artifact came about: what the pictures show, all settings, `provenance`, its index.

    `dropped` has a line for each picture that was left out as suspicious.
    """

    category: str
    config: Config
    monitoring: Monitoring
    provenance: dict[str, Any]
    index: Index = EXACT_INDEX
    dropped: tuple[str, ...] = ()


def write_manifest(staging: Path, inputs: Inputs, calibration: Calibration, making: Making) -> None:
    """Write roi.png, run the self-test on the staged files, write manifest.json and SHA256SUMS.

    Args:
        staging: Holds graphs, bank and index already.
        inputs: The training pictures; the self-test is made of the middle one.
        calibration: Thresholds.
        making: Everything else that the manifest says.
    """
    write_region(staging, inputs.roi)
    manifest = plan_manifest(staging, inputs, calibration, making)
    detector = Detector(Artifact(staging, manifest))
    selftest = write_selftest(staging, detector, inputs.paths[len(inputs.paths) // 2])
    seal(staging, dataclasses.replace(manifest, selftest=selftest))


def plan_manifest(
    staging: Path, inputs: Inputs, calibration: Calibration, making: Making
) -> Manifest:
    """The manifest of graphs and a bank that are written, before there is a self-test."""
    bank = read_memory_bank(staging / MEMORY_BANK)
    config = making.config
    return Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        preprocess=inputs.preprocessing,
        region=inputs.region,
        tiling=plan_tiling(config, inputs.preprocessing),
        features=describe_features(config, inputs.preprocessing, bank.channels),
        memory_bank=Bank(
            rows=bank.rows, neighbours=bank.neighbours.shape[1], precision=bank.precision
        ),
        index=making.index,
        scoring=scoring_rule(config, inputs.preprocessing),
        calibration=calibration,
        monitoring=making.monitoring,
        selftest=_NO_SELFTEST_YET,
        training=Training(
            category=making.category,
            images=inputs.names,
            skipped=inputs.skipped,
            dropped=making.dropped,
            digest=digest_images(inputs),
        ),
        config=dataclasses.asdict(config),
        provenance=making.provenance,
    )


def seal(staging: Path, manifest: Manifest) -> None:
    """Write manifest.json and SHA256SUMS, when every other file is there."""
    (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sums = [f"{file_digest(staging / name)}  {name}\n" for name in sorted(files_of(manifest))]
    (staging / SHA256SUMS).write_text("".join(sums), encoding="utf-8")
