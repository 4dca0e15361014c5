"""An ONNX graph without its weights: onnxruntime maps them from the file that has them.

path of an .onnx file -> a graph in bytes whose large tensors say that they lie in that very file.
Given the path, onnxruntime reads the file whole, then copies each tensor out of it: twice the
weights on top of the copy that it keeps in the order its kernels like.
"""

from collections.abc import Iterator
from pathlib import Path

from patchcore_runtime.onnx_file import external_data
from patchcore_runtime.protobuf import BYTES, Field, Message, bytes_field, onnx_message

_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14  # of TensorProto
_LEAST_BYTES = 64 * 1024  # smaller ones, shapes among them, are wanted before weights are


def graph_in_place(path: Path) -> bytes:
    """The graph of a file; its large tensors stay where they are, as external data.

    To be loaded with the file's folder as that of external data. Other external data stays as it
    is, and so do tensors that are not initializers of the main graph.

    Raises:
        ArtifactError: the file cannot be read or is no protobuf.
    """
    with onnx_message(path) as message:
        return b"".join(_model(message, path.name))


def _model(message: Message, location: str) -> Iterator[bytes]:
    for field in message.fields(0, len(message.whole)):
        if field.number == _GRAPH and field.wire == BYTES:
            yield bytes_field(_GRAPH, b"".join(_graph(message, field, location)))
        else:
            yield message.whole[field.start : field.end]


def _graph(message: Message, graph: Field, location: str) -> Iterator[bytes]:
    for field in message.fields(graph.begin, graph.end):
        if field.number == _INITIALIZER and field.wire == BYTES:
            yield bytes_field(_INITIALIZER, _tensor(message, field, location))
        else:
            yield message.whole[field.start : field.end]


def _tensor(message: Message, tensor: Field, location: str) -> bytes:
    fields = list(message.fields(tensor.begin, tensor.end))
    values = [field for field in fields if field.number == _RAW_DATA and field.wire == BYTES]
    elsewhere = any(field.number in (_EXTERNAL_DATA, _DATA_LOCATION) for field in fields)
    if elsewhere or len(values) != 1 or values[0].end - values[0].begin < _LEAST_BYTES:
        return message.whole[tensor.begin : tensor.end]
    (raw,) = values
    kept = (message.whole[field.start : field.end] for field in fields if field is not raw)
    return b"".join(kept) + external_data(location, raw.begin, raw.end - raw.begin)
