"""Build a tiny artifact without MindSpore: `fit` with a small ONNX network instead.

images of a striped product -> a complete artifact folder in about a second. Coreset,
calibration, memory bank, index, self-test, manifest and checksums are made by the real code;
only features.onnx (two convolutions) and features.mindir (a few bytes) are stand-ins.
"""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from patchcore_build.calibration.banks import TrainingFeatures, bank_of, choose_rows
from patchcore_build.calibration.folds import every_image_alone
from patchcore_build.calibration.held_out import calibrate, score_held_out
from patchcore_build.config import Config, make_config, plan_layout
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.select import random_projection
from patchcore_build.data.dataset import list_images
from patchcore_build.data.training_inputs import load_inputs
from patchcore_build.features.normal_images import describe_normal
from patchcore_build.features.store import extract_features
from patchcore_build.fitting.artifact_writer import ArtifactFacts, keep_thumbnails, write_manifest
from patchcore_build.storage import Storage
from patchcore_runtime.artifact.folder import (
    ALL_FILES,
    FEATURES_MINDIR,
    FEATURES_ONNX,
    SHA256SUMS,
    file_digest,
)
from patchcore_runtime.artifact.writing import new_folder
from patchcore_runtime.engine.session import open_network
from patchcore_runtime.search.exact_graph import write_bank

CHANNELS = (6, 10)  # C2, C3
PHOTO_SIZE = (80, 120)  # height, width


def tiny_config(recipe="full-frame", **overrides) -> Config:
    """Return a recipe for 64 x 96 (whole frame) or 64 x 64 (cropped) input pixels."""
    settings = {"resize_px": 78, "coreset_ratio": 0.05, "neighbours": 4, "folds": 2}
    return make_config(recipe, **{**settings, "crop_px": 64, "backbone": "resnet18", **overrides})


def striped_photo(seed, *, size=PHOTO_SIZE):
    """Draw diagonal stripes with noise and a seeded phase, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin((x + k * y) / 7 + rng.uniform(0, 0.6) + k) for k in (0.3, 0.5, 0.8)]
    noisy = 128 + 60 * np.stack(waves, axis=-1) + rng.normal(0, 6, (*size, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def write_photos(folder: Path, count: int) -> Path:
    """Write a folder of good images."""
    folder.mkdir(parents=True)
    for seed in range(count):
        Image.fromarray(striped_photo(seed)).save(folder / f"{seed:03}.png")
    return folder


def write_network(path: Path, *, height: int, width: int, seed: int = 0) -> None:
    """Write a features.onnx with the contract's signature and strides 8 and 16."""
    rng = np.random.default_rng(seed)
    weights, nodes = [], []
    for layer, channels, stride in (("layer2", CHANNELS[0], 8), ("layer3", CHANNELS[1], 16)):
        kernel = rng.standard_normal((channels, 3, stride, stride)) * 4 / stride
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"{layer}_kernel"))
        convolve = helper.make_node(
            "Conv", ["planes", f"{layer}_kernel"], [f"{layer}_linear"], strides=[stride, stride]
        )
        nodes += [convolve, helper.make_node("Relu", [f"{layer}_linear"], [layer])]
    weights.append(numpy_helper.from_array(np.float32(255), "full_scale"))
    nodes[:0] = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "full_scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    outputs = [
        _value("layer2", TensorProto.FLOAT, [CHANNELS[0], height // 8, width // 8]),
        _value("layer3", TensorProto.FLOAT, [CHANNELS[1], height // 16, width // 16]),
    ]
    images = _value("images", TensorProto.UINT8, [height, width, 3])
    graph = helper.make_graph(nodes, "tiny_features", [images], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def make_artifact(
    target: Path, photos: Path, config: Config, *, roi=None, thumbnails=False
) -> Path:
    """Do all steps of `fit`, in its order, with the tiny network."""
    scratch = target.parent / f"{target.name}-scratch"
    scratch.mkdir()
    storage = Storage(scratch, budget_bytes=2**28)
    with new_folder(target) as staging:
        inputs = load_inputs(list_images(photos), config, storage, roi=roi)
        size = inputs.preprocessing
        height, width = inputs.grid.tile_px
        write_network(staging / FEATURES_ONNX, height=height, width=width)
        (staging / FEATURES_MINDIR).write_bytes(b"stand-in: no MindSpore was here")
        session = open_network(staging / FEATURES_ONNX, threads=1)
        store = extract_features(
            lambda images: session.run(["layer2", "layer3"], {"images": images}),
            inputs.pixels,
            upsampling=config.upsampling,
            storage=storage,
        )
        store = dataclasses.replace(store, grid=inputs.grid, region=inputs.roi)
        patches = store.images * store.patches_per_image
        projected = storage.allocate((patches, 16))
        store.project(random_projection(sum(CHANNELS), 16, seed=config.seed), projected)
        learned = TrainingFeatures(
            store=store,
            cloud=PatchCloud.of(projected),
            groups=every_image_alone(store.images),
            size=size,
            config=config,
        )
        bank = bank_of(learned, choose_rows(learned, name="bank"))
        held_out = score_held_out(learned, folder=scratch)
        write_bank(staging, bank, plan_layout(config, size, CHANNELS))
        if thumbnails:
            keep_thumbnails(staging, inputs, bank)
        write_manifest(
            staging,
            inputs,
            calibrate(held_out, config),
            ArtifactFacts(
                category="stripes",
                config=config,
                monitoring=describe_normal(inputs.pixels, store),
                provenance={"packages": {"patchcore-build": "tests"}, "device": "cpu"},
            ),
        )
    return target


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS again, as an attacker would after altering a file."""
    there = sorted(name for name in ALL_FILES if (folder / name).exists())
    sums = [f"{file_digest(folder / name)}  {name}\n" for name in there]
    (folder / SHA256SUMS).write_text("".join(sums), encoding="utf-8")


def _value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, ["B", *shape])


def tiled_config(recipe="full-frame", **overrides):
    """Return a recipe with an input of 128 x 192 in 3 x 4 tiles of 64 x 64 px."""
    settings = {"resize_px": 156, "crop_px": 128, "tile_px": 64, "tile_overlap_px": 16}
    return tiny_config(recipe, **{**settings, **overrides})
