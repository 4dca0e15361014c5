"""Write ONNX files without the onnx package: nodes, tensors and values as protobuf bytes.

parts of a graph -> the same bytes as onnx's own deterministic serialisation (a test compares them).
The module supports only the messages that the search graphs need. Messages and their field numbers:
onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.files.protobuf import bytes_field, field_key, integer_field, text_field

FLOAT, INT64, FLOAT16 = 1, 7, 10  # TensorProto.DataType
_KINDS = {"<f4": FLOAT, "<i8": INT64, "<f2": FLOAT16}
_EXTERNAL = 1  # TensorProto.DataLocation
Attribute = int | float | str | Sequence[int]


def node(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Attribute
) -> bytes:
    """Encode a NodeProto of the default domain."""
    parts = [text_field(1, value) for value in inputs]
    parts += [text_field(2, value) for value in outputs]
    parts += [text_field(3, name), text_field(4, kind)]
    parts += [bytes_field(5, _attribute(key, attributes[key])) for key in sorted(attributes)]
    return b"".join(parts)


def tensor(name: str, values: NDArray[np.generic]) -> bytes:
    """Encode a TensorProto that contains its numbers."""
    kind = _KINDS[values.dtype.newbyteorder("<").str]
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return (
        _dims(values.shape) + integer_field(2, kind) + text_field(8, name) + bytes_field(9, content)
    )


def external_tensor(
    name: str, dtype: str, shape: Sequence[int], place: tuple[str, int, int]
) -> bytes:
    """Encode a TensorProto whose numbers are in another file.

    Args:
        name: Name of the tensor.
        dtype: `<f4`, `<f2` or `<i8`.
        shape: Its sides.
        place: File beside the graph, offset and length in bytes.
    """
    return (
        _dims(shape)
        + integer_field(2, _KINDS[dtype])
        + text_field(8, name)
        + external_place(*place)
    )


def external_place(location: str, offset: int, length: int) -> bytes:
    """Encode the last fields of a TensorProto, which say where its numbers are."""
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    pairs = (text_field(1, key) + text_field(2, value) for key, value in entries.items())
    return b"".join(bytes_field(13, pair) for pair in pairs) + integer_field(14, _EXTERNAL)


def value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """Encode a ValueInfoProto, an input or output of the graph; a side is a number or a letter."""
    sides = b"".join(
        bytes_field(1, text_field(2, side) if isinstance(side, str) else integer_field(1, side))
        for side in shape
    )
    tensor_type = integer_field(1, kind) + bytes_field(2, sides)
    return text_field(1, name) + bytes_field(2, bytes_field(1, tensor_type))


def graph(
    name: str,
    *,
    nodes: Sequence[bytes],
    tensors: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
) -> bytes:
    """Encode a GraphProto."""
    parts = [bytes_field(1, part) for part in nodes]
    parts.append(text_field(2, name))
    parts += [bytes_field(5, part) for part in tensors]
    parts += [bytes_field(11, part) for part in inputs]
    parts += [bytes_field(12, part) for part in outputs]
    return b"".join(parts)


def model(content: bytes, *, opset: int, ir_version: int, producer: str) -> bytes:
    """Encode a ModelProto around a graph: the content of an .onnx file."""
    imported = text_field(1, "") + integer_field(2, opset)
    return (
        integer_field(1, ir_version)
        + text_field(2, producer)
        + bytes_field(7, content)
        + bytes_field(8, imported)
    )


def _attribute(name: str, given: Attribute) -> bytes:
    """Encode an AttributeProto; field 20 is its type."""
    if isinstance(given, int):
        return text_field(1, name) + integer_field(3, given) + integer_field(20, 2)
    if isinstance(given, float):
        return (
            text_field(1, name) + field_key(2, 5) + struct.pack("<f", given) + integer_field(20, 1)
        )
    if isinstance(given, str):
        return text_field(1, name) + text_field(4, given) + integer_field(20, 3)
    return (
        text_field(1, name)
        + b"".join(integer_field(8, item) for item in given)
        + integer_field(20, 7)
    )


def _dims(shape: Sequence[int]) -> bytes:
    return b"".join(integer_field(1, side) for side in shape)
