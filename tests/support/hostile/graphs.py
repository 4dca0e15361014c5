"""ONNX files and links that refer to bytes outside the folder, or never end.

folder of one valid artifact -> damages, with correct checksums, as an attacker would write them.
"""

import os
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile import Damage, with_bytes
from patchcore_runtime.artifact.folder import FEATURES_ONNX, INDEX_ONNX, MEMORY_BANK

# Positions that a graph may give for its rows, and the field that the refusal names.
PLACES = [
    ({"location": "../memory_bank.bin"}, "location"),
    ({"location": "../../../../../../../../etc/hostname"}, "location"),
    ({"location": "/etc/hostname"}, "location"),
    ({"location": "/dev/zero"}, "location"),
    ({"location": "./memory_bank.bin"}, "location"),
    ({"location": "sub/../memory_bank.bin"}, "location"),
    ({"location": "memory_bank.bin\0.png"}, "location"),
    ({"location": ""}, "location"),
    ({"location": INDEX_ONNX}, "location"),  # itself
    ({"location": "link.bin"}, "location"),  # made by the damage, leads out
    ({"location": "x" * 5000}, "location"),
    ({"offset": "-64"}, "offset"),
    ({"offset": str(2**62)}, "offset"),
    ({"offset": str(2**64)}, "offset"),
    ({"offset": "1" * 1000}, "offset"),
    ({"offset": "0x40"}, "offset"),
    ({"offset": "0"}, "offset"),  # the header
    ({"length": str(2**62)}, "offset"),
    ({"length": "-1"}, "length"),
    ({"length": ""}, "length"),
    ({"length": "1e3"}, "length"),
]


def graph_damages(folder: Path) -> list[Damage]:
    """Return features.onnx and index.onnx files that mislead a reader."""
    damages = [
        _external(folder, INDEX_ONNX, f"index.onnx: {_shown(place)}", place, field)
        for place, field in PLACES
    ]
    for location in ("../weights.bin", "/dev/zero", MEMORY_BANK, FEATURES_ONNX):
        place = {"location": location, "offset": "0", "length": "64"}
        what = f"features.onnx: weights in {location}"
        damages.append(_external(folder, FEATURES_ONNX, what, place, "location"))
    damages += [
        _built("weights elsewhere in a branch of an If", FEATURES_ONNX, _in_branch(folder)),
        _built("graphs nested 80 deep", FEATURES_ONNX, _nested(80)),
        _built("2 million empty fields", FEATURES_ONNX, b"\x3a\x00" * 2_000_000),
        _built("a length beyond the file", FEATURES_ONNX, b"\x3a\xff\xff\xff\xff\x7f"),
        _built("a number that never ends", INDEX_ONNX, b"\xff" * 1000),
    ]
    for name in (FEATURES_ONNX, INDEX_ONNX):
        content = (folder / name).read_bytes()
        damages += [
            _built(f"cut to {part:.0%}", name, content[: int(len(content) * part)])
            for part in (0.1, 0.5, 0.9)
        ]
    damages += [_nan_weights(folder), _other_outputs(folder)]
    return damages


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


def _external(folder, file, name, place, field):
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

    return Damage(name=name, do=write, named=(file, field))


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
