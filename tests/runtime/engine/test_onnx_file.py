"""Laws of onnx_file.py: its bytes equal those of the onnx package, per field and as a whole."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from patchcore_runtime.artifact.folder import INDEX_ONNX, Artifact
from patchcore_runtime.bank.memory_bank import bank_sections
from patchcore_runtime.engine import onnx_file
from patchcore_runtime.search.exact_graph import write_index
from places import TINY


def serialized(message):
    return message.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"axis": 1, "keepdims": 0},
        {"axes": [1], "perm": [0, 2, 3, 1]},
        {"alpha": 1.0, "beta": -0.5, "transB": 1},
        {"mode": "linear", "nearest_mode": "floor"},
        {"far": -(2**40), "near": 2**63 - 1},
    ],
)
def test_a_node_has_the_bytes_of_onnx(attributes):
    ours = onnx_file.node("Gemm", ["a", "", "b"], ["c", "d"], "näme", **attributes)
    theirs = helper.make_node("Gemm", ["a", "", "b"], ["c", "d"], "näme", **attributes)
    assert ours == serialized(theirs)


@pytest.mark.parametrize("shape", [(), (1,), (3, 0), (5, 300)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_a_tensor_has_the_bytes_of_onnx(dtype, shape):
    values = np.random.default_rng(0).integers(-9, 9, shape).astype(dtype)
    assert onnx_file.tensor("t", values) == serialized(numpy_helper.from_array(values, "t"))


def test_an_external_tensor_has_the_bytes_of_onnx():
    theirs = TensorProto(name="rows", data_type=TensorProto.FLOAT16, dims=(7, 300))
    theirs.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "bank.bin"), ("offset", "64"), ("length", "4200")):
        theirs.external_data.add(key=key, value=value)
    place = ("bank.bin", 64, 4200)
    assert onnx_file.external_tensor("rows", "<f2", (7, 300), place) == serialized(theirs)


def test_a_whole_model_has_the_bytes_of_onnx():
    values = [
        ("x", TensorProto.FLOAT, ["B", 300, 4]),
        ("rows", TensorProto.INT64, ["B", 1]),
    ]
    theirs = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["rows"], "n")],
            "graph",
            [helper.make_tensor_value_info(*values[0])],
            [helper.make_tensor_value_info(*values[1])],
            [numpy_helper.from_array(np.float32(3), "three")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="tests",
    )
    graph = onnx_file.graph(
        "graph",
        nodes=[onnx_file.node("Relu", ["x"], ["rows"], "n")],
        tensors=[onnx_file.tensor("three", np.float32(3))],
        inputs=[onnx_file.value(*values[0])],
        outputs=[onnx_file.value(*values[1])],
    )
    assert onnx_file.model(graph, opset=17, ir_version=8, producer="tests") == serialized(theirs)


def test_the_golden_index_is_written_again_to_the_byte_and_onnx_reads_it_alike(tmp_path):
    golden = Artifact.open(TINY)
    write_index(tmp_path / INDEX_ONNX, golden.manifest.layout, bank_sections(golden.memory_bank))
    ours = (tmp_path / INDEX_ONNX).read_bytes()
    assert ours == (TINY / INDEX_ONNX).read_bytes()
    assert serialized(onnx.ModelProto.FromString(ours)) == ours
