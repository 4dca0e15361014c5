"""Shapes and products of the operators of a feature network.

operator, shapes of its inputs, attributes -> shapes of its results, or ShapeError. The rules are
those of the ONNX operators (https://onnx.ai/onnx/operators/), for the attributes in operators.csv.
"""

from collections.abc import Callable, Sequence
from math import prod

from patchcore_runtime.engine.rearranged_shapes import REARRANGED, broadcast
from patchcore_runtime.engine.shape_checks import (
    MOST,
    Call,
    Shape,
    axes_of,
    axis_of,
    expect,
    flag,
    only,
    required,
)
from patchcore_runtime.engine.whole_numbers import INT64

_POOLS = ("AveragePool", "MaxPool")
_REDUCTIONS = ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum")
_CAST_TYPES = (1, 10, INT64)  # float32, float16
_NUMBER = ((), (1,))  # shapes of a single number


def result_shapes(call: Call) -> list[Shape]:
    """Return the shapes of a node's results; one, except for a Split.

    Raises:
        ShapeError: inputs or attributes do not fit.
    """
    shapes = _RULES[call.kind](call)
    return shapes if isinstance(shapes, list) else [shapes]


def work_of(call: Call, results: Sequence[Shape]) -> int:
    """Return the number of products, comparisons or other results of a node."""
    made = sum(map(prod, results))
    if call.kind == "Conv":
        return made * prod(call.inputs[1][1:])
    if call.kind in _POOLS:
        sides: Sequence[int] = call.attributes["kernel_shape"]
        return made * prod(sides)
    if call.kind == "MatMul":
        return made * call.inputs[0][-1]
    if call.kind == "Gemm":
        return made * call.inputs[0][0 if call.attributes.get("transA", 0) else 1]
    if call.kind in _REDUCTIONS or call.kind == "GlobalAveragePool":
        return prod(call.inputs[0])
    return made


def _cast(call: Call) -> Shape:
    to = required(call, "to")
    expect(to in _CAST_TYPES, "to of a type 1, 7 or 10", str(to))
    return call.inputs[0]


def _normalised(call: Call) -> Shape:
    first, *others = call.inputs
    only(call, "training_mode", 0)
    fits = len(first) > 1 and all(other == (first[1],) for other in others)
    expect(fits, "one number for each channel", "another shape")
    return first


def _layer_normalised(call: Call) -> Shape:
    first, *others = call.inputs
    only(call, "stash_type", 1)
    axis = axis_of(call.attributes.get("axis", -1), len(first))
    expect(all(other == first[axis:] for other in others), "scales of its axes", "others")
    return first


def _quantized(call: Call) -> Shape:
    first, scale, zero = call.inputs
    sides = {(), (1,)}
    if "axis" in call.attributes and first:
        sides.add((first[axis_of(call.attributes["axis"], len(first))],))
    expect(scale == zero and scale in sides, "one scale for each channel", "another shape")
    return first


def _constant(call: Call) -> Shape:
    value: Shape = required(call, "value")
    return value


def _same(call: Call) -> Shape:
    return call.inputs[0]


def _limited(call: Call) -> Shape:
    expect(all(shape in _NUMBER for shape in call.inputs[1:]), "single limits", "others")
    return call.inputs[0]


def _softmax(call: Call) -> Shape:
    axis_of(call.attributes.get("axis", -1), len(call.inputs[0]))
    return call.inputs[0]


def _multiplied(call: Call) -> Shape:
    left, right = call.inputs
    fits = len(left) > 1 and len(right) > 1 and left[-1] == right[-2]
    expect(fits, "matrices that fit", "others")
    return (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])


def _general_product(call: Call) -> Shape:
    left, right = call.inputs[:2]
    expect(len(left) == len(right) == 2, "two matrices", "others")
    left = left[::-1] if flag(call, "transA", 0) else left
    right = right[::-1] if flag(call, "transB", 0) else right
    expect(left[1] == right[0], "matrices that fit", "others")
    result = (left[0], right[1])
    if len(call.inputs) == 3:
        added = call.inputs[2]
        fits = len(added) <= 2 and broadcast(added, result) == result
        expect(fits, "an addition that fits", "another shape")
    return result


def _reduced(call: Call) -> Shape:
    shape = call.inputs[0]
    only(call, "noop_with_empty_axes", 0)
    axes = axes_of(call, len(shape))
    expect(bool(axes), "axes", "none")
    if flag(call, "keepdims", 1):
        return tuple(1 if axis in axes else side for axis, side in enumerate(shape))
    return tuple(side for axis, side in enumerate(shape) if axis not in axes)


def _averaged(call: Call) -> Shape:
    planes = call.inputs[0]
    expect(len(planes) == 4, "planes of 4 dimensions", str(len(planes)))
    return (*planes[:2], 1, 1)


def _convolved(call: Call) -> Shape:
    planes, weight = call.inputs[:2]
    expect(len(planes) == len(weight) == 4, "planes and weights of 4 dimensions", "others")
    group = call.attributes.get("group", 1)
    fits = 1 <= group <= MOST and planes[1] == weight[1] * group and weight[0] % group == 0
    expect(fits, "channels that fit the weights", f"{planes[1]} and {weight[1]} x {group}")
    if len(call.inputs) == 3:
        expect(call.inputs[2] == weight[:1], "a bias for each channel", "another shape")
    window = weight[2:]
    expect(tuple(call.attributes.get("kernel_shape", window)) == window, "its kernel", "another")
    return (planes[0], weight[0], *_slide(planes[2:], window, _pair(call, "dilations", 1), call))


def _pooled(call: Call) -> Shape:
    planes = call.inputs[0]
    expect(len(planes) == 4, "planes of 4 dimensions", str(len(planes)))
    required(call, "kernel_shape")
    window = _pair(call, "kernel_shape", 1)
    flag(call, "count_include_pad", 0)
    only(call, "ceil_mode", 0)
    expect(max(_pair(call, "dilations", 1)) == 1, "dilations of 1", "others")
    smallest = min(window)
    expect(max(_pads(call)) < smallest, f"pads below {smallest}", "more")
    return (*planes[:2], *_slide(planes[2:], window, (1, 1), call))


def _slide(sides: Shape, window: Sequence[int], dilations: Sequence[int], call: Call) -> list[int]:
    """Return the height and width of a window's results."""
    pads, strides = _pads(call), _pair(call, "strides", 1)
    results = []
    for axis, side in enumerate(sides):
        covered = dilations[axis] * (window[axis] - 1) + 1
        padded = side + pads[axis] + pads[axis + 2]
        expect(covered <= padded, f"a window of at most {padded}", str(covered))
        results.append((padded - covered) // strides[axis] + 1)
    return results


def _pads(call: Call) -> Sequence[int]:
    rule = call.attributes.get("auto_pad", "NOTSET")
    expect(rule in ("NOTSET", "VALID"), "auto_pad NOTSET or VALID", "another")
    expect(rule == "NOTSET" or "pads" not in call.attributes, "auto_pad or pads", "both")
    pads: Sequence[int] = call.attributes.get("pads", (0, 0, 0, 0))
    fits = len(pads) == 4 and all(0 <= pad <= MOST for pad in pads)
    expect(fits, f"4 pads of 0 to {MOST}", "others")
    return pads


def _pair(call: Call, name: str, default: int) -> Sequence[int]:
    pair: Sequence[int] = call.attributes.get(name, (default, default))
    fits = len(pair) == 2 and all(1 <= number <= MOST for number in pair)
    expect(fits, f"2 {name} of 1 to {MOST}", "others")
    return pair


def _combined(call: Call) -> Shape:
    first, *others = call.inputs
    for other in others:
        first = broadcast(first, other)
    return first


_SAME = (
    *("Abs", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsNaN"),
    *("LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Tanh"),
)
_COMBINING = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Where")
_RULES: dict[str, Callable[[Call], Shape | list[Shape]]] = {
    **dict.fromkeys(_COMBINING, _combined),
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(_REDUCTIONS, _reduced),
    **REARRANGED,
    "BatchNormalization": _normalised,
    "Cast": _cast,
    "Clip": _limited,
    "Constant": _constant,
    "Conv": _convolved,
    "DequantizeLinear": _quantized,
    "Gemm": _general_product,
    "GlobalAveragePool": _averaged,
    "LayerNormalization": _layer_normalised,
    "MatMul": _multiplied,
    "QuantizeLinear": _quantized,
    "Softmax": _softmax,
}
