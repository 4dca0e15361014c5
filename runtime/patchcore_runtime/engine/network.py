"""Refuse a feature network that is not made of the workshop's operators, or that is too large.

parsed features.onnx -> nothing, or ArtifactError naming the node. operators.csv lists the operators
and their attributes. All of them have results whose shapes follow from the shapes of their inputs
and from int64 constants, so the size and the work of a network are known before an engine opens it.
Shapes are computed for one image and again for two, so no shape can hide a batch of one.
"""

import csv
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from patchcore_runtime.engine.onnx_model import Parsed
from patchcore_runtime.engine.operator_shapes import result_shapes, work_of
from patchcore_runtime.engine.shape_checks import (
    LONGEST_SIDE,
    MOST_DIMENSIONS,
    Call,
    Numbers,
    Shape,
    ShapeError,
)
from patchcore_runtime.engine.whole_numbers import INT64, MOST_WHOLE, made_numbers
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.manifest.features import MOST_LAYERS

OPSETS = range(11, 21)
MOST_NODES = 4096
# Per pixel of a tile. wide_resnet101_2 has about 2,500 numbers in int8 and 450,000 products;
# dinov2_vitl14 at 672 px has 5,400 numbers, most of them in attentions, and 2,200,000 products.
MOST_NUMBERS = 8192  # of all results together
MOST_PRODUCTS = 2**22
_FIELDS_OF_TYPES = {1: "f", 2: "i", 3: "s", 4: "t", 7: "ints"}  # AttributeProto.AttributeType
_NAMES_OF_TYPES = {1: "float", 2: "int", 3: "text", 4: "tensor", 7: "ints"}
# TensorProto.DataType -> bytes of a number
_NUMBER_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2}
_BYTES = {2: range(256), 3: range(-128, 128)}  # types whose numbers may be in int32_data
_FLOAT, _UINT8 = 1, 2
# What a value holds: arithmetic is for floating point only, as engines may end with a signal.
_FLOATS, _INTEGERS, _WHOLE, _TRUTHS = "floating point", "integers", "int64 constants", "truths"
_HELD = {1: _FLOATS, 2: _INTEGERS, 3: _INTEGERS, 6: _INTEGERS, 7: _WHOLE, 9: _TRUTHS, 10: _FLOATS}
_TAKE = {
    _INTEGERS: {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Shape", "Transpose"},
    _WHOLE: {
        *("Cast", "Concat", "Gather", "Identity", "Reshape", "Shape", "Slice"),
        *("Squeeze", "Unsqueeze"),
    },
    _TRUTHS: {"Expand", "Identity", "Shape"},
}
_PASSING = ("Expand", "Identity", "Transpose")  # results hold what their input holds
_MAKING = {"IsNaN": _TRUTHS, "QuantizeLinear": _INTEGERS}
_MANY = 2**56 - 1  # the C++ twin counts no further


def check_network(path: Path, model: Parsed) -> dict[str, Shape]:
    """Check a network, and return the shapes of its input and outputs without the leading B.

    Args:
        path: Its file, for messages.
        model: What `read_model` returned.

    Raises:
        ArtifactError: an operator, attribute, type or shape is not one that the workshop writes, or
            the results or products are more than `MOST_NUMBERS` or `MOST_PRODUCTS` allow.
    """
    return _Network(path, model["graph"]).check(model["opset_import"])


@dataclass(frozen=True, kw_only=True)
class _Value:
    """What is known about a value of the graph."""

    shape: Shape
    held: str = _FLOATS
    numbers: Numbers | None = None  # of int64 constants


class _Network:
    def __init__(self, path: Path, graph: Parsed) -> None:
        self.path = path
        self.graph = graph
        self.values: dict[str, _Value] = {}
        self.weights = self.numbers = self.products = 0

    def check(self, opset: Parsed) -> dict[str, Shape]:
        if opset.get("domain", "") or opset["version"] not in OPSETS:
            got = f"{opset['version']} of '{_plain(opset.get('domain', ''))}'"
            self.refuse("opset_import", "11 to 20 of ''", got)
        images = self._ends("input", ["images"], _UINT8)["images"]
        if len(images) != 4:
            self.refuse("images", "4 dimensions", str(len(images)))
        outputs = self._ends("output", None, _FLOAT)
        for batch in (1, 2):
            self.values = {}
            self.weights = self.numbers = self.products = 0
            self.values["images"] = _Value(shape=(batch, *images[1:]), held=_INTEGERS)
            self._initializers()
            self._nodes(images[1] * images[2])
            self._results({name: (batch, *shape[1:]) for name, shape in outputs.items()})
        return {"images": images[1:], **{name: shape[1:] for name, shape in outputs.items()}}

    def _nodes(self, pixels: int) -> None:
        nodes = self.graph["node"]
        if len(nodes) > MOST_NODES:
            self.refuse("node", f"at most {MOST_NODES}", str(len(nodes)))
        batch = self.values["images"].shape[0]
        for number, node in enumerate(nodes):
            where = f"node {number} ({_plain(node['op_type'])})"
            self._node(where, node)
            most = min((MOST_NUMBERS * pixels + 4 * self.weights) * batch, _MANY)
            if self.numbers > most:
                self.refuse(where, f"at most {most} numbers in all results", "more")
            most = min(MOST_PRODUCTS * pixels * batch, _MANY)
            if self.products > most:
                self.refuse(where, f"at most {most} products", "more")

    def _results(self, outputs: Mapping[str, Shape]) -> None:
        for name, shape in outputs.items():
            value = self.values.get(name, _Value(shape=()))
            if value.shape != shape:
                self.refuse(name, _shown(shape), _shown(value.shape))
            if value.held != _FLOATS:
                self.refuse(name, _FLOATS, value.held)

    def _initializers(self) -> None:
        for tensor in self.graph["initializer"]:
            self._define(tensor.get("name", ""), self._tensor(tensor), "initializer")

    def _ends(self, kind: str, names: list[str] | None, number_type: int) -> dict[str, Shape]:
        """Return the shapes of the graph's inputs or outputs, whose first side becomes 1.

        `None` accepts one to `MOST_LAYERS` outputs of any names.
        """
        values = self.graph[kind]
        got = [value["name"] for value in values]
        if names is None and not 1 <= len(set(got)) == len(got) <= MOST_LAYERS:
            self.refuse(kind, f"1 to {MOST_LAYERS} of different names", str(len(got)))
        if names is not None and got != names:
            self.refuse(kind, ", ".join(names), _plain(", ".join(got)) or "none")
        shapes = {}
        for value in values:
            tensor = value["type"]["tensor_type"]
            first, *sides = tensor["shape"]["dim"] or [{}]
            fixed = [side.get("dim_value", 0) for side in sides if "dim_param" not in side]
            free = bool(first.get("dim_param")) and "dim_value" not in first
            held = all(0 < side < LONGEST_SIDE for side in fixed) and len(fixed) == len(sides)
            if tensor["elem_type"] != number_type or not free or not held:
                expected = f"numbers of type {number_type} and (B, fixed sizes)"
                self.refuse(_plain(value["name"]), expected, "another type or shape")
            shapes[value["name"]] = (1, *fixed)
        return shapes

    def _define(self, name: str, value: _Value, where: str) -> None:
        if not name or name in self.values:
            self.refuse(where, "a new name for each value", f"'{_plain(name)}'")
        self.values[name] = value

    def _tensor(self, tensor: Parsed) -> _Value:
        name, shape = f"tensor '{_plain(tensor.get('name', ''))}'", tuple(tensor["dims"])
        width = _NUMBER_BYTES.get(tensor["data_type"])
        if width is None:
            self.refuse(name, "type 1, 2, 3, 6, 7, 9 or 10", str(tensor["data_type"]))
        if not all(0 < side < LONGEST_SIDE for side in shape) or len(shape) > MOST_DIMENSIONS:
            self.refuse(name, "up to 8 dimensions above 0", _shown(shape))
        given = [field for field in ("raw_data", "float_data", "int32_data") if field in tensor]
        if len(given) != 1:
            self.refuse(name, "its numbers once", f"{len(given)} times")
        count = self._count(name, tensor, given[0], width)
        if prod(shape) != count:
            self.refuse(name, "as many numbers as it has", str(count))
        self.weights += count
        held = _HELD[tensor["data_type"]]
        if tensor["data_type"] != INT64:
            return _Value(shape=shape, held=held)
        if count > MOST_WHOLE:
            self.refuse(name, f"at most {MOST_WHOLE} integers", str(count))
        numbers = struct.unpack(f"<{count}q", tensor["raw_data"].content)
        return _Value(shape=shape, held=held, numbers=numbers)

    def _count(self, name: str, tensor: Parsed, field: str, width: int) -> int:
        """Return how many numbers a tensor has."""
        kind, content = tensor["data_type"], tensor[field]
        if field == "int32_data":
            if kind not in _BYTES or not all(number in _BYTES[kind] for number in content):
                self.refuse(name, "bytes in int32_data", "other numbers")
            return len(content)
        if field == "float_data":
            if kind != _FLOAT:
                self.refuse(name, "type 1 for float_data", str(kind))
            return len(content) // 4
        count, rest = divmod(content.size, width)
        if rest:
            self.refuse(name, f"a multiple of {width} bytes", str(content.size))
        return int(count)

    def _node(self, where: str, node: Parsed) -> None:
        allowed = _operators().get(node["op_type"])
        if allowed is None:
            self.refuse(where, "an operator of the workshop", f"'{_plain(node['op_type'])}'")
        names, outputs = node["input"], node["output"]
        single = node["op_type"] == "Split" or len(outputs) == 1
        if len(names) not in allowed.counts or not outputs or not single:
            words = " or ".join(map(str, allowed.counts))
            self.refuse(where, f"{words} inputs and 1 output", f"{len(names)} and {len(outputs)}")
        for name in names:
            if name not in self.values:
                self.refuse(where, "inputs that were made before", f"'{_plain(name)}'")
        attributes = self._attributes(where, node, allowed.attributes)
        inputs = [self.values[name] for name in names]
        held = self._held(where, node["op_type"], inputs, allowed.whole)
        numbers = None
        if "value" in attributes:
            constant = self._tensor(attributes["value"])
            attributes["value"], held, numbers = constant.shape, constant.held, constant.numbers
        call = Call(
            kind=node["op_type"],
            inputs=[value.shape for value in inputs],
            attributes=attributes,
            numbers=[value.numbers for value in inputs],
            outputs=len(outputs),
        )
        try:
            shapes = result_shapes(call)
            made = made_numbers(call) if numbers is None else numbers
        except ShapeError as error:
            self.refuse(where, error.expected, error.got)
        for shape in shapes:
            if not all(0 < side < LONGEST_SIDE for side in shape) or len(shape) > MOST_DIMENSIONS:
                self.refuse(where, "up to 8 sides below 2^31", _shown(shape))
        self.numbers += sum(map(prod, shapes))
        self.products += work_of(call, shapes)
        for output, shape in zip(outputs, shapes, strict=True):
            found = _WHOLE if made is not None else held
            self._define(output, _Value(shape=shape, held=found, numbers=made), where)

    def _held(self, where: str, kind: str, inputs: list[_Value], whole: tuple[int, ...]) -> str:
        """Check what a node's inputs hold, and return what its result does."""
        for place, value in enumerate(inputs):
            expected = _WHOLE if place in whole else _FLOATS
            if kind == "Where" and place == 0:
                expected = _TRUTHS
            takes = place not in whole and kind in _TAKE.get(value.held, ())
            if value.held != expected and not takes:
                self.refuse(where, f"inputs of {expected}", value.held)
        return _MAKING.get(kind, inputs[0].held if inputs and kind in _PASSING else _FLOATS)

    def _attributes(self, where: str, node: Parsed, kinds: Mapping[str, str]) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for attribute in node["attribute"]:
            name, kind = attribute["name"], attribute["type"]
            if name in attributes or kinds.get(name, "none") != _NAMES_OF_TYPES.get(kind):
                self.refuse(where, "attributes of the workshop, once", f"'{_plain(name)}'")
            field = _FIELDS_OF_TYPES[kind]
            given = {key for key in ("f", "i", "s", "t") if key in attribute}
            given |= {"ints"} if attribute["ints"] else set()
            if given != {field}:
                self.refuse(where, f"{name} of type {kinds[name]}", "another or several")
            attributes[name] = attribute[field]
        return attributes

    def refuse(self, where: str, expected: str, got: str) -> NoReturn:
        raise ArtifactError(
            f"{self.path}: {where}: expected {expected}, got {got}; copy the folder again"
        )


def _plain(text: str) -> str:
    """Return the first bytes of a text from the file, in ASCII."""
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in text.encode()[:40])


def _shown(shape: Shape) -> str:
    return "x".join(map(str, shape))[:80] or "a single number"


@dataclass(frozen=True, kw_only=True)
class _Operator:
    """One row of the table."""

    counts: tuple[int, ...]  # numbers of inputs
    attributes: dict[str, str]  # name -> kind
    whole: tuple[int, ...]  # places of the inputs that are int64 constants


@cache
def _operators() -> dict[str, _Operator]:
    """Load the table; the C++ runner compiles the same file."""
    text = files("patchcore_runtime.engine").joinpath("operators.csv").read_text("utf-8")
    return {
        name: _Operator(
            counts=tuple(map(int, counts.split())),
            attributes=dict(pair.split(":") for pair in attributes.split()),
            whole=tuple(map(int, whole.split())),
        )
        for name, counts, attributes, whole, _ in csv.reader(text.splitlines())
    }
