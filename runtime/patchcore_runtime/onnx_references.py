"""Which files an ONNX graph wants to read, found before onnxruntime opens any of them.

path of an .onnx file -> its external data, or ArtifactError. Walks the protobuf messages of
onnx.proto3 that can hold tensors, wherever they are nested, and skips all others unread.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.memory_bank import Section
from patchcore_runtime.regular_file import open_regular

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
_MOST_FIELDS = 300_000  # half a second of walking; the largest network here has a tenth
_MOST_NESTED = 64  # graphs in attributes of graphs: what protobuf's own readers stop at is 100
_SKIPPED = {1: 8, 5: 4}  # wire type -> bytes of a fixed number


@dataclass(frozen=True, kw_only=True)
class ExternalData:
    """One tensor whose values lie in another file; as the graph has it, unchecked."""

    tensor: str
    entries: dict[str, str]  # location, offset, length


def check_no_references(path: Path) -> None:
    """Refuse a graph that wants any file but its own.

    Raises:
        ArtifactError: it has external data, or is no protobuf.
    """
    for data in external_data(path):
        _refuse(path, data, "location", "none: it holds all its weights")


def check_references(path: Path, location: str, placed: Sequence[Section]) -> None:
    """Refuse a graph whose external data is not inside one section of that file.

    Raises:
        ArtifactError: it names another file or other bytes, or is no protobuf.
    """
    for data in external_data(path):
        if data.entries.get("location") != location:
            _refuse(path, data, "location", location)
        start, length = (_number(path, data, field) for field in ("offset", "length"))
        if not any(
            part.offset <= start and start + length <= part.offset + part.size for part in placed
        ):
            _refuse(path, data, "offset", f"a place inside one section of {location}")


def external_data(path: Path) -> list[ExternalData]:
    """All external data of a graph, in the order of the file; costs no read of its weights.

    Raises:
        ArtifactError: the file cannot be read or is no protobuf.
    """
    try:
        with open_regular(path) as file:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
    except ValueError:  # an empty file cannot be mapped
        raise ArtifactError(
            f"{path}: expected an ONNX graph, got no bytes; onnxruntime cannot load it"
        ) from None
    with whole:
        try:
            return list(_Walk(whole).tensors("model", 0, len(whole), _MOST_NESTED))
        except _NoProtobufError as error:
            raise ArtifactError(
                f"{path}: expected an ONNX graph, got {error}; onnxruntime cannot load it"
            ) from None


class _NoProtobufError(Exception):
    """Where the bytes are no message."""


class _Walk:
    """One pass over a file; counts what it has seen, so that no file can make it endless."""

    def __init__(self, whole: mmap.mmap) -> None:
        self._whole = whole
        self._left = _MOST_FIELDS

    def tensors(self, kind: str, start: int, end: int, depth: int) -> Iterator[ExternalData]:
        if depth == 0:
            raise _NoProtobufError(f"graphs nested deeper than {_MOST_NESTED}")
        for number, wire, begin, stop in self._fields(start, end):
            inner = _INSIDE[kind].get(number)
            if inner is None or wire != 2:
                continue
            if inner == "tensor":
                yield from self._tensor(begin, stop)
            else:
                yield from self.tensors(inner, begin, stop, depth - 1)

    def _tensor(self, start: int, end: int) -> Iterator[ExternalData]:
        name, entries, elsewhere = "", {}, False
        for number, wire, begin, stop in self._fields(start, end):
            if number == _TENSOR_NAME and wire == 2:
                name = self._text(begin, stop)
            elif number == _EXTERNAL_DATA and wire == 2:
                elsewhere = True
                pair = {field: self._text(a, b) for field, _, a, b in self._fields(begin, stop)}
                entries[pair.get(1, "")] = pair.get(2, "")
            elif number == _DATA_LOCATION and wire == 0:
                elsewhere = elsewhere or self._varint(begin, stop)[0] == 1
        if elsewhere:
            yield ExternalData(tensor=name, entries=entries)

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, begin and end of the content of each field between two offsets."""
        place = start
        while place < end:
            self._left -= 1
            if self._left < 0:
                raise _NoProtobufError(f"more than {_MOST_FIELDS} fields")
            tag, place = self._varint(place, end)
            number, wire = tag >> 3, tag & 7
            begin = place
            if wire == 0:
                _, place = self._varint(place, end)
            elif wire == 2:
                length, begin = self._varint(place, end)
                place = begin + length
            elif wire in _SKIPPED:
                place += _SKIPPED[wire]
            else:
                raise _NoProtobufError(f"wire type {wire} at byte {begin}")
            if place > end or number == 0:
                raise _NoProtobufError(f"a field that ends outside of its message at byte {begin}")
            yield number, wire, begin, place

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self._whole[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place
        raise _NoProtobufError(f"no number at byte {place}")

    def _text(self, start: int, end: int) -> str:
        return self._whole[start : min(end, start + 200)].decode("utf-8", "replace")


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
