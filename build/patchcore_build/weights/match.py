"""Bring trained weights of a ResNet into MindSpore, whatever file they come in.

FILE (.pth, .pt, .safetensors or .ckpt) -> {MindSpore parameter name: float32 array} -> FILE.ckpt

Our backbone carries torchvision's module names, so only the leaves of batch norm layers change:
weight -> gamma, bias -> beta, running_mean -> moving_mean, running_var -> moving_variance.
Sources: torchvision.models.resnet; mindspore.nn.BatchNorm2d. MindSpore is imported only where its
own checkpoints are read or written.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from patchcore_build.errors import OutputError, WeightsError
from patchcore_build.weights.torch_checkpoint import LEGACY_MAGIC, ZIP_MAGIC, read_torch_checkpoint
from patchcore_runtime.artifact.folder import hash_file
from patchcore_runtime.files.whole import written_whole

Weights = dict[str, NDArray[np.float32]]

_BATCH_NORM_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# A whole torchvision classifier goes on behind the layers that PatchCore uses.
_SURPLUS_PREFIXES = ("layer4.", "fc.")
# safetensors' names of the floating types; weights are never anything else.
_FLOAT_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# Blocks in layer3, bottleneck or not, (out, in) of layer1.0.conv2 -> torchvision's name.
_BACKBONES: dict[tuple[int | bool, ...], str] = {
    (2, False, 64, 64): "resnet18",
    (6, False, 64, 64): "resnet34",
    (6, True, 64, 64): "resnet50",
    (23, True, 64, 64): "resnet101",
    (6, True, 128, 128): "wide_resnet50_2",
    (23, True, 128, 128): "wide_resnet101_2",
}


def read_weights(path: Path) -> Weights:
    """Read weights under MindSpore's parameter names, from torchvision or MindSpore files.

    The content decides about the format and the suffix only where the content says nothing.
    `num_batches_tracked` is dropped; names that are MindSpore's already stay.

    Args:
        path: `.pth` or `.pt` (both torch.save containers), `.safetensors`, or MindSpore `.ckpt`.

    Returns:
        C-contiguous float32 arrays in file order.

    Raises:
        WeightsError: The file is missing, damaged, hostile or of another kind.
    """
    raw = _choose_reader(path)(path)
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
            raise WeightsError(f"{path}: holds {new} twice, under PyTorch's and MindSpore's name")
        with np.errstate(over="ignore"):  # a float64 too large becomes inf, which is refused later
            weights[new] = np.array(array, dtype=np.float32, order="C")
    return weights


def match_weights(
    weights: Weights, expected: Mapping[str, tuple[int, ...]], *, source: str
) -> Weights:
    """Keep exactly the tensors a backbone needs, or say what does not fit.

    `layer4.*` and `fc.*` of a complete torchvision classifier are dropped silently, unless
    `expected` asks for them.

    Args:
        weights: Arrays by MindSpore parameter name.
        expected: Shape of every parameter of the backbone, by the same names.
        source: Where the weights come from, for the message.

    Returns:
        The arrays of `weights` in the order of `expected`.

    Raises:
        WeightsError: A tensor is missing, surplus, of another shape, not finite, or a variance
            is negative.
    """
    kept = {
        name: array
        for name, array in weights.items()
        if name in expected or not name.startswith(_SURPLUS_PREFIXES)
    }
    misshapen = [
        f"{name} (expected {_sides(shape)}, got {_sides(kept[name].shape)})"
        for name, shape in expected.items()
        if name in kept and kept[name].shape != tuple(shape)
    ]
    problems = [
        *_list("missing", [name for name in expected if name not in kept]),
        *_list("surplus", [name for name in kept if name not in expected]),
        *_list("of another shape", misshapen),
    ]
    if problems:
        shapes = {name: array.shape for name, array in weights.items()}
        raise WeightsError(
            f"{source}: does not fit the backbone: {'; '.join(problems)}; "
            + _advice(name_backbone(shapes), name_backbone(expected))
        )
    broken = [name for name in expected if not _is_usable(name, kept[name])]
    if broken:
        raise WeightsError(
            f"{source}: {_list('with NaN, infinite or negative variance values', broken)[0]};"
            " expected finite numbers; the file is damaged or its training diverged, get another"
        )
    return {name: kept[name] for name in expected}


def convert_weights(
    source: Path,
    target: Path,
    expected: Mapping[str, tuple[int, ...]],
    *,
    overwrite: bool = False,
) -> None:
    """Write the weights in `source` as a MindSpore checkpoint that holds exactly `expected`.

    The checkpoint appears whole or not at all, and the same weights give the same bytes.

    Args:
        source: Any file `read_weights` reads.
        target: The checkpoint to write, `*.ckpt`; missing folders are made.
        expected: Shape of every parameter of the backbone, by MindSpore name.
        overwrite: Replace an existing `target`.

    Raises:
        WeightsError: `source` cannot be read or does not fit.
        OutputError: `target` exists, is not a `.ckpt`, or cannot be written.
    """
    if target.suffix != ".ckpt":
        raise OutputError(f"{target}: expected a name that ends in .ckpt; rename the output")
    if target.exists() and not overwrite:
        raise OutputError(f"{target}: exists already; choose another name or allow overwriting")
    weights = match_weights(read_weights(source), expected, source=str(source))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as unfinished:
            _save_checkpoint(weights, unfinished)
            unfinished.chmod(0o644)  # MindSpore leaves it unwritable and unreadable for others
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"{target}: cannot be written ({_one_line(error)}); free the disk or choose another"
            " folder"
        ) from error


def digest(path: Path) -> str:
    """Hash a weights file with SHA-256.

    Returns:
        64 lower-case hexadecimal digits, as sha256sum prints them.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        return hash_file(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def name_backbone(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Recognise a torchvision ResNet by its tensors.

    Args:
        shapes: Shapes by parameter name, with torchvision's module names.

    Returns:
        torchvision's name, such as "wide_resnet50_2", or None for any other network.
    """
    blocks = sum(f"layer3.{number}.conv1.weight" in shapes for number in range(64))
    width = shapes.get("layer1.0.conv2.weight", (0, 0))[:2]
    return _BACKBONES.get((blocks, "layer1.0.conv3.weight" in shapes, *width))


def _choose_reader(path: Path) -> Callable[[Path], Mapping[str, NDArray[Any]]]:
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_MAGIC))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start.startswith(ZIP_MAGIC) or start == LEGACY_MAGIC:
        return read_torch_checkpoint
    if start[8:9] == b"{":  # behind the length of safetensors' JSON header
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
        entries = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a safetensors file ({_one_line(error)}); get it again"
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
        array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
        if dtype == "<u2":  # bfloat16 is the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    return arrays


def _read_mindspore(path: Path) -> dict[str, NDArray[Any]]:
    import mindspore  # here and not above: it costs three seconds

    try:
        parameters = mindspore.load_checkpoint(str(path))
        # Training notes (`append_info`) come as strings beside the parameters.
        return {name: p.asnumpy() for name, p in parameters.items() if not isinstance(p, str)}
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: not a MindSpore checkpoint of NumPy types ({_one_line(error)}); get it again"
        ) from error


def _save_checkpoint(weights: Weights, path: Path) -> None:
    import mindspore  # here and not above: it costs three seconds

    entries = [{"name": name, "data": mindspore.Tensor(array)} for name, array in weights.items()]
    mindspore.save_checkpoint(entries, str(path))


def _is_usable(name: str, array: NDArray[np.float32]) -> bool:
    if not np.isfinite(array).all():
        return False
    return not (name.endswith(".moving_variance") and bool((array < 0).any()))


def _list(what: str, items: list[str]) -> list[str]:
    """Count `items` and show the first three; nothing when there are none."""
    printable = [item if item.isprintable() else ascii(item) for item in items[:3]]
    shown = ", ".join(item[:200] for item in printable) + (", ..." if len(items) > 3 else "")
    return [f"{len(items)} {what}: {shown}"] if items else []


def _sides(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _advice(found: str | None, wanted: str | None) -> str:
    if found == wanted:
        return "save the plain state dict of the torchvision model"
    backbone = f" for {wanted}" if wanted else ""
    if found is None:
        return f"the file is none of {', '.join(_BACKBONES.values())}; get torchvision's{backbone}"
    return f"the file looks like {found}: choose that backbone or get the file{backbone}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
