"""The graph of an own network: normalisation in front, neighbourhood behind, names in order.

onnx ModelProto of a file -> bytes of features.onnx in the form of artifacts/FORMAT.md. What
onnxruntime can compute in advance is computed in advance.
"""

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
from patchcore_build.errors import ExportError
from patchcore_build.export.graph_edits import replace_all
from patchcore_build.feature_layers import OwnNetwork
from patchcore_runtime.files.staging import scratch_folder

_PREFIX = "own/"
_IR_VERSION = 8
_TEXTS = (
    "producer_version", "domain", "model_version", "doc_string", "overload", "metadata_props",
    "functions", "quantization_annotation",
)  # fmt: skip


def assembled(
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
    grids = grids_of(network, pixels)
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


def folded(
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


def grids_of(network: OwnNetwork, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the rows and columns of each layer."""
    cells_px = network.plan.cells_px
    return [(size[0] // cell_px, size[1] // cell_px) for cell_px in cells_px]
