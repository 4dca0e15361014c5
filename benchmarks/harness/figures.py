"""Figures of measured times, and the arithmetic operations of a graph.

seconds -> percentiles; points of a cost curve -> its exponent; an ONNX file -> GFLOP an image.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of at least `share` do not exceed (nearest rank).

    Args:
        values: At least one, in any order.
        share: In (0, 1].
    """
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered) - 1e-9)) - 1]


def spread(seconds: Sequence[float]) -> dict[str, float | int]:
    """Return median, 95th and 99th percentile and number; the 99th only for 100 runs or more."""
    found: dict[str, float | int] = {"seconds": float(np.median(seconds)), "runs": len(seconds)}
    if len(seconds) > 1:
        found["p95"] = percentile(seconds, 0.95)
    if len(seconds) >= 100:
        found["p99"] = percentile(seconds, 0.99)
    return found


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Fit the slope of log cost against log size by least squares: 1 is linear, 2 quadratic.

    `None` for fewer than two sizes.
    """
    if len(set(sizes)) < 2:
        return None
    x, y = (np.log(np.asarray(values, np.float64)) for values in (sizes, costs))
    x -= x.mean()
    return float((x @ y) / (x @ x))


def estimate(points: Sequence[tuple[float, float]], size: float) -> float | None:
    """Extrapolate the cost of a larger size from the last two (size, cost) points."""
    if len(points) < 2:
        return None
    slope = exponent(*zip(*points[-2:], strict=True))
    last_size, last_cost = points[-1]
    return None if slope is None else last_cost * (size / last_size) ** slope


def graph_gflop(path: Path) -> float:
    """Count 10^9 additions and multiplications of a graph for one image.

    Only Conv, Gemm and MatMul are counted, from their shapes; all other nodes cost less than 1 %.

    Raises:
        ValueError: a shape cannot be inferred.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_value = 1  # B
    # Shapes in the file are for B images.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return sum(_flop(node, shapes) for node in graph.node) / 1e9


def _flop(node: Any, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    output, weights = shapes.get(node.output[0], []), shapes.get(node.input[1], [])
    if node.op_type == "Conv":  # (outputs, inputs / groups, kernel height, kernel width)
        terms = weights[1:]
    else:
        transposed = any(one.name == "transB" and one.i for one in node.attribute)
        terms = weights[-1:] if transposed else weights[-2:-1]
    if not output or not terms or 0 in output or 0 in terms:
        raise ValueError(
            f"{node.op_type} {node.name}: expected whole shapes, got {output}, {terms}"
        )
    return 2 * math.prod(output) * math.prod(terms)
