"""Protobuf's wire format: read and write the fields of a message.

path of a file -> its fields; numbers, strings and messages -> bytes. No message is known by name.
Encoding: https://protobuf.dev/programming-guides/encoding. Only what a deterministic writer emits
is read: numbers in their shortest form, and tags of 32 bits. Other readers disagree about the rest.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import open_regular

VARINT, BYTES, FIXED32 = 0, 2, 5  # wire types; strings and messages are bytes, too
_MOST_FIELDS = 300_000  # takes half a second to walk; the largest network here has a fifth of it


class NoProtobufError(Exception):
    """The bytes are not a message; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a message, by its offsets in the file; `value` is the number of a VARINT."""

    number: int
    wire: int
    begin: int  # offset of the content
    end: int
    value: int


class Message:
    """A mapped file; it limits the fields and packed numbers, so that no file makes a walk endless.

    Args:
        whole: The bytes.
    """

    def __init__(self, whole: mmap.mmap | bytes) -> None:
        self.whole = whole
        self._left = _MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message between two offsets."""
        place = start
        while place < end:
            self._count()
            tag, begin = self._varint(place, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < tag >> 3 < 2**29:
                raise NoProtobufError(f"field number {number}")
            value = 0
            if wire == VARINT:
                value, place = self._varint(begin, end)
            elif wire == BYTES:
                length, begin = self._varint(begin, end)
                place = begin + length
            elif wire == FIXED32:
                place = begin + 4
            else:
                raise NoProtobufError(f"wire type {wire}")
            if place > end:
                raise NoProtobufError("a field that ends outside of its message")
            yield Field(number=number, wire=wire, begin=begin, end=place, value=value)

    def packed(self, field: Field) -> list[int]:
        """Return the numbers of a packed field of varints, as 64 bits without sign."""
        numbers, place = [], field.begin
        while place < field.end:
            self._count()
            number, place = self._varint(place, field.end)
            numbers.append(number)
        return numbers

    def content(self, field: Field) -> bytes:
        """Return a copy of the bytes of a field."""
        return self.whole[field.begin : field.end]

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise NoProtobufError(f"more than {_MOST_FIELDS} fields")

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self.whole[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                if (byte == 0 and shift > 0) or value >= 2**64:
                    raise NoProtobufError("a number that is not in its shortest form")
                return value, place
        raise NoProtobufError("no number where one must be")


@contextmanager
def onnx_message(path: Path, limit: int) -> Iterator[Message]:
    """Map an ONNX file of at most `limit` bytes to read its fields, without reading its weights.

    Raises:
        ArtifactError: the file cannot be read, or its content is not protobuf.
    """
    try:
        with open_regular(path, limit=limit, own=True) as file:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
    except ValueError:  # an empty file cannot be mapped
        raise ArtifactError(f"{path}: {_not_a_graph('no bytes')}") from None
    with whole:
        try:
            yield Message(whole)
        except NoProtobufError as error:
            raise ArtifactError(f"{path}: {_not_a_graph(str(error))}") from None


def _not_a_graph(got: str) -> str:
    return f"expected an ONNX graph as the workshop writes it, got {got}; copy the folder again"


def text_field(number: int, content: str) -> bytes:
    """Encode a field that is a string."""
    return bytes_field(number, content.encode())


def bytes_field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes, a string or a message."""
    return field_key(number, BYTES) + varint(len(content)) + content


def integer_field(number: int, content: int) -> bytes:
    """Encode a field that is a whole number of at most 64 bits."""
    return field_key(number, VARINT) + varint(content)


def field_key(number: int, wire: int) -> bytes:
    """Encode a field's tag, which precedes its content."""
    return varint(number << 3 | wire)


def varint(content: int) -> bytes:
    """Encode seven bits per byte, lowest first; negative numbers as 64-bit two's complement."""
    content &= 2**64 - 1
    encoded = bytearray()
    while content > 0x7F:
        encoded.append(content & 0x7F | 0x80)
        content >>= 7
    encoded.append(content)
    return bytes(encoded)
