"""The int64 numbers that a node makes of other int64 numbers, or of a shape.

Exported networks compute shapes: the batch of one tensor becomes a side of another. A reader that
knows the batch knows these numbers, too, and needs no arithmetic for them.
"""

from patchcore_runtime.engine.rearranged_shapes import asked_sides, slices
from patchcore_runtime.engine.shape_checks import Call, Numbers, expect

INT64 = 7  # TensorProto.DataType
MOST_WHOLE = 4096  # int64 numbers of a tensor

# They keep the numbers and their order.
_KEEPING = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def made_numbers(call: Call) -> Numbers | None:
    """Return the numbers of a node's result, row-major, or None if the result is not int64.

    Args:
        call: A node whose shapes fit.

    Raises:
        ShapeError: the node takes int64 numbers that it may not compute with.
    """
    if call.kind == "Shape":
        return asked_sides(call)
    count = len(call.inputs) if call.kind == "Concat" else 1  # inputs behind are places or axes
    data = [numbers for numbers in call.numbers[:count] if numbers is not None]
    to = call.attributes.get("to", INT64) if call.kind == "Cast" else None
    if not data:
        # Numbers that are not known cannot become a shape.
        expect(to != INT64, "to of a type 1 or 10", str(INT64))
        return None
    expect(len(data) == count, "inputs of one type", "several")
    if call.kind in _KEEPING:
        return data[0] if to in (INT64, None) else None
    expect(all(len(shape) == 1 for shape in call.inputs[:count]), "a list", "another shape")
    return _rearranged(call, data)


def _rearranged(call: Call, data: list[Numbers]) -> Numbers:
    if call.kind == "Concat":
        joined = tuple(number for numbers in data for number in numbers)
        expect(len(joined) <= MOST_WHOLE, f"at most {MOST_WHOLE} integers", str(len(joined)))
        return joined
    (numbers,) = data
    if call.kind == "Gather":
        return tuple(numbers[place] for place in call.numbers[1] or ())
    first, step, count = slices(call).get(0, (0, 1, len(numbers)))
    return tuple(numbers[first + i * step] for i in range(count))
