"""Build a graph from parts: own nodes, and whole models whose inputs and outputs are connected.

() -> onnx ModelProto. Own nodes use only operators that are the same from opset 17 to 21. Models
are converted to the opset of the whole by `at_opset` before they are included.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter

OPSETS = range(17, 22)
_LARGE_BYTES = 1024


class Parts:
    """Nodes and constants that are added one by one."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        self._count = 0

    def constant(self, values: NDArray[Any]) -> str:
        """Add numbers; return their name."""
        name = self._name("constant")
        self._tensors.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def numbers(self, *values: int) -> str:
        """Add whole numbers as a list; return its name."""
        return self.constant(np.array(values, np.int64))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return its name."""
        return self.nodes(kind, *inputs, outputs=1, **attributes)[0]

    def nodes(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; return their names."""
        names = [self._name(kind) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, names[0], **attributes))
        return names

    def include(self, model: Any, prefix: str, inputs: Mapping[str, str]) -> None:
        """Add a whole model of the graph's opset; its other names get the prefix.

        Args:
            model: The model; all its numbers are inside.
            prefix: Text before each of its names.
            inputs: Its inputs -> names that exist here.
        """

        def renamed(name: str) -> str:
            return inputs.get(name, f"{prefix}{name}") if name else name

        for tensor in model.graph.initializer:
            copied = onnx.TensorProto()
            copied.CopyFrom(tensor)
            copied.name = renamed(tensor.name)
            self._tensors.append(copied)
        for node in model.graph.node:
            added = onnx.NodeProto()
            added.CopyFrom(node)
            added.name = f"{prefix}{node.output[0]}"
            added.input[:] = [renamed(name) for name in node.input]
            added.output[:] = [renamed(name) for name in node.output]
            self._nodes.append(added)

    def finished(
        self, inputs: list[Any], outputs: Mapping[str, tuple[str, Any]], *, name: str, opset: int
    ) -> Any:
        """Return the model.

        Args:
            inputs: Descriptions of the inputs.
            outputs: Name of each output -> the value here, and its description.
            name: Name of the graph.
            opset: Its opset, 17 or newer.
        """
        ends = [
            helper.make_node("Identity", [value], [output], f"end_{output}")
            for output, (value, _) in outputs.items()
        ]
        graph = helper.make_graph(
            [*self._nodes, *ends],
            name,
            inputs,
            [described for _, described in outputs.values()],
            self._tensors,
        )
        opsets = [helper.make_opsetid("", opset)]
        oldest = helper.find_min_ir_version_for(opsets)  # so that older engines take the file, too
        model = helper.make_model(graph, opset_imports=opsets, ir_version=oldest)
        model.producer_name = "patchcore-build"
        return model

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def opset_of(model: Any) -> int:
    """Return the opset of a model's standard operators."""
    return next(
        int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")
    )


def at_opset(model: Any, opset: int) -> Any:
    """Convert a model to an opset that is not older than its own.

    Large numbers are inputs meanwhile: the converter copies a model as one message, and a bank may
    have more bytes than a message can.

    Raises:
        RuntimeError: an operator has no conversion.
        ConvertError: the same.
    """
    if opset_of(model) == opset:
        return model
    slim, graph = _without_numbers(model), model.graph
    large = [tensor for tensor in graph.initializer if tensor.ByteSize() > _LARGE_BYTES]
    names = {tensor.name for tensor in large}
    slim.graph.initializer.extend(
        tensor for tensor in graph.initializer if tensor.name not in names
    )
    slim.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in large
    )
    newer = version_converter.convert_version(slim, opset)
    kept = [value for value in newer.graph.input if value.name not in names]
    del newer.graph.input[:]
    newer.graph.input.extend(kept)
    newer.graph.initializer.extend(large)
    return newer


def _without_numbers(model: Any) -> Any:
    """Copy a model without its initializers, also if they are too large for a message."""
    graph = onnx.GraphProto(
        name=model.graph.name,
        node=model.graph.node,
        input=model.graph.input,
        output=model.graph.output,
        value_info=model.graph.value_info,
    )
    return onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, graph=graph
    )
