"""Refuse a feature network that is not made of the workshop's operators, or that is too large.

parsed features.onnx -> nothing, or ArtifactError naming the node. operators.csv lists the operators
and their attributes. All of them have results whose shapes follow from the shapes of their inputs,
so the size and the work of a network are known before an engine opens it.
"""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from patchcore_runtime.engine.onnx_model import Parsed
from patchcore_runtime.engine.operator_shapes import ShapeError, result_shape, work_of
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.manifest.features import MOST_LAYERS

Shape = tuple[int, ...]

OPSETS = range(11, 18)
MOST_NODES = 4096
# Per pixel of a tile. wide_resnet101_2 has about 2,500 numbers in int8 and 450,000 products.
MOST_NUMBERS = 4096  # of all results together
MOST_PRODUCTS = 2**21
_FIELDS_OF_TYPES = {1: "f", 2: "i", 3: "s", 4: "t", 7: "ints"}  # AttributeProto.AttributeType
_NAMES_OF_TYPES = {1: "float", 2: "int", 3: "text", 4: "tensor", 7: "ints"}
_NUMBER_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 10: 2}  # TensorProto.DataType -> bytes of a number
_BYTES = {2: range(256), 3: range(-128, 128)}  # types whose numbers may be in int32_data
_INTEGERS = (2, 3, 6)
_TAKE_INTEGERS = ("Cast", "DequantizeLinear", "QuantizeLinear", "Transpose")
_FLOAT, _UINT8 = 1, 2
_LONGEST_SIDE = 2**31


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


class _Network:
    def __init__(self, path: Path, graph: Parsed) -> None:
        self.path = path
        self.graph = graph
        self.shapes: dict[str, Shape] = {}
        self.whole: set[str] = {"images"}  # values that are integers
        self.weights = self.numbers = self.products = 0

    def check(self, opset: Parsed) -> dict[str, Shape]:
        if opset.get("domain", "") or opset["version"] not in OPSETS:
            got = f"{opset['version']} of '{_plain(opset.get('domain', ''))}'"
            self.refuse("opset_import", "11 to 17 of ''", got)
        images = self._ends("input", ["images"], _UINT8)["images"]
        if len(images) != 4:
            self.refuse("images", "4 dimensions", str(len(images)))
        self.shapes["images"] = images
        self._initializers()
        pixels = images[1] * images[2]
        nodes = self.graph["node"]
        if len(nodes) > MOST_NODES:
            self.refuse("node", f"at most {MOST_NODES}", str(len(nodes)))
        for number, node in enumerate(nodes):
            where = f"node {number} ({_plain(node['op_type'])})"
            self._node(where, node)
            most = MOST_NUMBERS * pixels + 4 * self.weights
            if self.numbers > most:
                self.refuse(where, f"at most {most} numbers in all results", "more")
            if self.products > MOST_PRODUCTS * pixels:
                self.refuse(where, f"at most {MOST_PRODUCTS * pixels} products", "more")
        outputs = self._ends("output", None, _FLOAT)
        for name, shape in outputs.items():
            if self.shapes.get(name) != shape:
                self.refuse(name, _shown(shape), _shown(self.shapes.get(name, ())))
        return {"images": images[1:], **{name: shape[1:] for name, shape in outputs.items()}}

    def _initializers(self) -> None:
        for tensor in self.graph["initializer"]:
            self._define(tensor.get("name", ""), self._tensor(tensor), "initializer")
            if tensor["data_type"] in _INTEGERS:
                self.whole.add(tensor["name"])

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
            held = all(0 < side < _LONGEST_SIDE for side in fixed) and len(fixed) == len(sides)
            if tensor["elem_type"] != number_type or not free or not held:
                expected = f"numbers of type {number_type} and (B, fixed sizes)"
                self.refuse(_plain(value["name"]), expected, "another type or shape")
            shapes[value["name"]] = (1, *fixed)
        return shapes

    def _define(self, name: str, shape: Shape, where: str) -> None:
        if not name or name in self.shapes:
            self.refuse(where, "a new name for each value", f"'{_plain(name)}'")
        self.shapes[name] = shape

    def _tensor(self, tensor: Parsed) -> Shape:
        name, shape = f"tensor '{_plain(tensor.get('name', ''))}'", tuple(tensor["dims"])
        width = _NUMBER_BYTES.get(tensor["data_type"])
        if width is None:
            self.refuse(name, "type 1, 2, 3, 6 or 10", str(tensor["data_type"]))
        if not all(0 < side < _LONGEST_SIDE for side in shape) or len(shape) > 8:
            self.refuse(name, "up to 8 dimensions above 0", _shown(shape))
        given = [field for field in ("raw_data", "float_data", "int32_data") if field in tensor]
        if len(given) != 1:
            self.refuse(name, "its numbers once", f"{len(given)} times")
        count = self._count(name, tensor, given[0], width)
        if prod(shape) != count:
            self.refuse(name, "as many numbers as it has", str(count))
        self.weights += count
        return shape

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
        counts, kinds = allowed
        if len(node["input"]) not in counts or len(node["output"]) != 1:
            got = f"{len(node['input'])} and {len(node['output'])}"
            words = " or ".join(map(str, counts))
            self.refuse(where, f"{words} inputs and 1 output", got)
        for name in node["input"]:
            if name not in self.shapes:
                self.refuse(where, "inputs that were made before", f"'{_plain(name)}'")
        attributes = self._attributes(where, node, kinds)
        inputs = [self.shapes[name] for name in node["input"]]
        self._check_kinds(where, node, attributes)
        if "value" in attributes:
            attributes["value"] = self._tensor(attributes["value"])
        try:
            shape = result_shape(node["op_type"], inputs, attributes)
        except ShapeError as error:
            self.refuse(where, error.expected, error.got)
        self.numbers += prod(shape)
        self.products += work_of(node["op_type"], inputs, attributes, shape)
        self._define(node["output"][0], shape, where)

    def _check_kinds(self, where: str, node: Parsed, attributes: Mapping[str, Any]) -> None:
        """Refuse arithmetic of integers, which engines may end with a signal."""
        kind, value = node["op_type"], attributes.get("value")
        takes = self.whole.intersection(node["input"])
        if takes and kind not in _TAKE_INTEGERS:
            self.refuse(where, "inputs of floating point", "integers")
        stays = bool(takes) and kind == "Transpose"
        if stays or kind == "QuantizeLinear" or (value and value["data_type"] in _INTEGERS):
            self.whole.update(node["output"])

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


@cache
def _operators() -> dict[str, tuple[tuple[int, ...], dict[str, str]]]:
    """Load the numbers of inputs, and the kinds of attributes, of each operator.

    The C++ runner compiles the same file.
    """
    text = files("patchcore_runtime.engine").joinpath("operators.csv").read_text("utf-8")
    return {
        name: (
            tuple(map(int, counts.split())),
            dict(pair.split(":") for pair in attributes.split()),
        )
        for name, counts, attributes, _ in csv.reader(text.splitlines())
    }
