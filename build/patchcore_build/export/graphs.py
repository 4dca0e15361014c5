"""Write the feature network to files, and compare them: Cell -> features.onnx, features.mindir.

Input `images` uint8 (B, H, W, 3), an output (B, C, h/s, w/s) float32 for each layer, by its name; B
is free, all other sizes are fixed. MindSpore's exporters put counters of the process
into names. So the files are brought to a canonical form, in which the same network has the same
bytes. In the ONNX file, paddings and BatchNorm are fused (`fusions`), and transformers become
the operators that engines know (`transformers`).
Call `patchcore_build.backbone.device.open_device` first.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from patchcore_build.errors import ExportError
from patchcore_build.export.fusions import fold_norms, fold_paddings
from patchcore_build.export.graph_edits import made_by, read_counts
from patchcore_build.export.mindir import canonical
from patchcore_build.export.transformers import (
    OPSET,
    fold_biases,
    fold_layer_norms,
    restore_erf,
    stand_in,
)
from patchcore_build.feature_layers import DEFAULT_LAYERS
from patchcore_runtime.files.whole import write_whole

INPUT = "images"
BATCH_AXIS = "B"


def export_onnx(
    make_cell: Callable[[], Any],
    path: Path,
    *,
    height: int,
    width: int,
    layers: Sequence[str] = DEFAULT_LAYERS,
) -> None:
    """Write the network as ONNX (opset 11, or 17) with its parameters, in canonical form.

    Not thread-safe: the process changes to a temporary directory meanwhile. wide_resnet50_2's 25 M
    parameters take about 5 s and, for a moment, 0.6 GB.

    Args:
        make_cell: Makes a new Cell; exporting one Cell twice fails in MindSpore 2.10.
        path: The file to write, whole or not at all; its folder exists.
        height: H in pixels.
        width: W in pixels.
        layers: Names of the outputs, in order.

    Raises:
        ExportError: MindSpore or the ONNX checker rejects the network.
        OutputError: `path` cannot be written.
    """
    cell = make_cell().set_train(False)
    stand_in(cell)
    with _scratch_directory(path):
        ms.onnx.export(
            cell,
            _any_batch(height, width),
            file_name="features.onnx",
            input_names=[INPUT],
            output_names=list(layers),
        )
        model = onnx.load("features.onnx")
    _name_outputs(model.graph)
    restore_erf(model.graph)
    if fold_layer_norms(model.graph):
        model.opset_import[0].version = OPSET
    fold_biases(model.graph)
    _canonise(model, parameters=set(cell.parameters_dict()))
    _free_batch(model, path, layers)
    fold_paddings(model.graph)
    fold_norms(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _refusal(path, error) from error
    write_whole(path, model.SerializeToString(deterministic=True))


def export_mindir(make_cell: Callable[[], Any], path: Path, *, height: int, width: int) -> None:
    """Write the network as MindIR with its parameters, in canonical form.

    Not thread-safe: the process changes to a temporary directory meanwhile. wide_resnet50_2's 25 M
    parameters take about 3 s and, for a moment, 0.6 GB.

    Args:
        make_cell: Makes a new Cell.
        path: The file to write, whole or not at all; its folder exists, its name ends in .mindir.
        height: H in pixels.
        width: W in pixels.

    Raises:
        ExportError: MindSpore rejects the network, or it has more than 1 GiB of parameters.
        OutputError: `path` cannot be written.
    """
    write_mindir(make_cell().set_train(False), _any_batch(height, width), path)


def write_mindir(cell: Any, inputs: Any, path: Path) -> None:
    """Write a cell as canonical MindIR; it must not have been exported before.

    Not thread-safe, like `export_mindir`.

    Args:
        cell: The cell.
        inputs: A Tensor with the shape and type of its input.
        path: The file to write, whole or not at all.

    Raises:
        ExportError: MindSpore rejects the network, or it has more than 1 GiB of parameters.
        OutputError: `path` cannot be written.
    """
    with _scratch_directory(path):
        written = Path("export.mindir")
        ms.export(cell, inputs, file_name=str(written), file_format="MINDIR")
        if not written.is_file():  # above 1 GiB MindSpore writes a graph and a folder instead
            raise ExportError(
                f"{path}: expected parameters under 1 GiB, got more; use a smaller net"
            )
        model = written.read_bytes()
    write_whole(path, canonical(model))


def compare_onnx(
    path: Path,
    images: NDArray[np.uint8],
    expected: Sequence[NDArray[np.float32]],
    *,
    tolerance: float,
) -> float:
    """Run an ONNX file with onnxruntime on the CPU, and compare its layers with MindSpore's.

    Args:
        path: A file of `export_onnx`.
        images: uint8 (B, H, W, 3), real or random pixels; zeros would hide differences.
        expected: Each layer, (B, C, h/s, w/s).
        tolerance: Largest allowed max|a - b| / max|b| of a layer.

    Returns:
        The largest difference of the layers, by the same measure.

    Raises:
        ExportError: a layer differs in shape, by more than `tolerance`, or is not finite.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    got = dict(zip(names, session.run(names, {INPUT: images}), strict=True))
    return _difference(path, got, expected, tolerance)


def compare_mindir(
    path: Path,
    images: NDArray[np.uint8],
    expected: Sequence[NDArray[np.float32]],
    *,
    tolerance: float,
) -> float:
    """Load a MindIR file into MindSpore, and compare its layers with the original's.

    Args:
        path: A file of `export_mindir`.
        images: uint8 (B, H, W, 3), real or random pixels; zeros would hide differences.
        expected: Each layer, (B, C, h/s, w/s).
        tolerance: Largest allowed max|a - b| / max|b| of a layer; 0 on the same device.

    Returns:
        The largest difference of the layers, by the same measure.

    Raises:
        ExportError: a layer differs in shape, by more than `tolerance`, or is not finite.
    """
    network = ms.nn.GraphCell(ms.load(str(path)))
    layers = [layer.asnumpy() for layer in network(ms.Tensor(images))]
    got = {f"output {at}": layer for at, layer in enumerate(layers)}
    return _difference(path, got, expected, tolerance)


def _any_batch(height: int, width: int) -> Any:
    return ms.Tensor(shape=(None, height, width, 3), dtype=ms.uint8)


@contextmanager
def _scratch_directory(path: Path) -> Iterator[None]:
    """Change to a temporary directory; errors of MindSpore become an ExportError about `path`.

    MindSpore writes rank_0/ and other files into the current directory, gives files the mode 0400,
    and rejects some characters in paths.
    """
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        except RuntimeError as error:
            raise _refusal(path, error) from error
        finally:
            os.chdir(before)


def _refusal(path: Path, error: Exception) -> ExportError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ExportError(
        f"{path}: expected a network that exports, got: {reason.rstrip('.')}; "
        "write it with operators the exporter knows"
    )


def _canonise(model: Any, *, parameters: set[str]) -> None:
    """Number all names except those of inputs, outputs and parameters; remove free text."""
    graph = model.graph
    graph.name = "features"
    # An empty name is an optional input that is left out.
    kept = {"", *parameters, *(value.name for value in [*graph.input, *graph.output])}
    names = {name: name for name in kept}
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for kind, values in (("in", node.input), ("out", node.output)):
            for slot, name in enumerate(values):
                values[slot] = names.setdefault(name, f"{node.name}.{kind}{slot}")
        node.ClearField("doc_string")
    values = [attribute.t for node in graph.node for attribute in node.attribute]
    for tensor in [*graph.initializer, *values]:
        if tensor.int64_data:  # artifacts hold int64 numbers as raw data
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
        tensor.ClearField("doc_string")
    for part in (model, graph):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _name_outputs(graph: Any) -> None:
    """Give results that nothing reads the names of outputs that nothing makes, in their order.

    MindSpore's exporter forgets to name an output that comes out of a Reshape. `compare_onnx` would
    find outputs that are interchanged.
    """
    reads, makers = read_counts(graph), made_by(graph)
    missing = [value.name for value in graph.output if value.name not in makers]
    unread = [node for node in graph.node if not any(reads[name] for name in node.output)]
    for name, node in zip(missing, unread, strict=False):
        node.output[0] = name


def _free_batch(model: Any, path: Path, layers: Sequence[str]) -> None:
    """Name the first dimension of the input and the outputs `B`; all others must be numbers."""
    values = [*model.graph.input, *model.graph.output]
    if [value.name for value in values] != [INPUT, *layers]:
        raise ExportError(
            f"{path}: expected input {INPUT} and outputs {', '.join(layers)}, "
            f"got {[value.name for value in values]}; return exactly these layers"
        )
    for value in values:
        batch, *rest = value.type.tensor_type.shape.dim
        batch.dim_param = BATCH_AXIS
        if any(dim.dim_value <= 0 for dim in rest):
            raise ExportError(
                f"{path}: {value.name}: expected fixed sizes after the batch, "
                f"got {[dim.dim_value for dim in rest]}; fix height and width"
            )


def _difference(
    path: Path,
    got: Mapping[str, NDArray[np.float32]],
    expected: Sequence[NDArray[np.float32]],
    tolerance: float,
) -> float:
    worst = 0.0
    for (name, layer), truth in zip(got.items(), expected, strict=True):
        if layer.shape != truth.shape:
            raise ExportError(
                f"{path}: {name}: expected shape {truth.shape}, got {layer.shape}; export again"
            )
        with np.errstate(invalid="ignore"):
            gap = np.abs(layer - truth).max()
            relative = float(gap / max(np.abs(truth).max(), np.finfo(np.float32).tiny))
        if not relative <= tolerance:  # this also rejects NaN
            raise ExportError(
                f"{path}: {name}: expected MindSpore's values within {tolerance:g} of the largest, "
                f"got {relative:g}; do not ship this file, export again"
            )
        worst = max(worst, relative)
    return worst
