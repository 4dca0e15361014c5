"""Short names of execution providers, as people say them, beside onnxruntime's own.

cuda -> CUDAExecutionProvider; a name that is not in the table is unchanged.
"""

from collections.abc import Sequence

from patchcore_runtime.errors import SettingError

SHORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}


def full_names(providers: Sequence[str]) -> tuple[str, ...]:
    """Return onnxruntime's names, each once, in the same order.

    Raises:
        SettingError: the providers are one text, or none.
    """
    if isinstance(providers, str) or not providers:
        raise SettingError(
            f"providers: expected a list of execution providers, for instance ['cpu'], got "
            f"{providers!r}"
        )
    return tuple(dict.fromkeys(SHORT_NAMES.get(name.lower(), name) for name in providers))
