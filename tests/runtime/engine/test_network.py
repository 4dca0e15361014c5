"""Laws of a network's file: read as the workshop writes it, checked, and given to onnxruntime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_differential import disagreement, mutated
from patchcore_runtime.engine.network import check_network
from patchcore_runtime.engine.onnx_model import model_bytes, read_model
from patchcore_runtime.engine.session import CPU, Graph, open_graph, open_network
from patchcore_runtime.errors import ArtifactError, ProviderError
from places import TINY

GOLDEN = (TINY / "features.onnx").read_bytes()
WHOLE = 2**40
LARGE = np.random.default_rng(0).standard_normal((256, 3, 8, 8)).astype(np.float32)


def network(nodes=(), tensors=(), *, layer2="a", opset=13):
    """Make a network of 64 x 64 px with layers of 256 and 3 channels."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "large"], ["a"], strides=[8, 8]),
        *nodes,
        helper.make_node("Relu", [layer2], ["layer2"]),
        helper.make_node(
            "AveragePool", ["planes"], ["layer3"], kernel_shape=[16] * 2, strides=[16] * 2
        ),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 64, 64, 3])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape])
        for name, shape in (("layer2", (256, 8, 8)), ("layer3", (3, 4, 4)))
    ]
    given = [numpy_helper.from_array(LARGE, "large"), *tensors]
    graph = helper.make_graph(nodes, "one", [images], ends, given)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=6, producer_name="tests")


def constant(name, values):
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def written(folder, made):
    path = folder / "graph.onnx"
    content = made if isinstance(made, bytes) else made.SerializeToString(deterministic=True)
    path.write_bytes(content)
    return path


def refusal(path):
    with pytest.raises(ArtifactError) as raised:
        check_network(path, read_model(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_large_tensors_point_into_the_file_and_all_else_stays(tmp_path):
    path = written(tmp_path, network(tensors=[constant("small", np.ones(256))]))
    whole = onnx.load(path)
    lean = onnx.ModelProto.FromString(model_bytes(read_model(path), path.name))
    large, small = lean.graph.initializer
    place = {pair.key: pair.value for pair in large.external_data}
    assert place["location"] == "graph.onnx"
    start, length = int(place["offset"]), int(place["length"])
    assert path.read_bytes()[start : start + length] == LARGE.tobytes()
    assert not large.raw_data
    assert small == whole.graph.initializer[1]
    large.CopyFrom(whole.graph.initializer[0])
    assert lean == whole


def test_a_model_that_is_read_is_written_again_to_the_byte():
    path = TINY / "features.onnx"
    assert model_bytes(read_model(path, least_bytes=WHOLE), path.name) == GOLDEN


def test_a_network_computes_the_same_in_place(tmp_path):
    path = written(tmp_path, network())
    images = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), np.uint8)
    names = ["layer2", "layer3"]
    expected = onnxruntime.InferenceSession(path).run(names, {"images": images})
    for got, layer in zip(
        open_network(path, threads=1).run(names, {"images": images}), expected, strict=True
    ):
        np.testing.assert_array_equal(got, layer)


def test_other_providers_get_the_whole_network(monkeypatch):
    asked = []

    class Recorder:
        def __init__(self, given, _options, *, providers, **_rest):
            asked.append(given)
            self._providers = [name for name, _ in providers]

        def get_providers(self):
            return self._providers

    monkeypatch.setattr(onnxruntime, "InferenceSession", Recorder)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["Other", CPU])
    open_network(TINY / "features.onnx", providers=("Other", CPU))
    assert asked == [GOLDEN]


@pytest.mark.parametrize(
    ("nodes", "tensors", "told"),
    [
        ([("Loop", "a", {})], [], "expected an operator of the workshop, got 'Loop'"),
        ([("Relu", "a", {"alpha": 1.0})], [], "attributes of the workshop, once, got 'alpha'"),
        ([("Relu", "absent", {})], [], "inputs that were made before, got 'absent'"),
        ([("Relu", "", {})], [], "inputs that were made before, got ''"),
        ([("Cast", "a", {"to": TensorProto.STRING})], [], "to of a type 1, 7 or 10, got 8"),
        ([("Relu", "images", {})], [], "inputs of floating point, got integers"),
        ([("Transpose", "a", {"perm": [0, 1, 1, 2]})], [], "perm of all axes"),
        ([("MaxPool", "a", {"kernel_shape": [9, 9]})], [], "a window of at most 8, got 9"),
        ([("MaxPool", "a", {"kernel_shape": [2, 2], "pads": [2] * 4})], [], "pads below 2"),
        ([("MaxPool", "a", {"kernel_shape": [2, 2], "strides": [0, 1]})], [], "2 strides of 1"),
        ([("Add a", "t", {})], [np.ones((1, 7, 1, 1))], "shapes that can be combined"),
        ([("Conv", "a t", {})], [np.ones((1, 3, 1, 1))], "channels that fit the weights"),
        ([("Concat", "a t", {"axis": 1})], [np.ones((1, 1, 8, 9))], "differ along the axis only"),
        ([("Concat", "a a", {"axis": 4})], [], "an axis of 4, got 4"),
        ([("Add", "t a", {})], [np.ones((4000, 1, 1, 1))], "numbers in all results, got more"),
        ([("Conv", "t t", {"pads": [65536] * 4})], [np.ones((1, 1, 9, 9))], "numbers in all"),
        ([("Conv", "p w", {"pads": [31] * 4})], [], "products, got more"),
    ],
)  # fmt: skip
def test_a_node_that_no_workshop_writes_is_refused(tmp_path, nodes, tensors, told):
    made = [
        helper.make_node(
            kind.split()[0], [*kind.split()[1:], *inputs.split(" ")], ["b"], **settings
        )
        for kind, inputs, settings in nodes
    ]
    given = [constant("t", values) for values in tensors]
    if "products" in told:
        given = [constant("p", np.ones((1, 512, 8, 8))), constant("w", np.ones((512, 512, 20, 20)))]
    assert told in refusal(written(tmp_path, network(made, given)))


def test_too_many_nodes_and_other_operator_sets_are_refused(tmp_path):
    chain = [helper.make_node("Relu", ["a"], [f"b{i}"]) for i in range(4096)]
    assert "node: expected at most 4096" in refusal(written(tmp_path, network(chain)))
    assert "opset_import: expected 11 to 20" in refusal(written(tmp_path, network(opset=21)))


def test_numbers_must_fill_their_tensor(tmp_path):
    made = network()
    made.graph.initializer[0].dims[0] = 255
    assert "tensor 'large': expected as many numbers" in refusal(written(tmp_path, made))
    del made.graph.initializer[0].dims[:]
    made.graph.initializer[0].dims.extend([2**40, 2**40])
    assert "up to 8 dimensions above 0" in refusal(written(tmp_path, made))


def test_layers_of_another_shape_are_refused(tmp_path):
    made = network()
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 128
    told = "layer2: expected 1x128x8x8, got 1x256x8x8"
    assert told in refusal(written(tmp_path, made))
    path = written(tmp_path, network())
    shapes = open_network_shapes(path)
    with pytest.raises(ArtifactError, match=r"layer2: expected \(B, 9, 8, 8\) as manifest.json"):
        open_network(path, shapes={**shapes, "layer2": (9, 8, 8)})
    shapes.pop("layer3")
    with pytest.raises(ArtifactError, match=r"expected the outputs layer2 as manifest\.json says"):
        open_network(path, shapes=shapes)


def open_network_shapes(path):
    return check_network(path, read_model(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "got no bytes"), (b"\xff" * 40, "no number"), (b"\x3a\xff\x7f", "outside of its")],
)
def test_a_file_that_is_not_a_graph_is_refused(tmp_path, content, told):
    path = written(tmp_path, content)
    with pytest.raises(ArtifactError, match=told) as raised:
        open_network(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        open_network(tmp_path / "graph.onnx")


def test_errors_of_a_run_are_refusals_in_one_line(tmp_path):
    path = written(tmp_path, network())
    with pytest.raises(ArtifactError, match=r"graph\.onnx: onnxruntime cannot run") as raised:
        open_network(path, threads=1).run(["layer2"], {"images": np.zeros((1, 9, 9, 3), np.uint8)})
    assert "\n" not in str(raised.value)
    with pytest.raises(ArtifactError, match="cannot load it"):
        open_graph(b"no graph", path)

    class Failing:
        def run(self, *_):
            raise RuntimeError("CUDA failure 2:\nout of memory")

    with pytest.raises(ProviderError, match=r"provider Other: failed .CUDA failure 2: out of mem"):
        Graph(path, Failing(), "Other").run(["layer2"], {})


EDITS = st.lists(st.tuples(st.integers(0, len(GOLDEN) - 1), st.binary(max_size=3), st.booleans()))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS.filter(bool))
def test_what_is_accepted_is_what_onnx_reads_and_writes(tmp_path, edits):
    content = bytearray(GOLDEN)
    for place, inserted, replace in edits:
        content[place : place + len(inserted) * replace] = inserted
    path = written(tmp_path, bytes(content))
    assert disagreement(path) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_valid_model_with_a_part_of_another_is_judged_as_onnx_judges_it(tmp_path, seed):
    path = written(tmp_path, mutated(GOLDEN, np.random.default_rng(seed)))
    assert disagreement(path) is None
