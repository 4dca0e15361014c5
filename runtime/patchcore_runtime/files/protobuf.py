"""Protobuf's wire format: read and write the fields of a message.

path of a file -> its fields; numbers, strings and messages -> bytes. No message is known by name.
Encoding: https://protobuf.dev/programming-guides/encoding. Callers write fields in ascending order,
as deterministic serialisation requires.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import open_regular

VARINT, BYTES = 0, 2  # wire types; strings and messages are bytes, too
_SKIPPED = {1: 8, 5: 4}  # wire type -> length of a fixed-size number in bytes
_MOST_FIELDS = 300_000  # takes half a second to walk; the largest network here has a tenth of it


class NoProtobufError(Exception):
    """The bytes are not a message; the text says where."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a message, by its offsets in the file; the tag precedes the content."""

    number: int
    wire: int
    start: int  # offset of the tag
    begin: int  # offset of the content
    end: int


class Message:
    """A mapped file; it limits the number of fields, so that no file makes a walk endless."""

    def __init__(self, whole: mmap.mmap) -> None:
        self.whole = whole
        self._left = _MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message between two offsets."""
        place = start
        while place < end:
            self._left -= 1
            if self._left < 0:
                raise NoProtobufError(f"more than {_MOST_FIELDS} fields")
            first = place
            tag, place = self._varint(place, end)
            number, wire = tag >> 3, tag & 7
            begin = place
            if wire == VARINT:
                _, place = self._varint(place, end)
            elif wire == BYTES:
                length, begin = self._varint(place, end)
                place = begin + length
            elif wire in _SKIPPED:
                place += _SKIPPED[wire]
            else:
                raise NoProtobufError(f"wire type {wire} at byte {begin}")
            if place > end or number == 0:
                raise NoProtobufError(f"a field that ends outside of its message at byte {begin}")
            yield Field(number=number, wire=wire, start=first, begin=begin, end=place)

    def number(self, field: Field) -> int:
        """Return the value of a VARINT."""
        return self._varint(field.begin, field.end)[0]

    def text(self, field: Field) -> str:
        """Return the value of a string, at most 200 bytes of it."""
        return self.whole[field.begin : min(field.end, field.begin + 200)].decode(
            "utf-8", "replace"
        )

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self.whole[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place
        raise NoProtobufError(f"no number at byte {place}")


@contextmanager
def onnx_message(path: Path) -> Iterator[Message]:
    """Map an ONNX file to read its fields, without reading its weights.

    Raises:
        ArtifactError: the file cannot be read, or its content is not protobuf.
    """
    try:
        with open_regular(path, own=True) as file:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
    except ValueError:  # an empty file cannot be mapped
        raise ArtifactError(
            f"{path}: expected an ONNX graph, got no bytes; onnxruntime cannot load it"
        ) from None
    with whole:
        try:
            yield Message(whole)
        except NoProtobufError as error:
            raise ArtifactError(
                f"{path}: expected an ONNX graph, got {error}; onnxruntime cannot load it"
            ) from None


def text_field(number: int, content: str) -> bytes:
    """Encode a field that is a string."""
    return bytes_field(number, content.encode())


def bytes_field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes, a string or a message."""
    return field_key(number, BYTES) + _varint(len(content)) + content


def integer_field(number: int, content: int) -> bytes:
    """Encode a field that is a whole number of at most 64 bits."""
    return field_key(number, VARINT) + _varint(content)


def field_key(number: int, wire: int) -> bytes:
    """Encode a field's tag, which precedes its content."""
    return _varint(number << 3 | wire)


def _varint(content: int) -> bytes:
    """Encode seven bits per byte, lowest first; negative numbers as 64-bit two's complement."""
    content &= 2**64 - 1
    encoded = bytearray()
    while content > 0x7F:
        encoded.append(content & 0x7F | 0x80)
        content >>= 7
    encoded.append(content)
    return bytes(encoded)
