"""What the rules of all operators share: their arguments, their refusal, and axes.

A rule takes a `Call` and returns the shape of its result, or raises ShapeError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Numbers = tuple[int, ...]

MOST = 2**16  # of an attribute's number
MOST_DIMENSIONS = 8
LONGEST_SIDE = 2**31


class ShapeError(Exception):
    """A node's inputs or attributes do not fit; `expected` and `got` are words for a message."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


@dataclass(frozen=True, kw_only=True)
class Call:
    """A node: the shapes of its inputs, its attributes, and the int64 inputs' numbers."""

    kind: str
    inputs: Sequence[Shape]
    attributes: dict[str, Any]  # a Constant's `value` is its shape
    numbers: Sequence[Numbers | None]  # row-major; None for an input of another type
    outputs: int = 1


def axis_of(axis: int, length: int) -> int:
    """Return an axis from 0; negative ones count from the end."""
    expect(-length <= axis < length, f"an axis of {length}", str(axis))
    return axis % length


def distinct_axes(axes: Sequence[int], length: int) -> list[int]:
    """Return axes from 0, which must differ."""
    found = [axis_of(axis, length) for axis in axes]
    expect(len(set(found)) == len(found), "axes that differ", "one twice")
    return found


def axes_of(call: Call, length: int) -> list[int]:
    """Return the axes of an attribute or of the second input, of which one must be given."""
    given = len(call.inputs) > 1
    expect(given != ("axes" in call.attributes), "axes once", "none or twice")
    numbers = call.numbers[1] if given else call.attributes["axes"]
    return distinct_axes(numbers or (), length)


def required(call: Call, name: str) -> Any:
    """Return an attribute that the node must have."""
    expect(name in call.attributes, name, "none")
    return call.attributes[name]


def flag(call: Call, name: str, default: int) -> bool:
    """Return an attribute that is 0 or 1."""
    value = call.attributes.get(name, default)
    expect(value in (0, 1), f"{name} 0 or 1", "another")
    return bool(value)


def only(call: Call, name: str, value: int) -> None:
    """Refuse any other value of an attribute."""
    expect(call.attributes.get(name, value) == value, f"{name} {value}", "another")


def expect(holds: bool, expected: str, got: str) -> None:
    """Raise ShapeError if a condition does not hold."""
    if not holds:
        raise ShapeError(expected, got)
