"""Shapes and products of the operators of a feature network.

operator, shapes of its inputs, attributes -> shape of its result, or ShapeError. The rules are
those of the ONNX operators (https://onnx.ai/onnx/operators/), for the attributes in operators.csv.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

Shape = tuple[int, ...]
Attributes = dict[str, Any]

_POOLS = ("AveragePool", "MaxPool")
_CAST_TYPES = (1, 10)  # float32, float16
_MOST = 2**16  # of an attribute's number


class ShapeError(Exception):
    """A node's inputs or attributes do not fit; `expected` and `got` are words for a message."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


def result_shape(kind: str, inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    """Return the shape of a node's result.

    Args:
        kind: An operator of operators.csv.
        inputs: Shapes of its inputs, as many as the table says.
        attributes: Values by name, of the table's kinds; a Constant's `value` is its shape.

    Raises:
        ShapeError: inputs or attributes do not fit.
    """
    return _RULES[kind](inputs, attributes)


def work_of(kind: str, inputs: Sequence[Shape], attributes: Attributes, result: Shape) -> int:
    """Return the number of products or comparisons of a node; arguments as `result_shape`."""
    if kind == "Conv":
        return prod(result) * prod(inputs[1][1:])
    if kind in _POOLS:
        sides: Sequence[int] = attributes["kernel_shape"]
        return prod(result) * prod(sides)
    return prod(result)


def _cast(inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    to = _required(attributes, "to")
    _expect(to in _CAST_TYPES, "to of a type 1 or 10", str(to))
    return inputs[0]


def _normalised(inputs: Sequence[Shape], _attributes: Attributes) -> Shape:
    first, *others = inputs
    fits = len(first) > 1 and all(other == (first[1],) for other in others)
    _expect(fits, "one number for each channel", "another shape")
    return first


def _quantized(inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    first, scale, zero = inputs
    sides = {(), (1,)}
    if "axis" in attributes and first:
        sides.add((first[_axis(attributes["axis"], len(first))],))
    _expect(scale == zero and scale in sides, "one scale for each channel", "another shape")
    return first


def _constant(_inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    value: Shape = _required(attributes, "value")
    return value


def _turned(inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    order = _required(attributes, "perm")
    _expect(sorted(order) == list(range(len(inputs[0]))), "perm of all axes", "another")
    return tuple(inputs[0][axis] for axis in order)


def _same(inputs: Sequence[Shape], _attributes: Attributes) -> Shape:
    return inputs[0]


def _convolved(inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    planes, weight = inputs[:2]
    _expect(len(planes) == len(weight) == 4, "planes and weights of 4 dimensions", "others")
    group = attributes.get("group", 1)
    fits = 1 <= group <= _MOST and planes[1] == weight[1] * group and weight[0] % group == 0
    _expect(fits, "channels that fit the weights", f"{planes[1]} and {weight[1]} x {group}")
    if len(inputs) == 3:
        _expect(inputs[2] == weight[:1], "a bias for each channel", "another shape")
    window = weight[2:]
    _expect(tuple(attributes.get("kernel_shape", window)) == window, "its kernel", "another")
    dilations = _pair(attributes, "dilations", 1)
    return (planes[0], weight[0], *_slide(planes[2:], window, dilations, attributes))


def _pooled(inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    planes = inputs[0]
    _expect(len(planes) == 4, "planes of 4 dimensions", str(len(planes)))
    _required(attributes, "kernel_shape")
    window = _pair(attributes, "kernel_shape", 1)
    _expect(attributes.get("count_include_pad", 0) in (0, 1), "count_include_pad 0 or 1", "another")
    smallest = min(window)
    _expect(max(_pads(attributes)) < smallest, f"pads below {smallest}", "more")
    return (*planes[:2], *_slide(planes[2:], window, (1, 1), attributes))


def _slide(
    sides: Shape, window: Sequence[int], dilations: Sequence[int], attributes: Attributes
) -> list[int]:
    """Return the height and width of a window's results."""
    pads, strides = _pads(attributes), _pair(attributes, "strides", 1)
    results = []
    for axis, side in enumerate(sides):
        covered = dilations[axis] * (window[axis] - 1) + 1
        padded = side + pads[axis] + pads[axis + 2]
        _expect(covered <= padded, f"a window of at most {padded}", str(covered))
        results.append((padded - covered) // strides[axis] + 1)
    return results


def _pads(attributes: Attributes) -> Sequence[int]:
    rule = attributes.get("auto_pad", "NOTSET")
    _expect(rule in ("NOTSET", "VALID"), "auto_pad NOTSET or VALID", "another")
    _expect(rule == "NOTSET" or "pads" not in attributes, "auto_pad or pads", "both")
    pads: Sequence[int] = attributes.get("pads", (0, 0, 0, 0))
    fits = len(pads) == 4 and all(0 <= pad <= _MOST for pad in pads)
    _expect(fits, f"4 pads of 0 to {_MOST}", "others")
    return pads


def _pair(attributes: Attributes, name: str, default: int) -> Sequence[int]:
    pair: Sequence[int] = attributes.get(name, (default, default))
    fits = len(pair) == 2 and all(1 <= number <= _MOST for number in pair)
    _expect(fits, f"2 {name} of 1 to {_MOST}", "others")
    return pair


def _joined(inputs: Sequence[Shape], attributes: Attributes) -> Shape:
    first = inputs[0]
    axis = _axis(_required(attributes, "axis"), len(first))
    for other in inputs[1:]:
        same = len(other) == len(first) and all(
            a == b for place, (a, b) in enumerate(zip(first, other, strict=True)) if place != axis
        )
        _expect(same, "shapes that differ along the axis only", "others")
    return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])


def _broadcast(inputs: Sequence[Shape], _attributes: Attributes) -> Shape:
    left, right = inputs
    length = max(len(left), len(right))
    left, right = ((1,) * (length - len(shape)) + shape for shape in (left, right))
    fits = all(a == b or 1 in (a, b) for a, b in zip(left, right, strict=True))
    _expect(fits, "shapes that can be combined", "others")
    return tuple(max(pair) for pair in zip(left, right, strict=True))


def _axis(axis: int, length: int) -> int:
    _expect(-length <= axis < length, f"an axis of {length}", str(axis))
    return axis % length


def _required(attributes: Attributes, name: str) -> Any:
    _expect(name in attributes, name, "none")
    return attributes[name]


def _expect(holds: bool, expected: str, got: str) -> None:
    if not holds:
        raise ShapeError(expected, got)


_RULES: dict[str, Callable[[Sequence[Shape], Attributes], Shape]] = {
    **dict.fromkeys(("Add", "Div", "Max", "Mul", "Sub"), _broadcast),
    **dict.fromkeys(("Log", "Relu", "Sqrt"), _same),
    **dict.fromkeys(_POOLS, _pooled),
    "BatchNormalization": _normalised,
    "Cast": _cast,
    "Concat": _joined,
    "Constant": _constant,
    "Conv": _convolved,
    "DequantizeLinear": _quantized,
    "QuantizeLinear": _quantized,
    "Transpose": _turned,
}
