"""Read trained weights from any supported file, under MindSpore's parameter names.

FILE (.pth, .pt, .safetensors or .ckpt) -> {MindSpore parameter name: float32 array}

Our backbone carries torchvision's module names, so only the leaves of batch norm layers change:
weight -> gamma, bias -> beta, running_mean -> moving_mean, running_var -> moving_variance.
Source: mindspore.nn.BatchNorm2d. MindSpore is imported only when its own checkpoints are read.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from patchcore_build.errors import WeightsError
from patchcore_build.vision_transformers import VITS
from patchcore_build.weights.torch_checkpoint import LEGACY_MAGIC, ZIP_MAGIC, read_torch_checkpoint
from patchcore_runtime.artifact.folder import hash_file
from patchcore_runtime.files.regular import open_regular, read_regular

Weights = dict[str, NDArray[np.float32]]

_BATCH_NORM_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# safetensors' names of the floating types; weights are never anything else.
_FLOAT_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

_WITH_DIGITS = re.compile(r"dinov3_vit\w+-([0-9a-f]{8})\.pth")
_MOST_BYTES = 2**33  # of a file of weights


def read_weights(path: Path) -> Weights:
    """Read weights under MindSpore's parameter names, from torchvision or MindSpore files.

    The content decides about the format; the suffix counts only if the content is ambiguous.
    `num_batches_tracked` is dropped. MindSpore's own names stay unchanged.

    Args:
        path: `.pth` or `.pt` (both torch.save containers), `.safetensors`, or MindSpore `.ckpt`.

    Returns:
        C-contiguous float32 arrays in file order.

    Raises:
        WeightsError: The file is missing, corrupt, hostile or of another kind.
    """
    return mindspore_names(_choose_reader(path)(path), str(path))


def mindspore_names(raw: Mapping[str, NDArray[Any]], source: str) -> Weights:
    """Rename PyTorch's parameters of batch norm layers; drop `num_batches_tracked`.

    Args:
        raw: Arrays by name.
        source: File of the arrays, for the error message.

    Raises:
        WeightsError: a parameter has both names.
    """
    batch_norms = {
        name.removesuffix(".running_mean") for name in raw if name.endswith(".running_mean")
    }
    weights = {}
    for name, array in raw.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        new = f"{module}.{_BATCH_NORM_LEAVES.get(leaf, leaf)}" if module in batch_norms else name
        if new in weights:
            raise WeightsError(f"{source}: holds {new} twice, under PyTorch's and MindSpore's name")
        with np.errstate(
            over="ignore"
        ):  # a huge float64 becomes inf, which `match_weights` refuses
            weights[new] = np.array(array, dtype=np.float32, order="C")
    return weights


def check_source(backbone: str, weights: str | None) -> None:
    """Check before long work that there is a source of a network's parameters.

    Args:
        backbone: Name of the network.
        weights: A file, `auto` or `random`; None for the scattering network.

    Raises:
        WeightsError: no source is given, or the file cannot be read.
    """
    if weights == "auto" and backbone in VITS:
        raise WeightsError(
            f"--backbone {backbone}: expected --weights FILE (.pth, .safetensors, .ckpt), got "
            "auto, which fetches torchvision's networks only; get the file from "
            f"https://github.com/facebookresearch/{backbone[:6]}"
        )
    if backbone == "scattering" or weights in ("auto", "random"):
        return
    if weights is None:
        raise WeightsError(
            f"--backbone {backbone}: expected --weights FILE (.pth, .safetensors, .ckpt) or "
            "--weights auto to download torchvision's; --backbone scattering needs none"
        )
    _choose_reader(Path(weights))


def digest(path: Path) -> str:
    """Compute the SHA-256 of a weights file.

    Returns:
        64 lower-case hexadecimal digits, as sha256sum prints them.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        return hash_file(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def promised_digest(path: Path) -> str:
    """Compute the SHA-256 of a weights file, which must begin as the file's name says.

    The names of DINOv3's official files end in its first eight digits.

    Raises:
        WeightsError: The file cannot be read, or has another digest.
    """
    got, named = digest(path), _WITH_DIGITS.fullmatch(path.name)
    if named is not None and not got.startswith(named[1]):
        raise WeightsError(
            f"{path}: expected a SHA-256 that begins with {named[1]}, as its name says, got "
            f"{got[:8]}; get the file again"
        )
    return got


def _choose_reader(path: Path) -> Callable[[Path], Mapping[str, NDArray[Any]]]:
    try:
        with open_regular(path) as file:
            start = file.read(len(LEGACY_MAGIC))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start.startswith(ZIP_MAGIC) or start == LEGACY_MAGIC:
        return read_torch_checkpoint
    if start[8:9] == b"{":  # safetensors: eight bytes of length, then a JSON header
        return _read_safetensors
    readers = {
        ".pth": read_torch_checkpoint,
        ".pt": read_torch_checkpoint,
        ".safetensors": _read_safetensors,
        ".ckpt": _read_mindspore,
    }
    if path.suffix not in readers:
        raise WeightsError(f"{path}: expected one of {', '.join(readers)}; pass a weights file")
    return readers[path.suffix]


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        entries = safetensors.deserialize(read_regular(path, limit=_MOST_BYTES))  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a safetensors file ({one_line(error)}); get it again"
        ) from error
    arrays = {}
    for name, entry in entries:
        dtype = _FLOAT_DTYPES.get(entry["dtype"])
        if dtype is None:
            if name.endswith("num_batches_tracked"):
                continue
            raise WeightsError(
                f"{path}: {name!a} is {entry['dtype']}, expected one of {', '.join(_FLOAT_DTYPES)};"
                " save the weights as floating point numbers"
            )
        if 0 in entry["shape"]:
            raise WeightsError(
                f"{path}: {name!a} has the shape {entry['shape']}, expected sides of 1 or more; "
                "get the file again"
            )
        array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
        if dtype == "<u2":  # bfloat16 is the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    return arrays


def _read_mindspore(path: Path) -> dict[str, NDArray[Any]]:
    import mindspore  # imported here because it takes three seconds

    try:
        parameters = mindspore.load_checkpoint(str(path))
        # Strings beside the parameters are notes of the training (`append_info`).
        return {name: p.asnumpy() for name, p in parameters.items() if not isinstance(p, str)}
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: not a MindSpore checkpoint of NumPy types ({one_line(error)}); get it again"
        ) from error


def one_line(error: Exception) -> str:
    """The message of an error on one line, 200 characters at most."""
    return " ".join(str(error).split())[:200]
