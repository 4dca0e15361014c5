"""One small network for each way that an operator of operators.csv may be used.

Each has images (B, 16, 24, 3), the planes `x` (B, 3, 16, 24) and the tokens `t` (B, 384, 3), and
ends in `layer1`. The nodes of its case follow; nothing reads their results.
"""

import ast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

H, W = 16, 24

# Operator and inputs, attributes; an input that is a list of integers is an int64 constant, one
# that is a shape of floats ("3x16") a tensor of random numbers.
CASES: list[tuple[str, dict]] = [
    ("Abs x", {}),
    ("Add x 3x1x1", {}),
    ("AveragePool x", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1],
                       "count_include_pad": 1, "ceil_mode": 0}),
    ("BatchNormalization x 3 3 3 3", {"epsilon": 1e-3, "momentum": 0.9}),
    ("Cast x", {"to": TensorProto.FLOAT16}),
    ("Clip x single single", {}),
    ("Clip x single", {}),
    ("Clip x", {}),
    ("Concat x x x", {"axis": -3}),
    ("Conv x 4x3x5x3 4", {"dilations": [2, 1], "pads": [4, 1, 0, 1], "strides": [2, 3]}),
    ("Conv x 3x1x3x3", {"group": 3, "auto_pad": "VALID"}),
    ("Div x 24", {}),
    ("Elu x", {"alpha": 0.5}),
    ("Erf x", {}),
    ("Exp x", {}),
    ("Expand x [2,1,1,1,24]", {}),
    ("Expand 1x1x5 [1,7,1]", {}),
    ("Flatten x", {"axis": 2}),
    ("Flatten x", {}),
    ("Flatten x", {"axis": -4}),
    ("Gather x [1,0,-1,2]", {"axis": 1}),
    ("Gather t [3]", {"axis": -2}),
    ("Gather x scalar:2", {"axis": 3}),
    ("Gather x [[0,1],[5,3]]", {"axis": 2}),
    ("Gelu x", {}),
    ("Gemm 5x3 3x4 4", {"alpha": 0.5, "beta": 2.0}),
    ("Gemm 3x5 4x3 5x1", {"transA": 1, "transB": 1}),
    ("Gemm 5x3 3x4", {}),
    ("GlobalAveragePool x", {}),
    ("HardSigmoid x", {"alpha": 0.1, "beta": 0.4}),
    ("HardSwish x", {}),
    ("Identity x", {}),
    ("IsNaN x", {}),
    ("LayerNormalization t 3 3", {"axis": -1, "epsilon": 1e-6, "stash_type": 1}),
    ("LayerNormalization x 16x24", {"axis": 2}),
    ("LeakyRelu x", {"alpha": 0.2}),
    ("Log x", {}),
    ("MatMul t 3x7", {}),
    ("MatMul 2x1x5x384 t", {}),
    ("Max x 24", {}),
    ("MaxPool x", {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1],
                   "dilations": [1, 1], "ceil_mode": 0}),
    ("Min x 24", {}),
    ("Mul x 3x16x1", {}),
    ("Neg x", {}),
    ("Pad x [0,1,2,3,0,0,4,5]", {"mode": "constant"}),
    ("Pad x [0,0,2,3,0,0,4,5] single", {}),
    ("Pad x [0,0,15,3,0,0,4,23]", {"mode": "reflect"}),
    ("Pad x [0,0,2,3,0,0,4,5]", {"mode": "edge"}),
    ("Pow x single", {}),
    ("QuantizeLinear x single zero", {}),
    ("Reciprocal x", {}),
    ("ReduceL2 x [2,-1]", {"keepdims": 0}),
    ("ReduceMax x [1]", {}),
    ("ReduceMean x [2,3]", {"keepdims": 1}),
    ("ReduceSum t [-1]", {"keepdims": 0}),
    ("Relu x", {}),
    ("Reshape x [0,3,-1]", {}),
    ("Reshape x [-1,8,2,12,2,3]", {"allowzero": 0}),
    ("Reshape x [-1,24]", {"allowzero": 1}),
    ("Shape x", {}),
    ("Shape x", {"start": -3, "end": 3}),
    ("Sigmoid x", {}),
    ("Slice x [1,2] [9223372036854775807,-3] [1,3]", {}),
    ("Slice x [0,0,1] [1,3,9]", {}),
    ("Slice x [-1] [-9223372036854775808] [2] [-3]", {}),
    ("Slice x [20,15] [-99,2] [3,-2] [-5,-1]", {}),
    ("Softmax t", {"axis": -1}),
    ("Softmax t", {}),
    ("Softplus x", {}),
    ("Split:3 x", {"axis": 1}),
    ("Split:2 x [5,11]", {"axis": -2}),
    ("Split:4 x", {"axis": 3, "num_outputs": 4}),
    ("Sqrt x", {}),
    ("Squeeze 1x3x1x5 [0,-2]", {}),
    ("Sub x x", {}),
    ("Tanh x", {}),
    ("Transpose x", {"perm": [2, 0, 3, 1]}),
    ("Unsqueeze t [0,-1]", {}),
]  # fmt: skip

# Shapes that follow from the batch, as exporters write them: several nodes, the last one counts.
CHAINS: list[list[tuple[str, str, dict]]] = [
    [  # the class token of every image
        ("n", "Shape x", {"start": 0, "end": 1}),
        ("s", "Concat n [1] [3]", {"axis": 0}),
        ("e", "Expand 1x1x3 s", {}),
        ("r", "Concat e t", {"axis": 1}),
    ],
    [  # a transposition by Reshape
        ("s", "Shape t", {}),
        ("a", "Slice s [-1] [9223372036854775807]", {}),
        ("b", "Slice s [-2] [-1]", {}),
        ("j", "Concat [-1] b a", {"axis": 0}),
        ("r", "Reshape t j", {}),
    ],
    [  # a side, taken out of the shape
        ("s", "Shape t", {}),
        ("one", "Gather s scalar:0", {"axis": 0}),
        ("u", "Unsqueeze one [0]", {}),
        ("q", "Squeeze u [0]", {}),
        ("v", "Reshape q [1]", {}),
        ("i", "Identity v", {}),
        ("k", "Cast i", {"to": TensorProto.INT64}),
        ("j", "Concat k [-1]", {"axis": 0}),
        ("r", "Reshape x j", {}),
    ],
    [  # a softmax of which rows may be all masked
        ("n", "IsNaN x", {}),
        ("r", "Where n single x", {}),
    ],
    [("d", "Cast [2,3]", {"to": TensorProto.FLOAT}), ("r", "Pow d single", {})],
]


def networks() -> list[onnx.ModelProto]:
    """Make a network for each case; the last node's results are the case's."""
    single = [network_of([("r", call, attributes)]) for call, attributes in CASES]
    return single + [network_of(chain) for chain in CHAINS]


def network_of(calls: list[tuple[str, str, dict]]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Reshape", ["floats", "tokens"], ["t"]),
        helper.make_node("AveragePool", ["x"], ["layer1"], kernel_shape=[8, 8], strides=[8, 8]),
    ]
    tensors = {"tokens": np.array([-1, H * W, 3])}
    for result, call, attributes in calls:
        kind, *words = call.split()
        kind, _, parts = kind.partition(":")
        names = [_input(word, f"{result}.{place}", tensors) for place, word in enumerate(words)]
        results = [f"{result}{part}" for part in range(int(parts))] if parts else [result]
        nodes.append(helper.make_node(kind, names, results, **attributes))
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", H, W, 3])
    layer = helper.make_tensor_value_info("layer1", TensorProto.FLOAT, ["B", 3, H // 8, W // 8])
    given = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "case", [images], [layer], given)
    # Gelu came with opset 20; equal parts without a number of them ended with 17.
    opset = 17 if any(call.startswith("Split:3") for _, call, _ in calls) else 20
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _input(word: str, name: str, tensors: dict[str, np.ndarray]) -> str:
    if word[0] == "[":
        tensors[name] = np.array(ast.literal_eval(word), np.int64)
    elif word.startswith("scalar:"):
        tensors[name] = np.array(int(word[7:]), np.int64)
    elif word == "single":
        tensors[name] = np.array(2, np.float32)
    elif word == "zero":
        tensors[name] = np.array(3, np.uint8)
    elif word[0].isdigit():
        shape = [int(side) for side in word.split("x")]
        tensors[name] = np.random.default_rng(len(name)).random(shape, np.float32)
    else:
        return word
    return name


def content_of(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model's file."""
    return model.SerializeToString(deterministic=True)


def with_results(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose outputs are the results of its last node, of any type and shape."""
    changed = onnx.ModelProto.FromString(content_of(model))
    del changed.graph.output[:]
    changed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in model.graph.node[-1].output)
    return changed


ODD = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 15, 16, 23, 24, 384, 385, 65536, 2**31, 2**63 - 1)


def with_other_integers(model: onnx.ModelProto, rng: np.random.Generator) -> bytes:
    """Return the bytes of a copy whose int64 constants and attributes differ in some numbers."""
    changed = onnx.ModelProto.FromString(content_of(model))
    node = changed.graph.node[-1]
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.INT and rng.random() < 0.3:
            attribute.i = int(rng.choice(ODD))
        for place in range(len(attribute.ints)):
            if rng.random() < 0.2:
                attribute.ints[place] = int(rng.choice(ODD))
    for tensor in changed.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.dtype == np.int64 and tensor.name != "tokens" and values.size:
            values.flat[rng.integers(values.size)] = rng.choice(ODD)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return content_of(changed)
