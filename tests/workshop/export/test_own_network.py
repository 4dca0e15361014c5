"""Laws of `fit --network`: an ONNX file's own values come out, and what no reader takes is refused.

The networks are made here, layer by layer. Those of timm and Hugging Face are tried where torch is
installed; they have random weights.
"""

import json
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from artifact_factory import write_photos
from patchcore_build.cli.main import main
from patchcore_build.config import make_config
from patchcore_build.errors import ExportError, SettingError
from patchcore_build.export.own_export import export_own_network
from patchcore_build.export.own_network import describe_network
from patchcore_build.feature_layers import OwnNetwork
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.detector import Detector
from patchcore_runtime.engine.session import open_network
from patchcore_runtime.selftest import run_selftest

SIDE = 64


def _value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def _weight(name, *shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return numpy_helper.from_array(values.astype(np.float32), name)


def _save(path, nodes, inputs, outputs, weights, opset=17):
    graph = helper.make_graph(nodes, "own", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.doc_string = "a text that features.onnx may not hold"
    onnx.save(model, path)
    return path


def pyramid(folder, size=("h", "w")):
    """Write two layers: `fine` of strides 8 (5 channels), `coarse` of 16 (7 channels)."""
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["a"], strides=[8, 8]),
        helper.make_node("Relu", ["a"], ["fine"]),
        helper.make_node("Conv", ["fine", "k2"], ["b"], strides=[2, 2]),
        helper.make_node("Sigmoid", ["b"], ["coarse"]),
    ]
    outputs = [_value("coarse", ["n", 7, None, None]), _value("fine", ["n", 5, None, None])]
    weights = [_weight("k1", 5, 3, 8, 8), _weight("k2", 7, 5, 2, 2)]
    return _save(folder / "pyramid.onnx", nodes, [_value("x", ["n", 3, *size])], outputs, weights)


def transformer(folder, *, tokens=2, batch="n"):
    """Write tokens (B, 2 + 16, 6) of an image of 64 px in patches of 16, after one block."""
    numbers = {
        "flat": np.array([0, 6, -1]),
        "prefix": np.arange(6 * tokens, dtype=np.float32).reshape(1, tokens, 6) / 10,
        "one": np.array([1]),
        "first": np.array([0]),
        "scale": np.float32(0.4),
        "tail": np.array([tokens, 6]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["grid"], strides=[16, 16]),
        helper.make_node("Reshape", ["grid", "flat"], ["planes"]),
        helper.make_node("Transpose", ["planes"], ["patches"], perm=[0, 2, 1]),
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Gather", ["size", "first"], ["count"], axis=0),
        helper.make_node("Concat", ["count", "tail"], ["wide"], axis=0),
        helper.make_node("Expand", ["prefix", "wide"], ["own"]),
        helper.make_node("Concat", ["own", "patches"], ["all"], axis=1),
        helper.make_node("Transpose", ["all"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["all", "turned"], ["products"]),
        helper.make_node("Mul", ["products", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "all"], ["tokens"]),
    ]
    weights = [_weight("k1", 6, 3, 16, 16)]
    weights += [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    outputs = [_value("tokens", [batch, 16 + tokens, 6])]
    return _save(
        folder / "tokens.onnx", nodes, [_value("x", [batch, 3, SIDE, SIDE])], outputs, weights
    )


def channels_last(folder):
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["a"], strides=[8, 8]),
        helper.make_node("Transpose", ["a"], ["last"], perm=[0, 2, 3, 1]),
    ]
    outputs = [_value("last", ["n", None, None, 9])]
    inputs = [_value("x", ["n", 3, "h", "w"])]
    return _save(folder / "last.onnx", nodes, inputs, outputs, [_weight("k1", 9, 3, 8, 8)])


def exported(path, network, folder, *, size=(SIDE, 2 * SIDE), **settings):
    """Export, and return what onnxruntime gives for an image, and the image."""
    images = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    config = make_config("full-frame", network=network, **settings)
    target = folder / "features.onnx"
    gap = export_own_network(path, target, config, images)
    assert gap < 1e-5
    graph = open_network(target)
    return graph.run(graph.outputs, {"images": images[:1]}), images[:1]


def own_values(path, names, images, mean, std):
    """Return the file's own outputs of one image, normalised here."""
    import onnxruntime

    pixels = (images.transpose(0, 3, 1, 2) / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(names, {"x": pixels.astype(np.float32)})


def test_layers_come_finest_first_with_their_own_values_averaged(tmp_path):
    path = pyramid(tmp_path)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    network = describe_network(path, ["coarse", "fine"], mean=mean, std=std)
    assert (network.outputs, network.patch_px, network.strides) == (("fine", "coarse"), 8, (1, 2))
    layers, images = exported(path, network, tmp_path)
    for got, raw in zip(
        layers, own_values(path, ["fine", "coarse"], images, mean, std), strict=True
    ):
        padded = np.pad(raw, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        np.testing.assert_allclose(got, windows.mean(axis=(4, 5)), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"neighbourhood": 1},
        {"neighbourhood": 5, "pooling_border": "not_counted"},
        {"pool_to": 8},
    ],
    ids=str,
)
def test_what_follows_a_layer_is_that_of_a_backbone(tmp_path, settings):
    path = pyramid(tmp_path)
    network = describe_network(path, ["fine", "coarse"])
    layers, _ = exported(path, network, tmp_path, **settings)  # compares with NumPy itself
    assert layers[0].shape[1] == (4 if "pool_to" in settings else 5)


def test_tokens_lose_their_prefix_and_become_a_grid(tmp_path):
    path = transformer(tmp_path)
    network = describe_network(path, ["tokens"])
    assert (network.patch_px, network.prefix_tokens, network.size) == (16, 2, (SIDE, SIDE))
    (layer,), images = exported(path, network, tmp_path, size=(SIDE, SIDE), neighbourhood=1)
    (raw,) = own_values(path, ["tokens"], images, network.mean, network.std)
    np.testing.assert_allclose(layer[0].reshape(6, 16).T, raw[0, 2:], atol=1e-5)


def test_channels_may_come_last(tmp_path):
    path = channels_last(tmp_path)
    network = describe_network(path, ["last"])
    (layer,), images = exported(path, network, tmp_path, neighbourhood=1)
    (raw,) = own_values(path, ["last"], images, network.mean, network.std)
    np.testing.assert_allclose(layer, raw.transpose(0, 3, 1, 2), atol=1e-5)


def test_the_same_file_gives_the_same_bytes(tmp_path):
    path = pyramid(tmp_path)
    network = describe_network(path, ["fine"])
    content = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        exported(path, network, tmp_path / name)
        content.append((tmp_path / name / "features.onnx").read_bytes())
    assert content[0] == content[1]
    assert b"a text that" not in content[0]


def test_fit_makes_an_artifact_without_mindir_that_scores(tmp_path, capsys):
    photos = write_photos(tmp_path / "photos", 6)
    path, made = pyramid(tmp_path), tmp_path / "made"
    command = ["fit", "--normal", photos, "--network", path, "--outputs", "fine,coarse"]
    command += ["--output", made, "--resize-px", 78, "--folds", 2, "--coreset-ratio", 0.1]
    assert main([str(part) for part in command]) == 0
    artifact = Artifact.open(made)
    features = artifact.manifest.features
    assert (features.backbone, features.mindir, features.patch_px) == ("pyramid", "none", 8)
    assert [(of.name, of.channels, of.stride) for of in features.layers] == [
        ("output0", 5, 1), ("output1", 7, 2),
    ]  # fmt: skip
    assert artifact.manifest.provenance["weights"]["name"] == "pyramid.onnx"
    assert not (made / "features.mindir").exists()
    assert all(step.passed for step in run_selftest(artifact, threads=1))
    good, bad = (Detector(artifact, threads=1).predict(photo) for photo in _pair(photos))
    assert good.score < artifact.manifest.calibration.image_threshold < bad.score
    capsys.readouterr()


def _pair(photos):
    from PIL import Image

    good = np.asarray(Image.open(photos / "000.png"))
    bad = good.copy()
    bad[30:50, 40:70] = (255, 0, 255)
    return good, bad


def _with(path, change):
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def _floats_to_bytes(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    model.graph.node[0].input[0] = "y"
    model.graph.node.insert(0, cast)


def _channels_last_input(model):
    for side, value in zip(
        model.graph.input[0].type.tensor_type.shape.dim, [1, 64, 64, 3], strict=True
    ):
        side.dim_value = value
    turn = helper.make_node("Transpose", ["x"], ["y"], perm=[0, 3, 1, 2])
    model.graph.node[0].input[0] = "y"
    model.graph.node.insert(0, turn)


def _branch(model):
    branches = [
        helper.make_graph(
            [helper.make_node("Identity", ["fine"], [f"out{side}"])],
            side,
            [],
            [_value(f"out{side}", None)],
        )
        for side in ("then", "else")
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    node = helper.make_node(
        "If", ["always"], ["branched"], then_branch=branches[0], else_branch=branches[1]
    )
    model.graph.node.append(node)


def _second_input(model):
    model.graph.input.append(_value("y", [1]))


def _foreign_operator(model):
    model.graph.node[1].op_type = "Sinh"


@pytest.mark.parametrize(
    ("outputs", "change", "message"),
    [
        (["depth"], None, r"--outputs depth: expected one of coarse, fine"),
        ([], None, r"--outputs: expected one to 4 different names of coarse, fine, got none"),
        (["fine", "fine"], None, "--outputs: expected one to 4 different names"),
        (["fine"], _floats_to_bytes, r"x: expected float32 \(B, 3, H, W\), got uint8 \(\? x 3"),
        (["fine"], _channels_last_input, r"x: expected float32 \(B, 3, H, W\), got float \(1 x 64"),
        (["fine"], _branch, "without control flow, got If"),
        (["fine"], _second_input, "expected one input, got x, y"),
    ],
    ids=["name", "none", "twice", "type", "layout", "control flow", "inputs"],
)
def test_a_file_that_is_no_such_network_is_refused_in_one_line(tmp_path, outputs, change, message):
    path = pyramid(tmp_path)
    if change is not None:
        _with(path, change)
    with pytest.raises(ExportError, match=message) as caught:
        describe_network(path, outputs)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_an_operator_that_no_reader_takes_is_refused_before_anything_is_written(tmp_path):
    path = _with(pyramid(tmp_path), _foreign_operator)
    network = describe_network(path, ["fine"])
    with pytest.raises(ExportError, match=r"pyramid\.onnx: .*Sinh.*FORMAT\.md"):
        exported(path, network, tmp_path)
    assert not (tmp_path / "features.onnx").exists()


def test_a_batch_that_is_fixed_inside_is_refused(tmp_path):
    path = transformer(tmp_path, batch=1)

    def fix(model):
        flat = next(part for part in model.graph.initializer if part.name == "flat")
        flat.CopyFrom(numpy_helper.from_array(np.array([1, 6, -1]), "flat"))

    network = describe_network(_with(path, fix), ["tokens"])
    with pytest.raises(ExportError, match="export the network with a free batch"):
        exported(path, network, tmp_path, size=(SIDE, SIDE))


def test_files_that_are_missing_damaged_or_changed_are_refused(tmp_path):
    with pytest.raises(ExportError, match=r"none\.onnx: cannot be read"):
        describe_network(tmp_path / "none.onnx", ["a"])
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(ExportError, match=r"text\.onnx: not an ONNX network"):
        describe_network(tmp_path / "text.onnx", ["a"])
    path = pyramid(tmp_path)
    network = describe_network(path, ["fine"])
    _with(path, lambda model: model.graph.node[0].ClearField("doc_string"))
    path.write_bytes(path.read_bytes() + b"\x2a\x00")
    with pytest.raises(ExportError, match="changed since it was described"):
        exported(path, network, tmp_path)


def test_a_patch_that_does_not_fit_and_odd_settings_are_refused(tmp_path):
    path = pyramid(tmp_path)
    with pytest.raises(ExportError, match="fine: expected patches of 14 px, got 8 px"):
        describe_network(path, ["fine"], patch_px=14)
    with pytest.raises(SettingError, match="--std"):
        describe_network(path, ["fine"], std=(1, 0, 1))
    with pytest.raises(SettingError, match="--mean"):
        describe_network(path, ["fine"], mean=(1, 0))


def test_settings_that_would_do_nothing_beside_a_network_are_refused(tmp_path):
    network = describe_network(transformer(tmp_path), ["tokens"])
    for settings, message in (
        ({"layers": ("layer1",)}, "layers"),
        ({"feature_precision": "int8"}, "--quantize"),
        ({"backbone": "resnet18"}, "backbone"),
        ({"resize_px": 100}, "resize_px"),
        ({"tile_px": 64}, "tile_px"),
    ):
        with pytest.raises(SettingError, match=message):
            make_config("full-frame", network=network, **settings)
    with pytest.raises(SettingError, match="an input of 64 x 64 px, as it has"):
        make_config("paper", network=network)
    assert make_config("full-frame", network=network).resize_px == SIDE


@pytest.mark.parametrize(
    "extra", [["--outputs", "a"], ["--network", "x.onnx"], ["--patch", "8"]], ids=str
)
def test_its_options_need_each_other(tmp_path, extra, capsys):
    command = ["fit", "--normal", str(tmp_path), "--output", str(tmp_path / "out"), *extra]
    with pytest.raises(SystemExit):
        main(command)
    assert "--network FILE" in capsys.readouterr().err


def _torch_export(model, path, side):
    torch = pytest.importorskip("torch", reason="torch: benchmarks/parity/requirements.txt")
    pytest.importorskip("onnxscript", reason="onnxscript: benchmarks/parity/requirements.txt")
    sample = torch.zeros(2, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (sample,), path, dynamo=True, external_data=False,
            input_names=["x"], dynamic_shapes=({0: torch.export.Dim("b", min=1, max=64)},),
        )  # fmt: skip


@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0"])
def test_a_timm_network_with_random_weights_is_taken(tmp_path, name):
    timm = pytest.importorskip("timm", reason="timm: benchmarks/parity/requirements.txt")
    model = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2))
    path = tmp_path / f"{name}.onnx"
    _torch_export(model, path, 96)
    names = [value.name for value in onnx.load(path).graph.output]
    network = describe_network(path, names)
    assert isinstance(network, OwnNetwork)
    layers, _ = exported(path, network, tmp_path, size=(96, 96))
    assert len(layers) == 2


def test_a_vit_of_hugging_face_with_random_weights_is_taken(tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason="transformers: benchmarks/parity/requirements.txt"
    )
    torch = pytest.importorskip("torch", reason="torch: benchmarks/parity/requirements.txt")

    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            config = transformers.ViTConfig(
                hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
                image_size=64, patch_size=16,
            )  # fmt: skip
            self.vit = transformers.ViTModel(config, add_pooling_layer=False)

        def forward(self, x):
            return self.vit(x).last_hidden_state

    path = tmp_path / "vit.onnx"
    _torch_export(Tokens(), path, 64)
    (output,) = [value.name for value in onnx.load(path).graph.output]
    network = describe_network(path, [output])
    assert (network.patch_px, network.prefix_tokens) == (16, 1)
    (layer,), _ = exported(path, network, tmp_path, size=(64, 64))
    assert layer.shape == (1, 48, 4, 4)


def test_the_description_is_stored_whole_in_the_manifest(tmp_path):
    network = describe_network(pyramid(tmp_path), ["fine"])
    config = make_config("full-frame", network=network)
    import dataclasses

    stored = json.loads(json.dumps(dataclasses.asdict(config)))["network"]
    assert stored["sha256"] == network.sha256
    assert stored["outputs"] == ["fine"]
