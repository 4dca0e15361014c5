"""Paddings of a graph, folded into the pools behind them.

MindSpore's exporter writes Pad and an unpadded pool for a pool that pads. onnxruntime would run
the two one after the other: 2 to 4 % of wide_resnet50_2's time, 7 % of resnet18's.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from patchcore_build.export.graph_edits import drop_unused, made_by, replace_all


def fold_paddings(graph: Any) -> None:
    """Pad with zeros, then pool without -> a pool that pads; equal to the bit.

    A largest value only where what is padded comes out of a ReLU: beside it zero is never larger.

    Args:
        graph: An onnx GraphProto, changed in place.
    """
    constants = _constants(graph)
    makers = made_by(graph)
    for pool in [node for node in graph.node if node.op_type in ("MaxPool", "AveragePool")]:
        pad = makers.get(pool.input[0])
        sides = None if pad is None else _zero_sides(pad, constants)
        if pad is None or sides is None or max(sides) >= min(_kernel(pool)):
            continue
        if pool.op_type == "MaxPool":
            source = makers.get(pad.input[0])
            if source is None or source.op_type != "Relu":
                continue
        kept = [a for a in pool.attribute if a.name not in ("auto_pad", "count_include_pad")]
        replace_all(pool.attribute, [*kept, helper.make_attribute("pads", sides)])
        if pool.op_type == "AveragePool":
            pool.attribute.append(helper.make_attribute("count_include_pad", 1))
        pool.input[0] = pad.input[0]
    drop_unused(graph)


def _kernel(pool: Any) -> list[int]:
    """Its sides; a pool may not pad by as much."""
    return next(list(a.ints) for a in pool.attribute if a.name == "kernel_shape")


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in found.items()}


def _zero_sides(pad: Any, constants: dict[str, NDArray[Any]]) -> list[int] | None:
    """Top, left, bottom, right of a Pad that puts zeros around planes; None where it is another."""
    if pad.op_type != "Pad":
        return None
    modes = [attribute.s for attribute in pad.attribute if attribute.name == "mode"]
    sizes, *values = (constants.get(name) for name in pad.input[1:] if name)
    if modes not in ([], [b"constant"]) or sizes is None:
        return None
    if any(value is None or np.any(value) for value in values):
        return None
    batch, channels, top, left, batch_end, channels_end, bottom, right = map(int, sizes)
    around = [top, left, bottom, right]
    return None if batch or channels or batch_end or channels_end or min(around) < 0 else around
