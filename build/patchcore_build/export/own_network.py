"""Your own network: any ONNX file whose outputs are layers or tokens -> features.onnx.

FILE.onnx + names of outputs -> OwnNetwork (its patch and grids) -> a checked graph in the form of
artifacts/FORMAT.md. The normalisation goes in front and the average over neighbours behind, so
that every reader feeds plain 8-bit RGB. An output is a layer, (B, C, h, w) or (B, h, w, C), or
tokens (B, N, C) whose last h·w are the patches row by row. What onnxruntime can compute in advance
is computed.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from patchcore_build.backbone.neighbourhood import border_weight, grouped, pooling_weights
from patchcore_build.config import Config
from patchcore_build.errors import ExportError, SettingError, require
from patchcore_build.export.graph_edits import replace_all
from patchcore_build.feature_layers import MOST_LAYERS, OwnNetwork
from patchcore_build.weights.read import digest
from patchcore_runtime.engine.network import check_network
from patchcore_runtime.engine.onnx_model import read_model
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.files.whole import write_whole

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TOLERANCE = 1e-4  # relative, of features.onnx against the file

_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_PROBE_CELLS = 16  # patches along a side of the image that a file of free size is tried with
_PROBE_PX = 224
_PREFIX = "own/"
_IR_VERSION = 8
_MOST_BYTES = 2**31 - 1
_TEXTS = (
    "producer_version", "domain", "model_version", "doc_string", "overload", "metadata_props",
    "functions", "quantization_annotation",
)  # fmt: skip
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
    model = _load(path)
    source, size = _input_of(path, model)
    _require_outputs(path, model, outputs)
    height, width = size or ((_PROBE_CELLS * patch_px,) * 2 if patch_px else (_PROBE_PX,) * 2)
    found = _run(path, outputs, source, np.zeros((1, 3, height, width), np.float32))
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


def export_own_network(
    source: Path, target: Path, config: Config, images: NDArray[np.uint8], *, seed: int = 0
) -> float:
    """Write features.onnx of a file, and compare it with the file on real and random images.

    Args:
        source: The file that `describe_network` described in `config.network`.
        target: The file to write, whole or not at all.
        config: Network, neighbourhood, pooling and border rule.
        images: Real inputs, uint8 (N, H, W, 3), N >= 1; their size is that of features.onnx.
        seed: Seed of the random images.

    Returns:
        The largest difference of a layer, relative to its largest value.

    Raises:
        ExportError: the file has changed, has an operator that features.onnx may not hold, or
            gives other layers.
        OutputError: `target` cannot be written.
    """
    network = config.network
    if network is None:
        raise SettingError("config.network: expected what describe_network returns, got none")
    if digest(source) != network.sha256:
        raise ExportError(f"{source}: changed since it was described; start again")
    height, width = images.shape[1:3]
    model = _load(source)
    name, _ = _input_of(source, model)
    random = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), np.uint8)
    tried = np.concatenate([images[:2], random])
    raw = _run_on_images(source, name, network, tried)
    layers = [
        _as_layer(source, array, grid, network.prefix_tokens)
        for array, grid in zip(raw, _grids(network, (height, width)), strict=True)
    ]
    expected = [_after(layer, config) for layer in layers]
    whole = _assembled(model, name, config, network, raw, (height, width))
    shapes = [layer.shape[1:] for layer in expected]
    content = _folded(source, whole, (height, width), network, shapes)
    with scratch_folder() as folder:
        path = folder / "features.onnx"
        write_whole(path, content)
        _check(source, path)
        gap = _compare(source, path, tried, expected)
    write_whole(target, content)
    return gap


def _load(path: Path) -> Any:
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


def _input_of(path: Path, model: Any) -> tuple[str, tuple[int, int] | None]:
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


def _run(
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


def _run_on_images(
    path: Path, source: str, network: OwnNetwork, images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Run the file itself on uint8 images (B, H, W, 3), normalised in float64."""
    planes = images.transpose(0, 3, 1, 2).astype(np.float64) / 255
    mean, std = (np.reshape(of, (1, 3, 1, 1)) for of in (network.mean, network.std))
    return _run(path, network.outputs, source, ((planes - mean) / std).astype(np.float32))


def _grids(network: OwnNetwork, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the rows and columns of each layer."""
    cells_px = network.plan.cells_px
    return [(size[0] // cell_px, size[1] // cell_px) for cell_px in cells_px]


def _as_layer(
    path: Path, array: NDArray[np.float32], grid: tuple[int, int], prefix: int
) -> NDArray[np.float32]:
    """Return an output as a layer (B, C, h, w)."""
    if array.ndim == 3 and array.shape[1] == prefix + grid[0] * grid[1]:
        patches: NDArray[np.float32] = array[:, prefix:].transpose(0, 2, 1)
        return patches.reshape(*patches.shape[:2], *grid)
    if array.ndim == 4 and array.shape[2:] == grid:
        return array
    if array.ndim == 4 and array.shape[1:3] == grid:
        planes: NDArray[np.float32] = array.transpose(0, 3, 1, 2)
        return planes
    raise ExportError(
        f"{path}: expected a grid of {grid[0]} x {grid[1]} for this input, got {array.shape}; "
        "name the side of a patch by --patch"
    )


def _after(layer: NDArray[np.float32], config: Config) -> NDArray[np.float32]:
    side = config.neighbourhood
    reach = side // 2
    padded = np.pad(layer.astype(np.float64), ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    if config.pool_to:
        layers = len(config.plan.names)
        weights = pooling_weights(layer.shape[1], side, config.pool_to // layers, layers)
        found = np.einsum("bchwij,ocij->bohw", windows, weights, optimize=True)
    else:
        found = windows.mean(axis=(4, 5))
        if config.pooling_border == "not_counted":
            height, width = layer.shape[2:]
            found = found * border_weight((height, width), side)
    result: NDArray[np.float32] = found.astype(np.float32)
    return result


def _assembled(
    model: Any,
    source: str,
    config: Config,
    network: OwnNetwork,
    raw: Sequence[NDArray[np.float32]],
    pixels: tuple[int, int],
) -> Any:
    """Return the file's model between normalisation and neighbourhood; sizes are still free."""
    model = compose.add_prefix(model, prefix=_PREFIX)
    graph = model.graph
    scale = 1 / (255 * np.array(network.std))
    shift = np.array(network.mean) / np.array(network.std)
    before = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "shift"], [f"{_PREFIX}{source}"]),
    ]
    constants = {
        "scale": scale.reshape(1, 3, 1, 1).astype(np.float32),
        "shift": shift.reshape(1, 3, 1, 1).astype(np.float32),
    }
    after: list[Any] = []
    grids = _grids(network, pixels)
    for at, (name, array, grid) in enumerate(zip(network.outputs, raw, grids, strict=True)):
        own = f"{_PREFIX}{name}"
        if array.ndim == 3:
            shape = (array.shape[2], *grid)
            own = _token_nodes(at, own, shape, network.prefix_tokens, after, constants)
        elif array.shape[2:] == grid:
            shape = (array.shape[1], *grid)
        else:
            shape = (array.shape[3], *grid)
            after.append(helper.make_node("Transpose", [own], [f"layer_{at}"], perm=[0, 3, 1, 2]))
            own = f"layer_{at}"
        _neighbourhood_nodes(at, own, shape, config, after, constants)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array), name)
        for name, array in constants.items()
    )
    return model


def _token_nodes(
    at: int,
    own: str,
    shape: tuple[int, ...],
    prefix: int,
    nodes: list[Any],
    constants: dict[str, NDArray[Any]],
) -> str:
    """Add nodes: tokens (B, N, C) -> a layer (B, C, h, w)."""
    channels, height, width = shape
    bounds = {"first": prefix, "end": prefix + height * width, "axis": 1}
    for name, number in bounds.items():
        constants[f"{name}_{at}"] = np.array([number], np.int64)
    constants[f"shape_{at}"] = np.array([0, channels, height, width], np.int64)
    parts = [f"{name}_{at}" for name in bounds]
    nodes += [
        helper.make_node("Slice", [own, *parts], [f"patches_{at}"]),
        helper.make_node("Transpose", [f"patches_{at}"], [f"channels_{at}"], perm=[0, 2, 1]),
        helper.make_node("Reshape", [f"channels_{at}", f"shape_{at}"], [f"layer_{at}"]),
    ]
    return f"layer_{at}"


def _neighbourhood_nodes(
    at: int,
    own: str,
    shape: tuple[int, ...],
    config: Config,
    nodes: list[Any],
    constants: dict[str, NDArray[Any]],
) -> None:
    side, target = config.neighbourhood, f"output{at}"
    pads = [side // 2] * 4
    if config.pool_to:
        layers = len(config.plan.names)
        weights, groups = grouped(pooling_weights(shape[0], side, config.pool_to // layers, layers))
        constants[f"pooling_{at}"] = weights
        nodes.append(
            helper.make_node("Conv", [own, f"pooling_{at}"], [target], pads=pads, group=groups)
        )
        return
    if side == 1:
        nodes.append(helper.make_node("Identity", [own], [target]))
        return
    weighted = config.pooling_border == "not_counted"
    averaged = f"averaged_{at}" if weighted else target
    nodes.append(
        helper.make_node(
            "AveragePool",
            [own],
            [averaged],
            kernel_shape=[side, side],
            strides=[1, 1],
            pads=pads,
            count_include_pad=1,
        )
    )
    if weighted:
        constants[f"border_{at}"] = border_weight((shape[1], shape[2]), side)
        nodes.append(helper.make_node("Mul", [averaged, f"border_{at}"], [target]))


def _folded(
    path: Path,
    model: Any,
    size: tuple[int, int],
    network: OwnNetwork,
    shapes: Sequence[tuple[int, ...]],
) -> bytes:
    """Fix the input's size, compute constants in advance, and return the bytes of features.onnx."""
    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", *size, 3]))
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in network.plan.names
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with scratch_folder() as folder:
        options.optimized_model_filepath = str(folder / "folded.onnx")
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            folded = onnx.load(options.optimized_model_filepath)
        except Exception as error:  # onnxruntime's errors share no class
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ExportError(f"{path}: cannot be prepared ({reason[:200]})") from None
    return _canonical(folded, size, network, shapes)


def _canonical(
    model: Any, size: tuple[int, int], network: OwnNetwork, shapes: Sequence[tuple[int, ...]]
) -> bytes:
    """Number all names, remove texts and what nothing uses, and give the outputs their shapes."""
    graph = model.graph
    del graph.output[:], graph.value_info[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape])
        for name, shape in zip(network.plan.names, shapes, strict=True)
    )
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", *size, 3]))
    own = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", own[0].version))
    model.ir_version = _IR_VERSION
    model.producer_name = "patchcore-build"
    for part in (model, graph, *graph.node):
        for field in _TEXTS:
            if field in part.DESCRIPTOR.fields_by_name:
                part.ClearField(field)
    graph.name = "features"
    names = {name: name for name in ("", "images", *network.plan.names)}
    for number, tensor in enumerate(graph.initializer):
        names[tensor.name] = f"weight_{number}"
        _keep_raw(tensor, names[tensor.name])
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        kept = [attribute for attribute in node.attribute if attribute.name != "saturate"]
        replace_all(node.attribute, kept)  # it only concerns numbers of eight bits
        for slot, name in enumerate(node.input):
            node.input[slot] = names[name]
        for slot, name in enumerate(node.output):
            node.output[slot] = names.setdefault(name, f"value_{number}_{slot}")
    return bytes(model.SerializeToString(deterministic=True))


def _keep_raw(tensor: Any, name: str) -> None:
    """Store a tensor's numbers in one way, without texts."""
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), name))


def _check(source: Path, path: Path) -> None:
    """Refuse what no reader would take, in words about the file that was given."""
    try:
        check_network(path, read_model(path))
    except ArtifactError as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix("; copy the folder again")
        raise ExportError(
            f"{source}: {reason}; artifacts/FORMAT.md lists what features.onnx may hold: export "
            "the network with a free batch, by torch.onnx.export(dynamo=True) for instance"
        ) from None


def _compare(
    source: Path,
    path: Path,
    images: NDArray[np.uint8],
    expected: Sequence[NDArray[np.float32]],
) -> float:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = [session.run(names, {"images": image[None]}) for image in images]
    got = [np.concatenate(layer) for layer in zip(*outputs, strict=True)]
    worst = 0.0
    for name, layer, truth in zip(names, got, expected, strict=True):
        gap = float(np.abs(layer - truth).max() / max(float(np.abs(truth).max()), 1e-30))
        if not gap <= TOLERANCE:  # this also refuses NaN
            raise ExportError(
                f"{source}: {name}: expected the file's own values within {TOLERANCE:g} of the "
                f"largest, got {gap:g}; export the network in float32"
            )
        worst = max(worst, gap)
    return worst
