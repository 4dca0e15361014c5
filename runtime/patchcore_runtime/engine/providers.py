"""Short names of execution providers, as people say them, beside onnxruntime's own.

cuda -> CUDAExecutionProvider; a name that is not in the table is unchanged.
"""

from collections.abc import Iterable

SHORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}


def full_names(providers: Iterable[str]) -> tuple[str, ...]:
    """Return onnxruntime's names, each once, in the same order."""
    return tuple(dict.fromkeys(SHORT_NAMES.get(name.lower(), name) for name in providers))
