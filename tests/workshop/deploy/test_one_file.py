"""Laws of `export --format onnx`: one graph gives the detector's own results."""

import importlib.util
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiled_config, tiny_config
from layered_artifact import make_layered
from patchcore_build.cli.main import main
from patchcore_build.deploy import one_file
from patchcore_build.deploy.one_file import OUTPUTS, OneFile, build_model, export_one_file
from patchcore_build.errors import ExportError, OutputError, SettingError
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.detector import Detector
from patchcore_runtime.image.placement import place_input
from places import TINY

RECIPES = ("full-frame", "paper", "modelzoo")


def session_of(model):
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def check(artifact, images, session):
    """Compare a batch of inputs with the detector's own results, one by one."""
    detector = Detector(artifact, threads=1, search="exact")
    score, verdict, heat, distances = session.run(list(OUTPUTS), {"image": images})
    place = place_input(*images.shape[1:3], artifact.manifest.preprocess)
    for at, image in enumerate(images):
        expected = detector.predict_input(image, place)
        assert score[at] == pytest.approx(expected.score, rel=1e-5)
        assert verdict[at] == expected.is_anomalous
        np.testing.assert_allclose(heat[at], expected.anomaly_map, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(distances[at], expected.patch_distances, rtol=1e-5)


def inputs_of(artifact, count=3):
    size = artifact.manifest.preprocess
    photos = [striped_photo(90 + at, size=(size.height, size.width)) for at in range(count)]
    photos[-1][20:36, 30:50] = (255, 0, 255)
    return np.stack(photos)


@pytest.mark.parametrize("tiled", [False, True], ids=["whole", "tiles"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_has_the_results_of_its_images(recipe, tiled, photos, tmp_path):
    config = tiled_config(recipe) if tiled else tiny_config(recipe)
    roi = "0.1,0.1 0.9,0.1 0.9,0.6 0.1,0.9" if recipe != "modelzoo" else None
    artifact = Artifact.open(make_artifact(tmp_path / "made", photos, config, roi=roi))
    images = inputs_of(artifact)
    session = session_of(build_model(artifact, OneFile()))
    check(artifact, images, session)
    check(artifact, images[:1], session)


@pytest.mark.parametrize(
    ("layers", "patch_px", "size", "precision", "scoring"),
    [
        ([("block12", 9, 1)], 14, (56, 84), "float32", {"image_score": "paper"}),
        ([("block12", 9, 1)], 14, (56, 84), "float32", {"image_score": "map"}),
        (
            [("layer1", 4, 1), ("layer2", 5, 2), ("layer3", 6, 4)],
            4,
            (64, 96),
            "float16",
            {"image_score": "modelzoo", "distance": "squared"},
        ),
        (
            [("output0", 4, 1), ("output1", 3, 1)],
            8,
            (64, 64),
            "float32",
            {"distance": "squared", "map_upsampling": "nearest", "map_border": "mirrored"},
        ),
        ([("layer2", 6, 1), ("layer3", 5, 2)], 8, (64, 64), "float16", {"image_score": "paper"}),
    ],
    ids=["one", "one by map", "three", "two of a stride", "half"],
)
def test_any_list_of_layers_and_rule_is_exported(
    layers, patch_px, size, precision, scoring, tmp_path
):
    folder = make_layered(
        tmp_path / "made", layers, patch_px=patch_px, size=size, precision=precision,
        scoring=scoring,
    )  # fmt: skip
    artifact = Artifact.open(folder)
    check(artifact, inputs_of(artifact), session_of(build_model(artifact, OneFile())))


def test_a_bank_of_several_blocks_is_searched_whole(tmp_path):
    layers = [("layer2", 6, 1), ("layer3", 5, 2)]
    folder = make_layered(
        tmp_path / "made", layers, patch_px=8, size=(64, 64), rows=2500,
        scoring={"image_score": "paper"},
    )  # fmt: skip
    artifact = Artifact.open(folder)
    check(artifact, inputs_of(artifact), session_of(build_model(artifact, OneFile())))


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_every_opset_gives_the_same_and_has_its_number(opset, tmp_path):
    artifact = Artifact.open(TINY)
    target = tmp_path / "made.onnx"
    report = export_one_file(artifact, target, OneFile(opset=opset))
    assert report.score_difference < 1e-6
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [opset]
    check(artifact, inputs_of(artifact), session_of(model))


@pytest.mark.parametrize("recipe", RECIPES)
def test_photographs_are_resized_as_the_artifact_resizes_them(recipe, photos, tmp_path):
    artifact = Artifact.open(make_artifact(tmp_path / "made", photos, tiny_config(recipe)))
    target = tmp_path / "made.onnx"
    report = export_one_file(artifact, target, OneFile(photo_size=(200, 290)))
    assert report.input_size == (200, 290)
    images = np.stack([striped_photo(seed, size=(200, 290)) for seed in (3, 4)])
    found = session_of(onnx.load(target)).run(list(OUTPUTS), {"image": images})
    detector = Detector(artifact, threads=1)
    for at, image in enumerate(images):
        expected = detector.predict(image)
        assert found[0][at] == pytest.approx(expected.score, rel=1e-5)
        np.testing.assert_allclose(found[2][at], expected.anomaly_map, rtol=1e-5, atol=1e-6)


def test_numbers_beside_the_graph_give_the_same(tmp_path):
    artifact = Artifact.open(TINY)
    inside, beside = tmp_path / "inside.onnx", tmp_path / "beside.onnx"
    export_one_file(artifact, inside, OneFile(photo_size=(90, 80)))
    export_one_file(artifact, beside, OneFile(photo_size=(90, 80), external=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "beside.onnx", "beside.onnx.data", "inside.onnx",
    ]  # fmt: skip
    assert beside.stat().st_size < inside.stat().st_size / 2
    images = np.random.default_rng(0).integers(0, 256, (2, 90, 80, 3), dtype=np.uint8)
    results = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            list(OUTPUTS), {"image": images}
        )
        for path in (inside, beside)
    ]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_artifact_gives_the_same_bytes(tmp_path):
    artifact = Artifact.open(TINY)
    for name in ("one.onnx", "two.onnx"):
        export_one_file(artifact, tmp_path / name, OneFile())
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_an_existing_file_and_an_odd_setting_are_refused(tmp_path):
    artifact, target = Artifact.open(TINY), tmp_path / "made.onnx"
    target.write_text("mine")
    with pytest.raises(OutputError, match=r"made\.onnx: exists already"):
        export_one_file(artifact, target, OneFile())
    (tmp_path / "other.onnx.data").write_text("mine")
    with pytest.raises(OutputError, match=r"other\.onnx\.data: exists already"):
        export_one_file(artifact, tmp_path / "other.onnx", OneFile())
    assert target.read_text() == "mine"
    for settings, message in (({"opset": 16}, "--opset"), ({"photo_size": (7, 9)}, "--photo-size")):
        with pytest.raises(SettingError, match=message):
            OneFile(**settings)


def test_a_graph_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    artifact = Artifact.open(TINY)
    whole = one_file.build_model

    def spoilt(*arguments):
        model = whole(*arguments)
        for node in model.graph.node:
            if node.op_type == "Greater":
                continue
            if node.op_type == "Floor" or (
                node.op_type == "Sqrt" and node.name == "search/distance"
            ):
                node.op_type = "Abs"
        return model

    monkeypatch.setattr(one_file, "build_model", spoilt)
    with pytest.raises(ExportError, match=r"expected the artifact's own results within 0\.0001"):
        export_one_file(artifact, tmp_path / "made.onnx", OneFile())
    assert not list(tmp_path.iterdir())


def test_a_network_of_a_newer_opset_needs_it(tmp_path, capsys):
    folder = make_layered(tmp_path / "made", [("layer2", 6, 1)], patch_px=8, size=(64, 64))
    model = onnx.load(folder / "features.onnx")
    model.opset_import[0].version = 18
    (folder / "features.onnx").write_bytes(model.SerializeToString(deterministic=True))
    artifact = Artifact.open(folder, verify=False)
    with pytest.raises(ExportError, match=r"expected opset 17 or older, got 18; .* --opset 18"):
        build_model(artifact, OneFile())
    build_model(artifact, OneFile(opset=one_file.least_opset(artifact)))
    capsys.readouterr()


def test_the_command_writes_and_tells_what_it_wrote(tmp_path, capsys):
    target = tmp_path / "made.onnx"
    command = ["export", str(TINY), "--format", "onnx", "--output", str(target), "--json"]
    assert main([*command, "--photo-size", "90", "120"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["input_size"] == [90, 120]
    assert told["score_difference"] < 1e-5
    assert main(["export", str(TINY), "--format", "AIR", "--output", str(tmp_path / "a")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "which MindSpore writes on an Ascend 910 alone" in line
    with pytest.raises(SystemExit):
        main([*command[:-1], "--batch", "4"])
    assert "--batch needs --format triton, mindir, got onnx" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed; pip install openvino would run it",
)
@pytest.mark.parametrize("photo_size", [None, (90, 70)], ids=["input", "photograph"])
def test_openvino_gives_the_same(photo_size, tmp_path):
    import openvino

    artifact, target = Artifact.open(TINY), tmp_path / "made.onnx"
    report = export_one_file(artifact, target, OneFile(photo_size=photo_size))
    # Without this hint OpenVINO computes in bfloat16 on CPUs that can, which moves scores by 1 %.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(target), "CPU", precise)
    images = np.stack([striped_photo(seed, size=report.input_size) for seed in (1, 2)])
    found = compiled({"image": images})
    expected = session_of(onnx.load(target)).run(list(OUTPUTS), {"image": images})
    for name, other in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name], other, rtol=1e-4, atol=1e-5)


def test_a_photograph_of_the_artifacts_own_size_needs_no_resize():
    artifact = Artifact.open(TINY)
    plain = build_model(artifact, OneFile())
    sized = build_model(artifact, OneFile(photo_size=(64, 64)))
    image = np.asarray(Image.open(TINY / "selftest_input.png"))[None]
    results = [session_of(model).run(list(OUTPUTS), {"image": image}) for model in (plain, sized)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
