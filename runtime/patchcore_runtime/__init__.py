"""Score images with a PatchCore artifact on any CPU.

    from patchcore_runtime import Detector

    detector = Detector.load("artifacts/bottle")
    result = detector.predict("shot_0042.png")  # path, PIL image or uint8 (H, W, 3) RGB
    result.score, result.is_anomalous, result.p_value, result.anomaly_map

Importing is light: a name is loaded when it is first used, and onnxruntime when a detector loads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from patchcore_runtime._version import __version__ as __version__

if TYPE_CHECKING:
    from patchcore_runtime.artifact.folder import Artifact
    from patchcore_runtime.detector import Detector
    from patchcore_runtime.errors import (
        ArtifactError,
        ImageError,
        MonitorError,
        PatchCoreError,
        ProviderError,
        ThresholdError,
    )
    from patchcore_runtime.monitor.monitor import Monitor
    from patchcore_runtime.result import Result

__all__ = [
    "Artifact",
    "ArtifactError",
    "Detector",
    "ImageError",
    "Monitor",
    "MonitorError",
    "PatchCoreError",
    "ProviderError",
    "Result",
    "ThresholdError",
]

_MODULES = {
    "Artifact": "patchcore_runtime.artifact.folder",
    "ArtifactError": "patchcore_runtime.errors",
    "Detector": "patchcore_runtime.detector",
    "ImageError": "patchcore_runtime.errors",
    "Monitor": "patchcore_runtime.monitor.monitor",
    "MonitorError": "patchcore_runtime.errors",
    "PatchCoreError": "patchcore_runtime.errors",
    "ProviderError": "patchcore_runtime.errors",
    "Result": "patchcore_runtime.result",
    "ThresholdError": "patchcore_runtime.errors",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
