"""Find the files that an ONNX graph refers to, before onnxruntime opens any of them.

path of an .onnx file -> its external data, or ArtifactError. The module walks the protobuf messages
of onnx.proto3 that can contain tensors, at any depth, and skips all others unread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.protobuf import BYTES, VARINT, Message, NoProtobufError, onnx_message

# Message -> its fields that lead to tensors, by number (onnx.proto3).
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_MOST_NESTED = 64  # depth of graphs in attributes of graphs; protobuf's own limit is 100


@dataclass(frozen=True, kw_only=True)
class ExternalData:
    """One tensor whose values are in another file, as stated in the graph, not validated."""

    tensor: str
    entries: dict[str, str]  # location, offset, length


def check_no_references(path: Path) -> None:
    """Refuse a graph that refers to any other file.

    Raises:
        ArtifactError: the graph has external data, or is not protobuf.
    """
    for data in external_data(path):
        _refuse(path, data, "location", "none: it holds all its weights")


def check_references(path: Path, location: str, placed: Sequence[tuple[int, int]]) -> None:
    """Refuse a graph whose external data is not inside one of the (offset, size) of that file.

    Raises:
        ArtifactError: the graph refers to another file or other bytes, or is not protobuf.
    """
    for data in external_data(path):
        if data.entries.get("location") != location:
            _refuse(path, data, "location", location)
        start, length = (_number(path, data, field) for field in ("offset", "length"))
        if not any(offset <= start and start + length <= offset + size for offset, size in placed):
            _refuse(path, data, "offset", f"a place inside one section of {location}")


def external_data(path: Path) -> list[ExternalData]:
    """List all external data of a graph, in the order of the file, without reading its weights.

    Raises:
        ArtifactError: the file cannot be read or is not protobuf.
    """
    with onnx_message(path) as message:
        return list(_tensors(message, "model", (0, len(message.whole)), _MOST_NESTED))


def _tensors(
    message: Message, kind: str, place: tuple[int, int], depth: int
) -> Iterator[ExternalData]:
    if depth == 0:
        raise NoProtobufError(f"graphs nested deeper than {_MOST_NESTED}")
    for field in message.fields(*place):
        inner = _INSIDE[kind].get(field.number)
        if inner is None or field.wire != BYTES:
            continue
        content = (field.begin, field.end)
        if inner == "tensor":
            yield from _tensor(message, content)
        else:
            yield from _tensors(message, inner, content, depth - 1)


def _tensor(message: Message, place: tuple[int, int]) -> Iterator[ExternalData]:
    name, entries, elsewhere = "", {}, False
    for field in message.fields(*place):
        if field.number == _TENSOR_NAME and field.wire == BYTES:
            name = message.text(field)
        elif field.number == _EXTERNAL_DATA and field.wire == BYTES:
            elsewhere = True
            parts = message.fields(field.begin, field.end)
            pair = {part.number: message.text(part) for part in parts}
            entries[pair.get(1, "")] = pair.get(2, "")
        elif field.number == _DATA_LOCATION and field.wire == VARINT:
            elsewhere = elsewhere or message.number(field) == 1
    if elsewhere:
        yield ExternalData(tensor=name, entries=entries)


def _number(path: Path, data: ExternalData, field: str) -> int:
    text = data.entries.get(field, "0" if field == "offset" else "")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        _refuse(path, data, field, "a whole number")
    return int(text)


def _refuse(path: Path, data: ExternalData, field: str, expected: str) -> None:
    got = ascii(data.entries.get(field, ""))[:80]
    raise ArtifactError(
        f"{path}: external data of {ascii(data.tensor)[:40]}: {field}: expected {expected}, "
        f"got {got}; copy the folder again"
    )
