"""Laws of `graph_in_place`: the graph of the file, whose large tensors are read from that file."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from patchcore_runtime.engine.mapped_weights import graph_in_place
from patchcore_runtime.engine.session import CPU, open_session
from patchcore_runtime.errors import ArtifactError

LARGE = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
SMALL = np.random.default_rng(1).standard_normal(256).astype(np.float32)


def model(*tensors):
    """Values · large + small."""
    nodes = [
        helper.make_node("MatMul", ["values", "large"], ["product"]),
        helper.make_node("Add", ["product", "small"], ["result"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 256])]
        for name in ("values", "result")
    ]
    graph = helper.make_graph(nodes, "one", *ends, list(tensors))
    opset = [helper.make_opsetid("", 11)]
    return helper.make_model(graph, opset_imports=opset, ir_version=6, producer_name="tests")


def own(name, values):
    return numpy_helper.from_array(values, name)


def written(folder, made):
    path = folder / "graph.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture
def path(tmp_path):
    return written(tmp_path, model(own("large", LARGE), own("small", SMALL)))


def entries(tensor):
    return {pair.key: pair.value for pair in tensor.external_data}


def test_large_tensors_point_into_the_file_and_all_else_stays(path):
    whole = onnx.load(path)
    lean = onnx.ModelProto.FromString(graph_in_place(path))
    large, small = lean.graph.initializer
    place = entries(large)
    assert place["location"] == "graph.onnx"
    start, length = int(place["offset"]), int(place["length"])
    assert path.read_bytes()[start : start + length] == LARGE.tobytes()
    assert not large.raw_data
    assert small == whole.graph.initializer[1]
    large.CopyFrom(whole.graph.initializer[0])
    assert lean == whole


def test_a_session_computes_the_same(path):
    values = np.random.default_rng(2).standard_normal((3, 256), np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"values": values})
    (got,) = open_session(path, threads=1).run(None, {"values": values})
    np.testing.assert_array_equal(got, expected)


def test_the_file_is_read_whole_by_other_providers_alone(path, monkeypatch):
    asked = []

    class Recorder:
        def __init__(self, given, _options, *, providers, **_rest):
            asked.append(given)
            self._providers = [name for name, _ in providers]

        def get_providers(self):
            return self._providers

    monkeypatch.setattr(onnxruntime, "InferenceSession", Recorder)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["Other", CPU])
    open_session(path)
    open_session(path, providers=("Other", CPU))
    lean, given_path = asked
    assert len(lean) < 2000
    assert given_path == path


def test_tensors_that_lie_elsewhere_already_stay_there(tmp_path):
    elsewhere = own("large", LARGE)
    elsewhere.ClearField("raw_data")
    elsewhere.data_location = TensorProto.EXTERNAL
    elsewhere.external_data.add(key="location", value="bank.bin")
    made = model(elsewhere, own("small", SMALL))
    path = written(tmp_path, made)
    (tmp_path / "bank.bin").write_bytes(LARGE.tobytes())
    assert onnx.ModelProto.FromString(graph_in_place(path)) == made
    values = np.eye(256, dtype=np.float32)
    (got,) = open_session(path, threads=1).run(None, {"values": values})
    np.testing.assert_allclose(got, LARGE + SMALL, rtol=1e-6)


def test_numbers_that_are_no_raw_bytes_stay(tmp_path):
    typed = helper.make_tensor("large", TensorProto.FLOAT, LARGE.shape, LARGE.ravel())
    path = written(tmp_path, model(typed, own("small", SMALL)))
    assert graph_in_place(path) == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "got no bytes"), (b"\xff" * 40, "no number"), (b"\x3a\xff\x7f", "outside of its")],
)
def test_what_is_no_graph_is_told(tmp_path, content, told):
    path = tmp_path / "graph.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=told) as raised:
        open_session(path)
    assert str(path) in str(raised.value)


def test_a_file_cut_short_is_told(path):
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match="onnxruntime cannot load it"):
        open_session(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        open_session(tmp_path / "graph.onnx")
