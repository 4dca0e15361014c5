"""Queries and edits that the rewrites of an ONNX graph share.

onnx GraphProto -> producers and reads of values; the same graph without unused parts.
"""

from collections import Counter
from typing import Any


def made_by(graph: Any) -> dict[str, Any]:
    """The node that produces each value, by the value's name."""
    return {name: node for node in graph.node for name in node.output}


def read_counts(graph: Any) -> Counter[str]:
    """How often each value is read, by nodes or as an output of the graph."""
    counts = Counter(name for node in graph.node for name in node.input)
    counts.update(value.name for value in graph.output)
    return counts


def drop_unused(graph: Any) -> None:
    """Remove nodes and initializers that no output of the graph needs; changes it in place."""
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(node)
    replace_all(graph.node, kept[::-1])
    replace_all(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])


def replace_all(values: Any, kept: list[Any]) -> None:
    """Replace the content of a repeated protobuf field."""
    del values[:]
    values.extend(kept)
