"""torch.save's two containers and the pickle in them, assembled opcode by opcode."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

KINDS = {
    "f8": "DoubleStorage",
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "i4": "IntStorage",
    "i2": "ShortStorage",
    "i1": "CharStorage",
    "u1": "ByteStorage",
    "b1": "BoolStorage",
}
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    digits = pickle.encode_long(value)
    return b"\x8a" + bytes([len(digits)]) + digits


def numbers(values: tuple[int, ...]) -> bytes:
    return tuple_of(*map(number, values))


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def name_protocol_4(module: str, attribute: str) -> bytes:
    return text(module) + b"\x94" + text(attribute) + b"\x94\x93\x94"


def mapping(items: Mapping[str, bytes]) -> bytes:
    pairs = b"".join(text(key) + value for key, value in items.items())
    return name("collections", "OrderedDict") + b")R(" + pairs + b"u"


def storage(key: str, kind: str, count: int, *extra: bytes) -> bytes:
    parts = text("storage"), name("torch", kind), text(key), text("cpu"), number(count)
    return tuple_of(*parts, *extra) + b"Q"


def tensor(
    reference: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
) -> bytes:
    arguments = reference, number(offset), numbers(shape), numbers(strides), b"\x89", mapping({})
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(*arguments) + b"R"


def whole(key: str, array: NDArray[Any]) -> bytes:
    """Describe a contiguous tensor over its own storage."""
    strides = tuple(step // array.itemsize for step in array.strides)
    kind = KINDS[array.dtype.str[1:]]
    return tensor(storage(key, kind, array.size), array.shape, strides)


class Parts(NamedTuple):
    """A checkpoint before it is put into a container."""

    value: bytes
    storages: Mapping[str, bytes]
    counts: Mapping[str, int]


def zip_file(parts: Parts, *, byteorder: bytes | None = b"little") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + parts.value + b".")
        if byteorder is not None:
            archive.writestr("net/byteorder", byteorder)
        for key, raw in parts.storages.items():
            archive.writestr(f"net/data/{key}", raw)
    return buffer.getvalue()


def legacy_file(parts: Parts, *, protocol: int = 1001, little_endian: bool = True) -> bytes:
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    return b"".join(
        [
            MAGIC,
            pickle.dumps(protocol, 2),
            pickle.dumps(system, 2),
            b"\x80\x02" + parts.value + b".",
            pickle.dumps(list(parts.storages), 2),
            *(struct.pack("<q", parts.counts[key]) + raw for key, raw in parts.storages.items()),
        ]
    )


def pack(arrays: Mapping[str, NDArray[Any]]) -> Parts:
    keys = {label: str(index) for index, label in enumerate(arrays)}
    return Parts(
        mapping({label: whole(keys[label], array) for label, array in arrays.items()}),
        {keys[label]: array.tobytes() for label, array in arrays.items()},
        {keys[label]: array.size for label, array in arrays.items()},
    )


def one(value: bytes, raw: bytes = b"\0" * 24, count: int = 6) -> Parts:
    """Make a state dict `value` over one storage, "0"."""
    return Parts(value, {"0": raw}, {"0": count})
