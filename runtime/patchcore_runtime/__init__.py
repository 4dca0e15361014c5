"""Score images with a PatchCore artifact on any CPU.

    from patchcore_runtime import Detector

    detector = Detector.load("artifacts/bottle")
    result = detector.predict("shot_0042.png")  # or bytes, PIL image, uint8 or uint16 array
    result.score, result.is_anomalous, result.p_value, result.anomaly_map

Importing is light: names are loaded when one is first used, onnxruntime when a detector loads.
"""

import typing as _typing

from patchcore_runtime.lazy_names import lazy_names as _lazy_names

if _typing.TYPE_CHECKING:
    from patchcore_runtime._version import __version__ as __version__
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
    "__version__": "patchcore_runtime._version",
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


__getattr__, __dir__ = _lazy_names(globals(), _MODULES)
