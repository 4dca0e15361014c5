"""An artifact with any list of layers: the golden one with another network, bank and manifest.

Nothing is trained. The network has one strided convolution for each layer, and the rows of the bank
are patches of noise images, so that both programs have something to search.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from artifact_factory import write_sums
from patchcore_runtime import Detector
from patchcore_runtime.artifact.folder import FEATURES_ONNX, MANIFEST
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.patches import upsamplers, whole_patches
from patchcore_runtime.engine.session import open_network
from patchcore_runtime.manifest.manifest import parse_manifest
from patchcore_runtime.manifest.tiling import tiles_along
from patchcore_runtime.search.exact_graph import write_bank
from places import TINY

NEIGHBOURS = 3


def make_layered(
    folder: Path,
    layers,
    *,
    patch_px,
    size,
    tile=None,
    overlap=0,
    upsampling="bilinear",
    rows=150,
    precision="float32",
    scoring=(),
) -> Path:
    """Write an artifact whose `layers` are (name, channels, stride); lengths are in pixels."""
    shutil.copytree(TINY, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    document = json.loads((TINY / MANIFEST).read_text(encoding="utf-8"))
    _describe(document, layers, size, tile or size, overlap)
    document["features"] |= {"patch_px": patch_px, "upsampling": upsampling}
    document["memory_bank"] = {"rows": rows, "neighbours": NEIGHBOURS, "precision": precision}
    document["scoring"] |= dict(scoring)
    document["memory_bank"]["neighbours"] = min(NEIGHBOURS, rows)
    layout = _write_manifest(folder, document).layout
    _write_network(folder / FEATURES_ONNX, layout)
    write_bank(folder, _bank(folder, layout, rows, precision), layout)
    write_sums(folder)
    _scale_heatmap(folder, document)
    return folder


def _describe(document, layers, size, tile, overlap):
    """Set everything in a manifest that has one entry for each layer, or is in pixels."""
    (height, width), (tile_height, tile_width) = size, tile
    document["preprocess"] |= {
        "resize": "stretch",
        "resize_height": height,
        "resize_width": width,
        "height": height,
        "width": width,
    }
    document["region"] = {"kind": "whole", "photo_height": height, "photo_width": width}
    document["tiling"] = {
        "tile_height": tile_height,
        "tile_width": tile_width,
        "overlap": overlap,
        "rows": tiles_along(height, tile_height, overlap),
        "columns": tiles_along(width, tile_width, overlap),
    }
    document["features"]["layers"] = [
        {"name": name, "channels": channels, "stride": stride} for name, channels, stride in layers
    ]
    monitoring = document["monitoring"]
    monitoring["layers"] = [monitoring["layers"][0]] * len(layers)
    monitoring["quantiles"]["layers"] = [monitoring["quantiles"]["layers"][0]] * len(layers)
    document["selftest"] |= {"layer_magnitudes": [1.0] * 2 * len(layers), "defect_box": [0] * 4}
    document["index"]["mindir_candidates"] = 0


def _write_manifest(folder, document):
    text = json.dumps(document)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return parse_manifest(text, "made")


def _write_network(path, layout):
    rng = np.random.default_rng(5)
    weights = [numpy_helper.from_array(np.float32(255), "full_scale")]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "full_scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    for layer in layout.layers:
        side = layout.patch_px * layer.stride
        kernel = rng.standard_normal((layer.channels, 3, side, side)) * 4 / side
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"{layer.name}_kernel"))
        convolved = f"{layer.name}_linear"
        inputs = ["planes", f"{layer.name}_kernel"]
        nodes.append(helper.make_node("Conv", inputs, [convolved], strides=[side, side]))
        nodes.append(helper.make_node("Relu", [convolved], [layer.name]))
    height, width = layout.tile_px
    graph = helper.make_graph(
        nodes,
        "layered_features",
        [_value("images", TensorProto.UINT8, [height, width, 3])],
        [_value(of.name, TensorProto.FLOAT, of.shape) for of in layout.layers],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, ["B", *shape])


def _bank(folder, layout, rows, precision):
    rng = np.random.default_rng(6)
    grid = layout.grid[0] * layout.grid[1]
    noise = rng.integers(0, 256, (-(-rows // grid), *layout.tile_px, 3), dtype=np.uint8)
    session = open_network(folder / FEATURES_ONNX, threads=1)
    layers = session.run(list(layout.names), {"images": noise})
    whole = whole_patches(layers, upsamplers(layout))[:rows]
    ends = np.cumsum(layout.channels)[:-1]
    stored = [np.ascontiguousarray(part, precision) for part in np.split(whole, ends, axis=1)]
    whole = np.concatenate(stored, axis=1).astype(np.float32)
    near = [np.argsort(((whole - row) ** 2).sum(1), kind="stable") for row in whole[:NEIGHBOURS]]
    neighbours = np.tile(np.stack(near)[:, : min(NEIGHBOURS, rows)], (-(-rows // len(near)), 1))
    return MemoryBank(
        layers=tuple(stored),
        norms=(whole**2).sum(1),
        origins=np.zeros((rows, 3), np.int32),
        neighbours=neighbours[:rows].astype(np.int32),
    )


def _scale_heatmap(folder, document):
    """Set the scale of heat maps to the maps of this artifact, which map files depend on."""
    highest = float(Detector.load(folder).predict(folder / "selftest.png").anomaly_map.max())
    calibration = document["calibration"]
    calibration["heatmap"] = {"low": 0.0, "high": highest}
    calibration["pixel_threshold"] = highest / 2
    calibration["pixel_interval"] = [0.0, highest]
    _write_manifest(folder, document)
    write_sums(folder)
