"""Bring a MindIR file to canonical form: raw bytes of `mindspore.export` -> the same bytes always.

Raw MindIR changes from run to run although the network is the same (measured, MindSpore 2.10). The
graph attribute `compile_phase` holds a clock reading and a memory address. `primitives` are in the
order of a pointer hash. Debug names contain counters of the process, and join their aliases in hash
order. In the canonical form, names come from the structure of the graph, and everything is in the
order in which the outputs need it. Meaning of the fields: `mindspore/train/mind_ir_pb2`.
"""

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from mindspore.train import mind_ir_pb2

from patchcore_build.errors import ExportError

_GRAPH = "features"
_REFERENCE = "REF::"  # node.op_type of an operator: this, then the name of a primitive
_CONSTANT = "Constant"


def canonical(raw: bytes) -> bytes:
    """Rename and reorder a MindIR model so that equal networks have equal bytes.

    Names of parameters and inputs, scopes and all values are kept; nodes that feed no output are
    removed. Applying it twice changes nothing. Peak memory is about three times the model.

    Args:
        raw: A whole MindIR file that contains its parameters (less than 1 GiB).

    Returns:
        A MindIR file that computes the same.

    Raises:
        ExportError: the bytes are not MindIR, or not one flat graph that contains its parameters.
    """
    model = _parse(raw, "MindIR model")
    graph = model.graph
    _require_flat(model)
    _order_nodes(graph)
    _order_parameters(graph)
    _order_primitives(model)
    _rename_values(graph)
    _order_attributes(model)
    for attribute in graph.attribute:
        if attribute.name == "compile_phase":
            attribute.s = b"export.mindir"
    return bytes(model.SerializeToString(deterministic=True))


def mind_ir_version(path: Path) -> str:
    """Read format and producer of a MindIR file, for instance `3 (MindSpore 2.10.0)`.

    A MindSpore older than the producer may reject the file: 2.7 loads files of 2.10, 2.0 does not.

    Raises:
        ExportError: the file is missing or not MindIR.
    """
    try:
        model = _parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror}); export again") from error
    return f"{model.mind_ir_version} ({model.producer_name} {model.model_version})"


def _parse(raw: bytes, where: str) -> Any:
    model = mind_ir_pb2.ModelProto()
    try:
        model.ParseFromString(raw)
    except DecodeError as error:
        raise ExportError(f"{where}: expected MindIR, got other bytes; export again") from error
    if not model.HasField("mind_ir_version") or not model.graph.node:
        raise ExportError(f"{where}: expected MindIR with a graph, got none; export again")
    return model


def _require_flat(model: Any) -> None:
    graph = model.graph
    unknown = {node.op_type for node in graph.node if not _is_known(node.op_type)}
    found = {
        "functions": len(model.functions),
        "map parameters": len(graph.map_parameter),
        "parameters outside the file": sum(p.HasField("external_data") for p in graph.parameter),
        f"unknown node kinds {sorted(unknown)}": len(unknown),
    }
    for what, count in found.items():
        if count:
            raise ExportError(
                f"MindIR model: expected one flat graph with its parameters inside, "
                f"got {count} {what}; write the network without control flow, under 1 GiB"
            )


def _is_known(op_type: str) -> bool:
    return op_type == _CONSTANT or op_type.startswith(_REFERENCE)


def _order_nodes(graph: Any) -> None:
    """Sort nodes depth first from the outputs, first input first; remove nodes without effect."""
    inputs = {node.output[0]: list(node.input) for node in graph.node}
    position: dict[str, int] = {}
    stack = [output.name for output in reversed(graph.output)]
    while stack:
        missing = [name for name in inputs[stack[-1]] if name in inputs and name not in position]
        if missing:
            stack.extend(reversed(missing))
        else:
            position.setdefault(stack.pop(), len(position))
    graph.node.sort(key=lambda node: position.get(node.output[0], len(inputs)))
    del graph.node[len(position) :]


def _order_parameters(graph: Any) -> None:
    """Sort parameters by first use; remove parameters that no node reads."""
    position = _first_uses(name for node in graph.node for name in node.input)
    graph.parameter.sort(key=lambda parameter: position.get(parameter.name, len(position)))
    used = sum(parameter.name in position for parameter in graph.parameter)
    del graph.parameter[used:]


def _order_primitives(model: Any) -> None:
    """Sort and number operator descriptions by first use; remove those without a node."""
    nodes = [node for node in model.graph.node if node.op_type != _CONSTANT]
    position = _first_uses(node.op_type.removeprefix(_REFERENCE) for node in nodes)
    model.primitives.sort(key=lambda primitive: position.get(primitive.name, len(position)))
    del model.primitives[len(position) :]
    names = {}
    for number, primitive in enumerate(model.primitives):
        names[_REFERENCE + primitive.name] = f"{_REFERENCE}{primitive.op_type}:{number}"
        primitive.name = f"{primitive.op_type}:{number}"
    for node in nodes:
        node.op_type = names[node.op_type]


def _rename_values(graph: Any) -> None:
    """Name values by their operator and position; the loader reads `graph:name:number`."""
    names = {}
    for value in [*graph.input, *graph.parameter]:
        names[value.name] = f"{_GRAPH}:{value.name.rpartition(':')[2]}"
    for number, node in enumerate(graph.node):
        kind = node.op_type.removeprefix(_REFERENCE).partition(":")[0]
        constant = node.op_type == _CONSTANT
        name = f"constant_{number}" if constant else f"{_GRAPH}:{kind}:{number}"
        names[node.output[0]] = name
    for value in [*graph.input, *graph.parameter, *graph.output]:
        value.name = names[value.name]
    for node in graph.node:
        node.input[:] = [names[name] for name in node.input]
        node.output[0] = node.name = names[node.output[0]]
    graph.name = _GRAPH


def _order_attributes(model: Any) -> None:
    """Sort every set of named attributes by name; lists of values keep their order."""
    sets = [model.graph.attribute, *(primitive.attribute for primitive in model.primitives)]
    for node in model.graph.node:
        sets += [node.attribute, node.node_attr, node.primal_attr]
    for attributes in sets:
        attributes.sort(key=lambda attribute: attribute.name)


def _first_uses(names: Any) -> dict[str, int]:
    """Each distinct name -> its rank by first appearance."""
    return {name: rank for rank, name in enumerate(dict.fromkeys(names))}
