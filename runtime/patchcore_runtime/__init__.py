"""Score images with a PatchCore artifact on any CPU.

    from patchcore_runtime import Detector

    detector = Detector.load("artifacts/bottle")
    result = detector.predict("shot_0042.png")  # path, PIL image or uint8 (H, W, 3) RGB
    result.score, result.is_anomalous, result.p_value, result.anomaly_map

Importing is light; onnxruntime is imported when a detector loads.
"""

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
