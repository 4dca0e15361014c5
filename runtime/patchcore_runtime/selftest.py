"""Run an artifact's self-test: compare this machine's results with the stored ones.

Artifact -> list of steps, each with its largest difference. Preprocessing must agree to the byte;
features, map and score must agree within the manifest's relative tolerances.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.artifact.folder import (
    SELFTEST_IMAGE,
    SELFTEST_INPUT,
    SELFTEST_MAP,
    Artifact,
)
from patchcore_runtime.detector import Detector
from patchcore_runtime.engine.session import CPU
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import open_regular
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.manifest.manifest import SelfTest
from patchcore_runtime.result import Result
from patchcore_runtime.search.open import Search


@dataclass(frozen=True, kw_only=True)
class SelfTestStep:
    """One stage of the pipeline, compared with the stored result."""

    name: str
    difference: float  # `input`: in grey levels; other steps: relative to the stored value
    tolerance: float

    @property
    def passed(self) -> bool:
        """Return whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


def run_selftest(
    artifact: Artifact,
    *,
    threads: int | None = None,
    providers: Sequence[str] = (CPU,),
    search: Search = "auto",
) -> list[SelfTestStep]:
    """Score the stored image and compare each stage.

    The stored results come from the artifact's own kind of index. With `search="exact"`, map and
    score may differ by as much as the manifest's `index.score_change`.

    Returns:
        The steps `input`, `features`, `map` and `score`, in the order of the pipeline.

    Raises:
        ArtifactError: a self-test file is missing, unreadable or of the wrong shape.
    """
    manifest = artifact.manifest
    stored_input = np.asarray(read_image(artifact.path(SELFTEST_INPUT)))
    stored_map = _read_map(artifact.path(SELFTEST_MAP))
    size = (manifest.preprocess.height, manifest.preprocess.width)
    for name, array in ((SELFTEST_INPUT, stored_input), (SELFTEST_MAP, stored_map)):
        if array.shape[:2] != size:
            raise ArtifactError(
                f"{artifact.path(name)}: expected {size[0]} x {size[1]}, got {array.shape}"
            )
    detector = Detector(artifact, threads=threads, providers=providers, search=search)
    pixels, placement = preprocess(artifact.path(SELFTEST_IMAGE), manifest.preprocess)
    layers = detector.features(pixels)
    result = detector.score_features(layers, placement)
    expected = manifest.selftest
    magnitudes = layer_magnitudes(layers)
    return [
        SelfTestStep(name="input", difference=_gap(pixels, stored_input), tolerance=0.0),
        SelfTestStep(
            name="features",
            difference=max(map(_relative_gap, magnitudes, expected.layer_magnitudes)),
            tolerance=expected.map_tolerance,
        ),
        SelfTestStep(
            name="map",
            difference=_gap(result.anomaly_map, stored_map) / max(_peak(stored_map), 1e-12),
            tolerance=expected.map_tolerance,
        ),
        SelfTestStep(
            name="score",
            difference=_relative_gap(result.score, expected.score),
            tolerance=expected.score_tolerance,
        ),
    ]


def layer_magnitudes(layers: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """Compute mean and largest absolute value of each layer in turn; sums are in float64."""
    levels = [np.abs(layer).astype(np.float64) for layer in layers]
    return tuple(float(value) for level in levels for value in (level.mean(), level.max()))


def rescore_selftest(folder: Path, detector: Detector) -> SelfTest:
    """Score the stored image again with another bank or index, and store the map in `folder`.

    Returns:
        The manifest's entry, with the new score.
    """
    result = detector.predict(folder / SELFTEST_IMAGE)
    write_selftest_map(folder, result)
    return dataclasses.replace(detector.manifest.selftest, score=result.score)


def write_selftest_map(folder: Path, result: Result) -> None:
    """Write the map that a reader's check must reproduce."""
    np.save(folder / SELFTEST_MAP, result.anomaly_map.astype("<f4"), allow_pickle=False)


def _read_map(path: Path) -> NDArray[np.float32]:
    try:
        with open_regular(path, own=True) as file:  # np.load would also accept a zip archive
            stored: NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ArtifactError(
            f"{path}: not a NumPy array ({reason}); copy the folder again"
        ) from None
    if stored.dtype != np.float32 or stored.ndim != 2:
        raise ArtifactError(f"{path}: expected float32 (H, W), got {stored.dtype} {stored.shape}")
    return stored


def _relative_gap(got: float, stored: float) -> float:
    gap = abs(got - stored) / max(abs(stored), 1e-12)
    return float("inf") if math.isnan(gap) else gap  # max() may drop a NaN


def _gap(left: NDArray[np.generic], right: NDArray[np.generic]) -> float:
    return float(np.abs(left.astype(np.float64) - right.astype(np.float64)).max())


def _peak(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max())
