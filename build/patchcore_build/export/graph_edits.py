"""What every pass over an ONNX graph needs: who makes a value, how often it is read, what is left.

All take an onnx GraphProto.
"""

from collections import Counter
from typing import Any


def made_by(graph: Any) -> dict[str, Any]:
    """The node that makes each value."""
    return {name: node for node in graph.node for name in node.output}


def read_counts(graph: Any) -> Counter[str]:
    """How often each value is read, by nodes and as a result of the graph."""
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
    """Make a repeated field hold these."""
    del values[:]
    values.extend(kept)
