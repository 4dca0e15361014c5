"""Your own network: any ONNX file whose outputs are layers or tokens -> what it is.

FILE.onnx + names of outputs -> OwnNetwork: its patch and its grids. An output is a layer,
(B, C, h, w) or (B, h, w, C), or tokens (B, N, C) whose last h·w are the patches row by row.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

from patchcore_build.errors import ExportError, require
from patchcore_build.feature_layers import OwnNetwork
from patchcore_build.weights.read import digest
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.manifest.features import MOST_LAYERS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_PROBE_CELLS = 16  # patches along a side of the image that a file of free size is tried with
_PROBE_PX = 224
_MOST_BYTES = 2**31 - 1
_MOST_PREFIX_TOKENS = 16  # a class token and registers


def describe_network(
    path: Path,
    outputs: Sequence[str],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    patch_px: int | None = None,
) -> OwnNetwork:
    """Find the patch and the grids of some outputs, by running the file once on an empty image.

    Args:
        path: The ONNX file: one float32 input (B, 3, H, W), H and W fixed or free.
        outputs: Names of one to four outputs, layers (B, C, h, w) or tokens (B, N, C).
        mean: Mean that the network expects to be subtracted, RGB in units of full scale.
        std: Standard deviation that it expects to be divided by.
        patch_px: Side of a patch; by default it follows from the shapes.

    Raises:
        ExportError: the file is no such network; the message says what it has instead.
        SettingError: an option is out of range.
    """
    require(len(mean) == 3, "--mean", "three numbers", len(mean))
    require(len(std) == 3 and min(std) > 0, "--std", "three numbers above 0", tuple(std))
    model = load_network(path)
    source, size = input_of(path, model)
    _require_outputs(path, model, outputs)
    height, width = size or ((_PROBE_CELLS * patch_px,) * 2 if patch_px else (_PROBE_PX,) * 2)
    found = run_network(path, outputs, source, np.zeros((1, 3, height, width), np.float32))
    grids = [_grid_of(path, name, array.shape, (height, width), patch_px)
             for name, array in zip(outputs, found, strict=True)]  # fmt: skip
    order = sorted(range(len(outputs)), key=lambda at: grids[at][0])
    cells_px = [grids[at][0] for at in order]
    if patch_px is not None and cells_px[0] != patch_px:
        raise ExportError(
            f"{path}: {outputs[order[0]]}: expected patches of {patch_px} px, got "
            f"{cells_px[0]} px; leave out --patch, or name another output"
        )
    if any(cell % cells_px[0] for cell in cells_px):
        raise ExportError(
            f"{path}: expected grids that are whole multiples of each other, got cells of "
            f"{cells_px} px; choose other outputs"
        )
    prefixes = {grids[at][1] for at in order}
    if len(prefixes) > 1:
        raise ExportError(
            f"{path}: expected outputs of one kind, got layers and tokens; choose other outputs"
        )
    return OwnNetwork(
        file=path.name,
        sha256=digest(path),
        outputs=tuple(outputs[at] for at in order),
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        patch_px=cells_px[0],
        strides=tuple(cell // cells_px[0] for cell in cells_px),
        prefix_tokens=prefixes.pop(),
        size=size,
    )


def load_network(path: Path) -> Any:
    """Read an ONNX file with its external data.

    Raises:
        ExportError: it is not an ONNX network, or has control flow.
    """
    try:
        model = onnx.load_from_string(read_regular(path, limit=_MOST_BYTES))
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # protobuf and the checker raise kinds of their own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"{path}: not an ONNX network ({reason[:160]})") from None
    inner = [node.op_type for node in model.graph.node if node.op_type in _CONTROL_FLOW]
    if inner:
        raise ExportError(
            f"{path}: expected a network without control flow, got {inner[0]}; export it again "
            "with fixed branches"
        )
    return model


def input_of(path: Path, model: Any) -> tuple[str, tuple[int, int] | None]:
    """Return the name of the only input, and its height and width if they are fixed."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise ExportError(
            f"{path}: expected one input, got {', '.join(value.name for value in inputs) or 'none'}"
        )
    tensor = inputs[0].type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim]
    planes = len(sides) == 4 and sides[1] in (3, None)
    if tensor.elem_type != TensorProto.FLOAT or not planes:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        shown = " x ".join("?" if side is None else str(side) for side in sides)
        raise ExportError(
            f"{path}: {inputs[0].name}: expected float32 (B, 3, H, W), got {kind} ({shown}); "
            "export the network for RGB images with channels first"
        )
    if sides[2] is None or sides[3] is None:
        return inputs[0].name, None
    return inputs[0].name, (sides[2], sides[3])


def _require_outputs(path: Path, model: Any, outputs: Sequence[str]) -> None:
    there = [value.name for value in model.graph.output]
    if not 1 <= len(outputs) <= MOST_LAYERS or len(set(outputs)) != len(outputs):
        raise ExportError(
            f"{path}: --outputs: expected one to {MOST_LAYERS} different names of "
            f"{', '.join(there)[:200]}, got {', '.join(outputs)[:80] or 'none'}"
        )
    for name in outputs:
        if name not in there:
            raise ExportError(
                f"{path}: --outputs {name[:80]}: expected one of {', '.join(there)[:200]}"
            )


def _grid_of(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    size: tuple[int, int],
    patch_px: int | None,
) -> tuple[int, int]:
    """Return the side of a cell in pixels, and the tokens before those of the patches."""
    height, width = size
    if len(shape) == 4:
        for rows, columns in (shape[2:], shape[1:3]):  # channels first, or channels last
            cell_px = height // rows
            if cell_px * rows == height and cell_px * columns == width:
                return cell_px, 0
        raise ExportError(
            f"{path}: {name}: expected a grid that divides the input of {height} x {width} px, got "
            f"{shape[2]} x {shape[3]}; choose another output"
        )
    if len(shape) != 3:
        raise ExportError(
            f"{path}: {name}: expected (B, C, h, w) or (B, N, C), got {len(shape)} dimensions"
        )
    for cell_px in [patch_px] if patch_px else _divisors(math.gcd(height, width)):
        patches = (height // cell_px) * (width // cell_px)
        if 0 <= shape[1] - patches <= _MOST_PREFIX_TOKENS:
            return cell_px, shape[1] - patches
    raise ExportError(
        f"{path}: {name}: expected tokens of every patch, got {shape[1]} for an input of {height} "
        f"x {width} px; name the side of a patch by --patch"
    )


def _divisors(number: int) -> list[int]:
    return [side for side in range(4, 65) if number % side == 0]


def run_network(
    path: Path, outputs: Sequence[str], source: str, pixels: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Run the file itself, one image at a time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        found = [session.run(list(outputs), {source: image[None]}) for image in pixels]
    except Exception as error:  # onnxruntime's errors share no class
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        height, width = pixels.shape[2:]
        raise ExportError(
            f"{path}: cannot run on an image of {height} x {width} px ({reason[:160]}); give the "
            "side of a patch by --patch, or export the network with free height and width"
        ) from None
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]
