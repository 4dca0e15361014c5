"""ONNX files and links that refer to bytes outside the folder, or never end.

folder of one valid artifact -> damages, with correct checksums, as an attacker would write them.
"""

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile import Damage, with_bytes
from patchcore_runtime.artifact.folder import FEATURES_ONNX, INDEX_ONNX, MEMORY_BANK

INDEX_ROWS = [
    {"location": "../memory_bank.bin"},
    {"location": "/dev/zero"},
    {"location": "link.bin"},  # made by the damage, leads out
    {"offset": "-64"},
    {"offset": "0"},  # the header
    {"length": str(2**62)},
]


def graph_damages(folder: Path) -> list[Damage]:
    """Return features.onnx and index.onnx files that mislead a reader, or compute without end."""
    damages = [
        _external(folder, INDEX_ONNX, f"index.onnx: {_shown(place)}", place) for place in INDEX_ROWS
    ]
    for location in ("../weights.bin", "/dev/zero", MEMORY_BANK, FEATURES_ONNX):
        place = {"location": location, "offset": "0", "length": "64"}
        damages.append(
            _external(folder, FEATURES_ONNX, f"features.onnx: weights in {location}", place)
        )
    damages += [
        _built("weights elsewhere in a branch of an If", FEATURES_ONNX, _in_branch(folder)),
        _built("graphs nested 80 deep", FEATURES_ONNX, _nested(80)),
        _built("2 million empty fields", FEATURES_ONNX, b"\x3a\x00" * 2_000_000),
        _built("a length beyond the file", FEATURES_ONNX, b"\x3a\xff\xff\xff\xff\x7f"),
        _built("a number that never ends", INDEX_ONNX, b"\xff" * 1000),
        *(_built(what, FEATURES_ONNX, content) for what, content in networks(folder).items()),
        *(_built(what, FEATURES_ONNX, content) for what, content in encodings(folder).items()),
    ]
    for name in (FEATURES_ONNX, INDEX_ONNX):
        content = (folder / name).read_bytes()
        damages += [
            _built(f"cut to {part:.0%}", name, content[: int(len(content) * part)])
            for part in (0.1, 0.5, 0.9)
        ]
    damages += [_nan_weights(folder), _other_outputs(folder)]
    return damages


def networks(folder: Path) -> dict[str, bytes]:
    """Return networks that hang an engine or fill its memory, or that no workshop writes."""
    number = numpy_helper.from_array

    def with_nodes(nodes, tensors=(), **changed):
        model = onnx.load(folder / FEATURES_ONNX)
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(tensors)
        for name, value in changed.items():
            getattr(model, name).extend(value)
        return model.SerializeToString(deterministic=True)

    huge = number(np.array([2**40], np.int64), "huge")
    ends = [number(np.int64(end), name) for name, end in (("a", 0), ("b", 2**40), ("c", 1))]
    doubled = [helper.make_node("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], axis=0) for i in range(40)]
    tall, wide = (
        number(np.ones((40_000, 1), np.float32), "t"),
        number(np.ones((1, 40_000), np.float32), "w"),
    )
    plane, kernel = (number(np.ones((1, 1, 8, 8), np.float32), name) for name in ("p", "k"))
    body = helper.make_graph(
        [],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("yes", TensorProto.BOOL, [])],
    )
    loop = helper.make_node("Loop", ["huge", ""], [], body=body)
    local = helper.make_function(
        "own", "Twice", ["v"], ["r"], [helper.make_node("Add", ["v", "v"], ["r"])], []
    )
    sparse = helper.make_sparse_tensor(
        number(np.ones(1, np.float32), "v"), number(np.array([0], np.int64), "i"), [2**40]
    )
    own = onnx.load(folder / FEATURES_ONNX)
    own.graph.sparse_initializer.append(sparse)
    trained = onnx.load(folder / FEATURES_ONNX)
    trained.training_info.add()
    lengths = [helper.make_node("Shape", ["t"], ["l0"])]
    lengths += [helper.make_node("Concat", [f"l{i}"] * 2, [f"l{i + 1}"], axis=0) for i in range(40)]
    step = [number(np.array([value], np.int64), name) for name, value in (("o", 0), ("s", 2**62))]
    padded = {"kernel_shape": [8, 8], "pads": [60_000] * 4}
    return {
        "an endless Loop": with_nodes([loop], [huge]),
        "a Range of 2^40": with_nodes([helper.make_node("Range", list("abc"), ["r"])], ends),
        "a constant of 2^40": with_nodes(
            [helper.make_node("ConstantOfShape", ["huge"], ["r"])], [huge]
        ),
        "Expand to 2^40": with_nodes(
            [helper.make_node("Expand", ["t", "huge"], ["r"])], [tall, huge]
        ),
        "40 doublings": with_nodes(doubled, [number(np.ones(9, np.float32), "x0")]),
        "a sum of 40,000 x 40,000": with_nodes(
            [helper.make_node("Add", ["t", "w"], ["r"])], [tall, wide]
        ),
        "a product of 40,000 x 40,000": with_nodes(
            [helper.make_node("MatMul", ["t", "w"], ["r"])], [tall, wide]
        ),
        "a list of integers that doubles 40 times": with_nodes(lengths, [tall]),
        "Reshape to 2^40": with_nodes(
            [helper.make_node("Reshape", ["t", "huge"], ["r"])], [tall, huge]
        ),
        "a place of 2^40": with_nodes(
            [helper.make_node("Gather", ["t", "huge"], ["r"])], [tall, huge]
        ),
        "a slice with a step of 2^62": with_nodes(
            [helper.make_node("Slice", ["t", "o", "huge", "o", "s"], ["r"])], [tall, huge, *step]
        ),
        "a convolution with huge pads": with_nodes(
            [helper.make_node("Conv", ["p", "k"], ["r"], **padded)], [plane, kernel]
        ),
        "a local function": with_nodes([], functions=[local]),
        "another domain": with_nodes([helper.make_node("Relu", ["t"], ["r"], domain="x")], [tall]),
        "an unknown attribute": with_nodes(
            [helper.make_node("Relu", ["t"], ["r"], slope=1)], [tall]
        ),
        "a name made twice": with_nodes([helper.make_node("Relu", ["t"], ["t"])], [tall]),
        "a sparse tensor": own.SerializeToString(deterministic=True),
        "a part for training": trained.SerializeToString(deterministic=True),
    }


def encodings(folder: Path) -> dict[str, bytes]:
    """Return the network in encodings that readers of protobuf understand differently."""
    content = (folder / FEATURES_ONNX).read_bytes()
    model = onnx.ModelProto.FromString(content)
    graph = model.graph.SerializeToString(deterministic=True)
    assert content[0] == 8  # ir_version comes first
    return {
        "a tag above 2^32": content + _varint(8 << 3 | 2 | 2**35) + b"\x00",
        "a graph as a number": content + b"\x38\x00",
        "a second graph": content + b"\x3a" + _varint(len(graph)) + graph,
        "a number in two bytes": b"\x08" + bytes([content[1] | 128, 0]) + content[2:],
        "a group": content + b"\xa3\x01\xa4\x01",
        "an unknown field": content + b"\xf8\x07\x01",
    }


def link_damages() -> list[Damage]:
    """Return links out of the folder, in circles and to devices, and a pipe without a writer."""
    damages = []
    for name in (FEATURES_ONNX, INDEX_ONNX, MEMORY_BANK, "manifest.json"):
        damages += [
            _replaced(f"{name} is a link out", name, _link_out, "link"),
            _replaced(f"{name} is a link to itself", name, lambda path: path.symlink_to(path.name)),
            _replaced(f"{name} is a link to /dev/zero", name, lambda path: path.symlink_to(ZERO)),
            _replaced(f"{name} is a pipe", name, os.mkfifo),
        ]
    return damages


ZERO = "/dev/zero"


def _link_out(path):
    outside = path.parent.parent / f"outside_{path.name}"
    path.replace(outside) if path.exists() else None
    path.symlink_to(outside)


def _replaced(name, file, make, *named):
    def replace(folder):
        path = folder / file
        if make is not _link_out:
            path.unlink()
        make(path)

    return Damage(name=name, do=replace, named=(file, *named), sums=False)


def _built(what, file, content):
    return with_bytes(f"{file}: {what}", file, content)


def _shown(place):
    return ", ".join(f"{field} {value!r:.40}" for field, value in place.items())


def _external(folder, file, name, place):
    """Move the first tensor's values to that place of another file."""
    model = onnx.load(folder / file, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data or file == FEATURES_ONNX)
    known = {entry.key: entry.value for entry in tensor.external_data}
    _put_elsewhere(tensor, {**known, **place})
    content = model.SerializeToString()

    def write(damaged):
        (damaged / file).write_bytes(content)
        (damaged.parent / "weights.bin").write_bytes(bytes(10**6))
        if place.get("location") == "link.bin":
            (damaged / "link.bin").symlink_to(damaged.parent / "weights.bin")

    return Damage(name=name, do=write, named=(file,))


def _put_elsewhere(tensor, place):
    tensor.ClearField("external_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)


def _in_branch(folder):
    """Add a constant in another file to a branch that is never executed."""
    model = onnx.load(folder / FEATURES_ONNX)
    value = numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[0]), "hidden")
    _put_elsewhere(value, {"location": "../weights.bin", "offset": "0", "length": "64"})
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    constant = helper.make_node("Constant", [], ["out"], value=value)
    branch = helper.make_graph([constant], "branch", [], [out])
    yes = helper.make_node(
        "Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    )
    choice = helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch)
    model.graph.node.extend([yes, choice])
    return model.SerializeToString()


def _nested(depth):
    """Encode model.graph.node.attribute.graph.node.attribute.graph and so on, by hand."""
    content = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            content = tag + _varint(len(content)) + content
    return b"\x3a" + _varint(len(content)) + content


def _varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _nan_weights(folder):
    model = onnx.load(folder / FEATURES_ONNX)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.ndim == 4:
            values.flat[0] = float("nan")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    content = model.SerializeToString()
    return Damage(
        name="features.onnx: weights that are NaN",
        do=lambda damaged: (damaged / FEATURES_ONNX).write_bytes(content),
        named=("finite",),
    )


def _other_outputs(folder):
    """Use the index as the network: a valid graph of another kind."""
    content = (folder / INDEX_ONNX).read_bytes()
    return _built("the graph of the index", FEATURES_ONNX, content)
