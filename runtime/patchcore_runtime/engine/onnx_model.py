"""A feature network's ONNX file <-> its messages, by the table in onnx_fields.csv.

path -> nested dictionaries; these -> the same bytes, or the bytes of a graph whose large tensors
stay in their file. The table has the messages and fields that the workshop writes. Anything else is
refused: other fields, wire types and orders, and single fields that are repeated. So this reader,
onnxruntime and the onnx package all see the same model. Field numbers: onnx.proto,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from patchcore_runtime.engine.onnx_file import external_place
from patchcore_runtime.files.protobuf import (
    BYTES,
    FIXED32,
    VARINT,
    Field,
    Message,
    NoProtobufError,
    bytes_field,
    field_key,
    integer_field,
    onnx_message,
    varint,
)

Parsed = dict[str, Any]

_WIRES = {
    "int64": VARINT,
    "int32": VARINT,
    "enum": VARINT,
    "float": FIXED32,
}  # all others are BYTES
_ENUM = range(15)  # values of AttributeProto.AttributeType, the only one
_LONGEST_TEXT = 1000  # bytes
MOST_MODEL_BYTES = 2**31 - 1  # protobuf has no larger messages
LARGE = 64 * 1024  # onnxruntime needs smaller tensors, such as shapes, before the weights


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """One row of the table."""

    number: int
    name: str
    content: str  # the kind of its values, or the name of a message
    times: str  # "one", "maybe" or "many"

    @property
    def wire(self) -> int:
        return _WIRES.get(self.content, BYTES)


@dataclass(frozen=True)
class Numbers:
    """The content of a tensor's `raw_data`: `size` bytes of the file from `begin` on."""

    begin: int
    size: int
    content: bytes | None  # None if it was left in the file


def read_model(path: Path, *, least_bytes: int = LARGE) -> Parsed:
    """Read a model; large tensors are left in the file, and only their place is noted.

    Args:
        path: The .onnx file.
        least_bytes: Smallest size of a large tensor.

    Returns:
        The fields by name: a list for a field that may occur many times, and no entry for a
        missing one.

    Raises:
        ArtifactError: the file cannot be read, or has anything that the table does not have.
    """
    with onnx_message(path, MOST_MODEL_BYTES) as message:
        return _Reader(message, least_bytes).message("model", 0, len(message.whole))


def model_bytes(model: Parsed, location: str) -> bytes:
    """Serialise a model; tensors that were left in the file become external data in `location`.

    Without such tensors the bytes are those of the file.
    """
    return _written("model", model, location)


class _Reader:
    def __init__(self, source: Message, least_bytes: int) -> None:
        self.source = source
        self.least_bytes = least_bytes

    def message(self, kind: str, start: int, end: int) -> Parsed:
        rules = _rules()[kind]
        parsed: Parsed = {rule.name: [] for rule in rules.values() if rule.times == "many"}
        last = 0
        for field in self.source.fields(start, end):
            rule = rules.get(field.number)
            if rule is None:
                raise NoProtobufError(f"field {field.number} of a {kind}")
            if field.wire != rule.wire:
                raise NoProtobufError(f"wire type {field.wire} of {kind}.{rule.name}")
            if field.number < last or (field.number == last and rule.times != "many"):
                raise NoProtobufError(f"{kind}.{rule.name} a second time or too late")
            last = field.number
            value = self._value(rule, field, f"{kind}.{rule.name}")
            if rule.times == "many":
                parsed[rule.name].append(value)
            else:
                parsed[rule.name] = value
        for rule in rules.values():
            if rule.times == "one" and rule.name not in parsed:
                raise NoProtobufError(f"a {kind} without {rule.name}")
        return parsed

    def _value(self, rule: _Rule, field: Field, name: str) -> Any:
        if rule.wire == VARINT:
            return _signed(field.value, rule.content, name)
        if rule.content == "int32s":
            numbers = self.source.packed(field)
            if not numbers:
                raise NoProtobufError(f"no numbers in {name}")
            return [_signed(number, "int32", name) for number in numbers]
        size = field.end - field.begin
        if rule.content == "bytes":
            content = None if size >= self.least_bytes else self.source.content(field)
            return Numbers(field.begin, size, content)
        if rule.content == "text":
            return self._text(field, name)
        if rule.content == "floats" and (size == 0 or size % 4):
            raise NoProtobufError(f"{size} bytes of {name}")
        if rule.content in ("float", "floats"):
            return self.source.content(field)
        return self.message(rule.content, field.begin, field.end)

    def _text(self, field: Field, name: str) -> str:
        if field.end - field.begin > _LONGEST_TEXT:
            raise NoProtobufError(f"more than {_LONGEST_TEXT} bytes of {name}")
        try:
            return self.source.content(field).decode()
        except UnicodeDecodeError:
            raise NoProtobufError(f"{name} that is not UTF-8") from None


def _signed(number: int, kind: str, name: str) -> int:
    signed = number - 2**64 if number >= 2**63 else number
    if kind == "int32" and not -(2**31) <= signed < 2**31:
        raise NoProtobufError(f"{name} of more than 32 bits")
    if kind == "enum" and signed not in _ENUM:
        raise NoProtobufError(f"{name} {number}")
    return signed


def _written(kind: str, parsed: Parsed, location: str) -> bytes:
    parts: list[bytes] = []
    for rule in _rules()[kind].values():
        if rule.name in parsed:
            values = parsed[rule.name] if rule.times == "many" else [parsed[rule.name]]
            parts += (_field(rule, value, location) for value in values)
    return b"".join(parts)


def _field(rule: _Rule, value: Any, location: str) -> bytes:
    if rule.wire == VARINT:
        return integer_field(rule.number, value)
    if rule.wire == FIXED32:
        return field_key(rule.number, FIXED32) + bytes(value)
    if isinstance(value, Numbers):
        if value.content is None:
            return external_place(location, value.begin, value.size)
        value = value.content
    elif rule.content == "text":
        value = value.encode()
    elif rule.content == "int32s":
        value = b"".join(map(varint, value))
    elif rule.content != "floats":
        value = _written(rule.content, value, location)
    return bytes_field(rule.number, value)


@cache
def _rules() -> dict[str, dict[int, _Rule]]:
    """Load the table, by message and number; the C++ runner compiles the same file."""
    text = files("patchcore_runtime.engine").joinpath("onnx_fields.csv").read_text("utf-8")
    rules: dict[str, dict[int, _Rule]] = {}
    for kind, number, name, content, times, _ in csv.reader(text.splitlines()):
        rule = _Rule(number=int(number), name=name, content=content, times=times)
        rules.setdefault(kind, {})[rule.number] = rule
    return rules
