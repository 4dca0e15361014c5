"""The graph that `--search int8` runs: int8 products of all patches with one block of the bank.

`python -m patchcore_build.int8_graph FOLDER` writes int8_bilinear.onnx and int8_nearest.onnx as
the runtime ships them. Both are the same for every artifact: patches, rows of the bank and their
scales are inputs, so nothing of a bank is stored twice. `patchcore_runtime.int8_index` says what
the numbers mean.
"""

import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from patchcore_runtime.manifest import Upsampling

_OPSET = 17
_IR_VERSION = 8
_FUSED = "com.microsoft"  # the domain of MatMulIntegerToFloat
_FLOAT, _INT8, _UINT8, _INT64 = (
    TensorProto.FLOAT,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT64,
)
_INPUTS: dict[str, tuple[int, list[str | int]]] = {
    "q2": (_UINT8, ["P", "C2"]),
    "q3": (_UINT8, ["P3", "C3"]),
    "q2_scale": (_FLOAT, []),
    "q3_scale": (_FLOAT, []),
    "m2": (_INT8, ["C2", "R"]),
    "m3": (_INT8, ["C3", "R"]),
    "m2_scales": (_FLOAT, ["R"]),
    "m3_scales": (_FLOAT, ["R"]),
    "bias": (_FLOAT, ["R"]),
    "grid3": (_INT64, [4]),  # 1, h/2, w/2, R
}
_OUTPUTS: dict[str, tuple[int, list[str | int]]] = {
    "bounds": (_FLOAT, ["P", "R"]),
    "largest": (_FLOAT, ["P", 1]),
    "column": (_INT64, ["P", 1]),
}


def int8_graph(upsampling: Upsampling) -> bytes:
    """One graph, serialised: bounds = q2·m2 + U(q3·m3 + bias), and the largest of each patch."""
    product3 = ["q3", "m3", "q3_scale", "m3_scales", "zero", "", "bias"]
    product2 = ["q2", "m2", "q2_scale", "m2_scales", "zero"]
    node = helper.make_node
    nodes = [
        node("MatMulIntegerToFloat", product3, ["coarse"], domain=_FUSED),
        node("Reshape", ["coarse", "grid3"], ["coarse_grid"]),
        node(
            "Resize", ["coarse_grid", "", "twice"], ["fine_grid"], **_resize_attributes(upsampling)
        ),
        node("MatMulIntegerToFloat", product2, ["fine2"], domain=_FUSED),
        node("Shape", ["fine2"], ["shape"]),
        node("Reshape", ["fine_grid", "shape"], ["fine3"]),
        node("Add", ["fine2", "fine3"], ["bounds"]),
        node("TopK", ["bounds", "one"], ["largest", "column"], axis=1),
    ]
    constants = {
        "zero": np.array(128, np.uint8),  # what stands for 0 in q2 and q3
        "twice": np.array([1, 2, 2, 1], np.float32),
        "one": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        f"patchcore_int8_{upsampling}",
        _values(_INPUTS),
        _values(_OUTPUTS),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)],
        ir_version=_IR_VERSION,
        producer_name="patchcore-build",
    )
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _resize_attributes(upsampling: Upsampling) -> dict[str, str]:
    """What ONNX's Resize is told so that it brings layer3 to layer2's grid."""
    if upsampling == "bilinear":
        return {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }


def _values(described: dict[str, tuple[int, list[str | int]]]) -> list[Any]:
    return [
        helper.make_tensor_value_info(name, kind, shape)
        for name, (kind, shape) in described.items()
    ]


if __name__ == "__main__":
    for way in get_args(Upsampling):
        (Path(sys.argv[1]) / f"int8_{way}.onnx").write_bytes(int8_graph(way))
