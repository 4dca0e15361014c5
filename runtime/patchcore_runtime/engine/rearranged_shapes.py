"""Shapes of operators that move numbers without computing: Reshape, Slice, Gather and others.

The new shape, places or axes are int64 constants, or follow from the batch (`whole_numbers`).
"""

from collections.abc import Callable
from math import prod

from patchcore_runtime.engine.shape_checks import (
    LONGEST_SIDE,
    MOST,
    MOST_DIMENSIONS,
    Call,
    Numbers,
    Shape,
    axes_of,
    axis_of,
    distinct_axes,
    expect,
    flag,
    required,
)

_MOST_PARTS = 64
_PAD_MODES = ("constant", "edge", "reflect")


def slice_range(side: int, start: int, end: int, step: int) -> tuple[int, int]:
    """Return the first place and the number of places of a slice along one axis."""
    expect(step != 0 and abs(step) <= MOST, f"steps of 1 to {MOST}", "another")
    low, high = (0, side) if step > 0 else (-1, side - 1)
    first, last = (
        min(max(place + side if place < 0 else place, low), high) for place in (start, end)
    )
    first = max(first, 0)
    count = -((first - last) // step)
    expect(count > 0, "a slice that is not empty", "an empty one")
    return first, count


def slices(call: Call) -> dict[int, tuple[int, int, int]]:
    """Return the first place, the step and the number of places of each axis of a Slice."""
    shape, given = call.inputs[0], [numbers or () for numbers in call.numbers[1:]]
    starts, ends = given[:2]
    axes = given[2] if len(given) > 2 else tuple(range(len(starts)))
    steps = given[3] if len(given) > 3 else (1,) * len(starts)
    same = len(starts) == len(ends) == len(axes) == len(steps)
    expect(same, "as many starts, ends, axes and steps", "others")
    found = {}
    for axis, start, end, step in zip(
        distinct_axes(axes, len(shape)), starts, ends, steps, strict=True
    ):
        first, count = slice_range(shape[axis], start, end, step)
        found[axis] = (first, step, count)
    return found


def _sliced(call: Call) -> Shape:
    places = slices(call)
    return tuple(
        places[axis][2] if axis in places else side for axis, side in enumerate(call.inputs[0])
    )


def _reshaped(call: Call) -> Shape:
    shape, wanted = call.inputs[0], call.numbers[1] or ()
    keeps = not flag(call, "allowzero", 0)
    expect(len(call.inputs[1]) == 1 and len(wanted) <= MOST_DIMENSIONS, "up to 8 sides", "others")
    sides = []
    for axis, side in enumerate(wanted):
        if side == 0:
            expect(keeps and axis < len(shape), "a side of the input for 0", "none")
            sides.append(shape[axis])
        else:
            expect(side == -1 or 0 < side < LONGEST_SIDE, "sides above 0, or -1", "another")
            sides.append(side)
    count = prod(shape)
    if -1 in sides:
        expect(sides.count(-1) == 1, "one side of -1", "several")
        known = prod(side for side in sides if side > 0)
        expect(count % known == 0, f"sides that divide {count}", str(known))
        sides[sides.index(-1)] = count // known
    expect(prod(sides) == count, f"a shape of {count} numbers", str(prod(sides)))
    return tuple(sides)


def _expanded(call: Call) -> Shape:
    wanted = call.numbers[1] or ()
    fits = len(call.inputs[1]) == 1 and all(0 < side < LONGEST_SIDE for side in wanted)
    expect(fits and len(wanted) <= MOST_DIMENSIONS, "up to 8 sides above 0", "others")
    return broadcast(call.inputs[0], wanted)


def broadcast(left: Shape, right: Shape) -> Shape:
    """Return the shape of two tensors that are combined number by number."""
    length = max(len(left), len(right))
    left, right = ((1,) * (length - len(shape)) + shape for shape in (left, right))
    fits = all(a == b or 1 in (a, b) for a, b in zip(left, right, strict=True))
    expect(fits, "shapes that can be combined", "others")
    return tuple(max(pair) for pair in zip(left, right, strict=True))


def _gathered(call: Call) -> Shape:
    shape, indices = call.inputs[:2]
    axis = axis_of(call.attributes.get("axis", 0), len(shape))
    side = shape[axis]
    inside = all(-side <= place < side for place in call.numbers[1] or ())
    expect(inside, f"places of {side}", "others")
    return (*shape[:axis], *indices, *shape[axis + 1 :])


def split_sizes(call: Call) -> tuple[int, list[int]]:
    """Return the axis of a Split, and the sides of its parts."""
    shape = call.inputs[0]
    axis = axis_of(call.attributes.get("axis", 0), len(shape))
    parts = call.outputs
    expect(call.attributes.get("num_outputs", parts) == parts, f"{parts} parts", "others")
    given = [call.attributes[name] for name in ("split",) if name in call.attributes]
    given += [numbers or () for numbers in call.numbers[1:]]
    expect(len(given) <= 1, "sizes of the parts once", "twice")
    sizes: Numbers
    if given:
        sizes = tuple(given[0])
    else:
        expect(shape[axis] % parts == 0, f"{parts} equal parts", f"{shape[axis]} numbers")
        sizes = (shape[axis] // parts,) * parts
    fits = len(sizes) == parts and min(sizes) > 0 and sum(sizes) == shape[axis]
    expect(fits, f"{parts} parts of {shape[axis]}", "others")
    return axis, list(sizes)


def _split(call: Call) -> list[Shape]:
    expect(call.outputs <= _MOST_PARTS, f"at most {_MOST_PARTS} parts", str(call.outputs))
    axis, sizes = split_sizes(call)
    shape = call.inputs[0]
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _squeezed(call: Call) -> Shape:
    shape = call.inputs[0]
    axes = axes_of(call, len(shape))
    expect(all(shape[axis] == 1 for axis in axes), "axes of one number", "others")
    return tuple(side for axis, side in enumerate(shape) if axis not in axes)


def _unsqueezed(call: Call) -> Shape:
    shape = call.inputs[0]
    given = call.numbers[1] if len(call.inputs) > 1 else call.attributes.get("axes")
    more = len(given or ())
    expect(len(shape) + more <= MOST_DIMENSIONS, "up to 8 dimensions", "more")
    axes = axes_of(call, len(shape) + more)
    rest = iter(shape)
    return tuple(1 if axis in axes else next(rest) for axis in range(len(shape) + more))


def _padded(call: Call) -> Shape:
    shape, pads = call.inputs[0], call.numbers[1] or ()
    mode = call.attributes.get("mode", "constant")
    expect(mode in _PAD_MODES, "a mode constant, edge or reflect", "another")
    fits = len(pads) == 2 * len(shape) and all(0 <= pad <= MOST for pad in pads)
    expect(fits, f"two pads of 0 to {MOST} for each side", "others")
    if len(call.inputs) == 3:
        expect(call.inputs[2] in ((), (1,)), "one number around", "several")
    before, behind = pads[: len(shape)], pads[len(shape) :]
    if mode == "reflect":
        inside = all(max(pair) < side for side, *pair in zip(shape, before, behind, strict=True))
        expect(inside, "pads below the side", "more")
    return tuple(a + side + b for side, a, b in zip(shape, before, behind, strict=True))


def _flat(call: Call) -> Shape:
    shape = call.inputs[0]
    axis = call.attributes.get("axis", 1)
    expect(-len(shape) <= axis <= len(shape), f"an axis of {len(shape)}", str(axis))
    axis += len(shape) if axis < 0 else 0
    return (prod(shape[:axis]), prod(shape[axis:]))


def _turned(call: Call) -> Shape:
    shape, order = call.inputs[0], required(call, "perm")
    expect(sorted(order) == list(range(len(shape))), "perm of all axes", "another")
    return tuple(shape[axis] for axis in order)


def _joined(call: Call) -> Shape:
    first = call.inputs[0]
    axis = axis_of(required(call, "axis"), len(first))
    for other in call.inputs[1:]:
        same = len(other) == len(first) and all(
            a == b for place, (a, b) in enumerate(zip(first, other, strict=True)) if place != axis
        )
        expect(same, "shapes that differ along the axis only", "others")
    return (*first[:axis], sum(shape[axis] for shape in call.inputs), *first[axis + 1 :])


def asked_sides(call: Call) -> Shape:
    """Return the sides that a Shape asks for."""
    shape = call.inputs[0]
    length = len(shape)
    start, end = (call.attributes.get(n, d) for n, d in (("start", 0), ("end", length)))
    first, last = (min(max(x + length if x < 0 else x, 0), length) for x in (start, end))
    expect(first < last, "one side or more", "none")
    return shape[first:last]


def _length(call: Call) -> Shape:
    return (len(asked_sides(call)),)


REARRANGED: dict[str, Callable[[Call], Shape | list[Shape]]] = {
    "Concat": _joined,
    "Expand": _expanded,
    "Flatten": _flat,
    "Gather": _gathered,
    "Pad": _padded,
    "Reshape": _reshaped,
    "Shape": _length,
    "Slice": _sliced,
    "Split": _split,
    "Squeeze": _squeezed,
    "Transpose": _turned,
    "Unsqueeze": _unsqueezed,
}
