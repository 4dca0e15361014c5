"""An ONNX graph without its weights, which onnxruntime maps from the original file.

path of an .onnx file -> a graph in bytes whose large tensors refer to that same file as external
data. Given only the path, onnxruntime reads the whole file and copies each tensor out of it. That
needs twice the weights, in addition to the copy that it repacks for its kernels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.engine.onnx_file import external_place
from patchcore_runtime.files.protobuf import BYTES, Field, Message, bytes_field, onnx_message

_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14  # of TensorProto
_LEAST_BYTES = 64 * 1024  # onnxruntime needs smaller tensors, such as shapes, before the weights


def graph_in_place(path: Path, *, least_bytes: int = _LEAST_BYTES) -> bytes:
    """Return the graph of a file, with its large tensors left in the file as external data.

    Load it with the file's folder as the folder of external data. Existing external data is
    unchanged, and so are tensors that are not initializers of the main graph.

    Args:
        path: The .onnx file.
        least_bytes: Smallest size of a large tensor.

    Raises:
        ArtifactError: the file cannot be read or is not protobuf.
    """
    with onnx_message(path) as message:
        return b"".join(_Rewriter(message, path.name, least_bytes).model())


@dataclass(frozen=True)
class _Rewriter:
    message: Message
    location: str
    least_bytes: int

    def model(self) -> Iterator[bytes]:
        return self._each(0, len(self.message.whole), _GRAPH, self._graph)

    def _graph(self, graph: Field) -> Iterator[bytes]:
        return self._each(graph.begin, graph.end, _INITIALIZER, self._tensor)

    def _each(
        self, start: int, end: int, number: int, rewrite: Callable[[Field], Iterator[bytes]]
    ) -> Iterator[bytes]:
        """Yield the fields of a message; rewrite the submessages with the given field number."""
        for field in self.message.fields(start, end):
            if field.number == number and field.wire == BYTES:
                yield bytes_field(number, b"".join(rewrite(field)))
            else:
                yield self._copy(field)

    def _tensor(self, tensor: Field) -> Iterator[bytes]:
        fields = list(self.message.fields(tensor.begin, tensor.end))
        raw = [field for field in fields if field.number == _RAW_DATA and field.wire == BYTES]
        elsewhere = any(field.number in (_EXTERNAL_DATA, _DATA_LOCATION) for field in fields)
        large = len(raw) == 1 and raw[0].end - raw[0].begin >= self.least_bytes
        stays = raw if large and not elsewhere else []
        yield from (self._copy(field) for field in fields if field not in stays)
        for field in stays:
            yield external_place(self.location, field.begin, field.end - field.begin)

    def _copy(self, field: Field) -> bytes:
        return self.message.whole[field.start : field.end]
