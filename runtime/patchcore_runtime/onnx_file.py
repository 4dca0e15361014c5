"""Write ONNX files without the onnx package: nodes, tensors and values as protobuf bytes.

parts of a graph -> the bytes that onnx's own deterministic serialisation gives (a test holds both
to each other). Only what index_graph.py needs. Messages and their field numbers: onnx.proto,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; encoding:
https://protobuf.dev/programming-guides/encoding. A message's fields stand in ascending order.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOAT, INT64, FLOAT16 = 1, 7, 10  # TensorProto.DataType
_KINDS = {"<f4": FLOAT, "<i8": INT64, "<f2": FLOAT16}
_EXTERNAL = 1  # TensorProto.DataLocation
Attribute = int | float | str | Sequence[int]


def node(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Attribute
) -> bytes:
    """A NodeProto of the default domain."""
    parts = [_text(1, value) for value in inputs]
    parts += [_text(2, value) for value in outputs]
    parts += [_text(3, name), _text(4, kind)]
    parts += [_field(5, _attribute(key, attributes[key])) for key in sorted(attributes)]
    return b"".join(parts)


def tensor(name: str, values: NDArray[np.generic]) -> bytes:
    """A TensorProto that holds its numbers itself."""
    kind = _KINDS[values.dtype.newbyteorder("<").str]
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return _dims(values.shape) + _integer(2, kind) + _text(8, name) + _field(9, content)


def external_tensor(
    name: str, dtype: str, shape: Sequence[int], place: tuple[str, int, int]
) -> bytes:
    """A TensorProto whose numbers lie in another file.

    Args:
        name: Of the tensor.
        dtype: `<f4`, `<f2` or `<i8`.
        shape: Its sides.
        place: File beside the graph, offset and length in bytes.
    """
    entries = zip(("location", "offset", "length"), place, strict=True)
    pairs = b"".join(_field(13, _text(1, key) + _text(2, str(value))) for key, value in entries)
    return (
        _dims(shape) + _integer(2, _KINDS[dtype]) + _text(8, name) + pairs + _integer(14, _EXTERNAL)
    )


def value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto: an input or output of the graph; a side is a number or a letter."""
    sides = b"".join(
        _field(1, _text(2, side) if isinstance(side, str) else _integer(1, side)) for side in shape
    )
    tensor_type = _integer(1, kind) + _field(2, sides)
    return _text(1, name) + _field(2, _field(1, tensor_type))


def graph(
    name: str,
    *,
    nodes: Sequence[bytes],
    tensors: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
) -> bytes:
    """A GraphProto."""
    parts = [_field(1, part) for part in nodes]
    parts.append(_text(2, name))
    parts += [_field(5, part) for part in tensors]
    parts += [_field(11, part) for part in inputs]
    parts += [_field(12, part) for part in outputs]
    return b"".join(parts)


def model(content: bytes, *, opset: int, ir_version: int, producer: str) -> bytes:
    """A ModelProto around a graph: what an .onnx file holds."""
    imported = _text(1, "") + _integer(2, opset)
    return _integer(1, ir_version) + _text(2, producer) + _field(7, content) + _field(8, imported)


def _attribute(name: str, given: Attribute) -> bytes:
    """An AttributeProto; field 20 says which kind it is."""
    if isinstance(given, int):
        return _text(1, name) + _integer(3, given) + _integer(20, 2)
    if isinstance(given, float):
        return _text(1, name) + _key(2, 5) + struct.pack("<f", given) + _integer(20, 1)
    if isinstance(given, str):
        return _text(1, name) + _text(4, given) + _integer(20, 3)
    return _text(1, name) + b"".join(_integer(8, item) for item in given) + _integer(20, 7)


def _dims(shape: Sequence[int]) -> bytes:
    return b"".join(_integer(1, side) for side in shape)


def _text(number: int, content: str) -> bytes:
    return _field(number, content.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, a string or a message."""
    return _key(number, 2) + _varint(len(content)) + content


def _integer(number: int, content: int) -> bytes:
    return _key(number, 0) + _varint(content)


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(content: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64-bit two's complement."""
    content &= 2**64 - 1
    encoded = bytearray()
    while content > 0x7F:
        encoded.append(content & 0x7F | 0x80)
        content >>= 7
    encoded.append(content)
    return bytes(encoded)
