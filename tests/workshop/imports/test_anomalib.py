"""Laws of reading a model of anomalib: what it describes, and what is refused in one line."""

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreign_models import checkpoint, export, plain, record, settings, specs, state_dict
from patchcore_build.errors import ModelError
from patchcore_build.imports.anomalib import open_anomalib
from patchcore_build.imports.original import Original, Thresholds
from torch_files import Parts, mapping, name, pack, text, tuple_of, zip_file

BANK = np.random.default_rng(0).random((12, 6)).astype("<f4")
NET = {
    "conv1.weight": np.ones((2, 3, 1, 1), "<f4"),
    "bn1.weight": np.full(2, 2, "<f4"),
    "bn1.running_mean": np.full(2, 3, "<f4"),
    "bn1.num_batches_tracked": np.array(1, "<i8"),
}


def opened(tmp_path: Path, content: bytes) -> Original:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    return open_anomalib(path)


def refusal(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        opened(tmp_path, content)
    words = str(caught.value)
    assert "\n" not in words
    assert words.startswith(str(tmp_path / "model.ckpt"))
    return words


def old(transform: Any, **more: Any) -> bytes:
    """Return a checkpoint as anomalib 2.0 to 2.6 wrote it, with pickled objects."""
    none = {f"anomalib_{kind}_processor_config": ... for kind in ("pre", "post")}
    given = {"pre_processor": transform, "post_processor": True} | more
    return checkpoint(
        state_dict(NET, BANK),
        hyper_parameters=settings(**given),
        anomalib_components_enabled=...,
        **none,
    )


def test_a_checkpoint_is_described_completely(tmp_path):
    found = opened(tmp_path, checkpoint(state_dict(NET, BANK)))
    assert (found.backbone, found.layers, found.neighbours) == (
        "resnet18", ("layer2", "layer3"), 9,
    )  # fmt: skip
    np.testing.assert_array_equal(found.rows, BANK)
    assert list(found.weights) == ["conv1.weight", "bn1.gamma", "bn1.moving_mean"]
    size = found.preprocess
    assert (size.resize, size.resize_height, size.height, size.filter) == (
        "stretch", 256, 256, "bilinear",
    )  # fmt: skip
    rule = found.scoring
    assert (rule.image_score, rule.distance, rule.sigma_px) == ("paper", "euclidean", 4)
    assert (rule.map_upsampling, rule.map_border) == ("nearest", "mirrored")


def test_an_export_describes_the_same_detector_as_its_checkpoint(tmp_path):
    arrays = state_dict(NET, BANK)
    one, other = opened(tmp_path, checkpoint(arrays)), opened(tmp_path, export(arrays))
    for field in dataclasses.fields(Original):
        if field.name not in ("weights", "rows", "provenance"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    np.testing.assert_array_equal(one.rows, other.rows)
    assert one.weights.keys() == other.weights.keys()


def test_a_checkpoint_of_anomalib_2_0_brings_its_pickled_transforms(tmp_path):
    package = "torchvision.transforms.v2"
    mode = name("torchvision.transforms.functional", "InterpolationMode")
    steps = [
        record(
            f"{package}._geometry.Resize",
            {
                "size": [80, 96],
                "interpolation": mode + tuple_of(text("bicubic")) + b"R",
                "antialias": True,
            },
        ),
        record(f"{package}._geometry.CenterCrop", {"size": (64, 64)}),
        record(
            f"{package}._misc.Normalize",
            {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        ),
    ]
    pipeline = record(f"{package}._container.Compose", {"transforms": steps})
    processor = record(
        "anomalib.pre_processing.pre_processor.PreProcessor", {"_modules": {"transform": pipeline}}
    )
    size = opened(tmp_path, old(processor)).preprocess
    assert (size.resize_height, size.resize_width, size.height, size.width, size.filter) == (
        80, 96, 64, 64, "bicubic",
    )  # fmt: skip


def test_the_default_transforms_of_anomalib_2_0_are_known(tmp_path):
    size = opened(tmp_path, old(True)).preprocess
    assert (size.resize, size.resize_height, size.height) == ("stretch", 256, 256)


def test_one_side_and_a_crop_keep_the_aspect_ratio(tmp_path):
    parts = {"anomalib_pre_processor_config": specs(size=(128,), crop=(96, 64))}
    size = opened(tmp_path, checkpoint(state_dict(NET, BANK), **parts)).preprocess
    assert (size.resize, size.resize_height, size.height, size.width) == (
        "shorter_side", 128, 96, 64,
    )  # fmt: skip


def test_more_neighbours_than_rows_are_all_rows(tmp_path):
    parts = {"hyper_parameters": settings(num_neighbors=50)}
    assert opened(tmp_path, checkpoint(state_dict(NET, BANK), **parts)).neighbours == len(BANK)


@pytest.mark.parametrize("sensitivity", [0.25, 0.5, 0.8, 1.0])
def test_the_threshold_is_where_the_normalised_score_crosses_the_sensitivity(tmp_path, sensitivity):
    parts = {"anomalib_post_processor_config": {"image_sensitivity": sensitivity}}
    arrays = state_dict(NET, BANK, _image_threshold=3.0)
    found = opened(tmp_path, checkpoint(arrays, **parts)).thresholds
    assert isinstance(found, Thresholds)
    scores = np.linspace(0, 6, 601)
    normalised = np.clip((scores - 3.0) / (4.0 - 1.0) + 0.5, 0, 1)
    np.testing.assert_array_equal(scores > found.image + 1e-9, normalised > 1 - sensitivity + 1e-9)


def test_the_heat_map_spans_the_normalised_map(tmp_path):
    found = opened(tmp_path, checkpoint(state_dict(NET, BANK, _pixel_threshold=2.5))).thresholds
    assert found is not None
    assert (found.low, found.pixel, found.high) == (0.5, 2.5, 4.5)
    assert "pixel threshold is the image threshold" not in found.method


def test_a_missing_pixel_threshold_is_that_of_images_as_in_anomalib(tmp_path):
    found = opened(tmp_path, checkpoint(state_dict(NET, BANK))).thresholds
    assert found is not None
    assert found.pixel == found.image == 2
    assert "the pixel threshold is the image threshold" in found.method


@pytest.mark.parametrize(
    "parts",
    [
        {"anomalib_post_processor_config": {"enable_normalization": False}},
        {"anomalib_post_processor_config": {"enable_thresholding": False}},
        {
            "anomalib_post_processor_config": ...,
            "anomalib_components_enabled": {"post_processor": False},
        },
    ],
)
def test_a_model_without_decisions_has_no_thresholds(tmp_path, parts):
    assert opened(tmp_path, checkpoint(state_dict(NET, BANK), **parts)).thresholds is None


def test_a_model_that_was_never_validated_has_no_thresholds(tmp_path):
    names = ("_image_threshold", "image_min", "image_max", "pixel_min", "pixel_max")
    arrays = state_dict(NET, BANK, **dict.fromkeys(names, np.nan))
    assert opened(tmp_path, checkpoint(arrays)).thresholds is None


def test_a_half_precision_model_is_imported_with_a_note(tmp_path):
    half = opened(tmp_path, checkpoint(state_dict(NET, BANK.astype("<f2"))))
    assert "float16" in half.notes[0]
    assert half.rows.dtype == np.float32


class Evil:
    """Pickled as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_none(tmp_path, protocol):
    marker = tmp_path / "code-ran"
    body = pickle.dumps({"state_dict": Evil(f"echo > {marker}")}, protocol)[2:-1]
    words = refusal(tmp_path, zip_file(Parts(body, {}, {})))
    assert "its pickle wants to run '" in words
    assert ".system'" in words
    assert not marker.exists()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (name("builtins", "eval") + tuple_of(text("1")) + b"R", "wants to run 'builtins.eval'"),
        (name("subprocess", "Popen") + tuple_of(text("ls")) + b"R", "'subprocess.Popen'"),
        (name("torch._utils", "_rebuild_tensor_v2") + b")\x81", "makes an object of"),
        (name("torch.hub", "load") + tuple_of(text("x")) + b"R", "wants to run 'torch.hub.load'"),
        (b"i" + b"os\nsystem\n", "INST"),
    ],
)
def test_other_calls_are_refused_by_name(tmp_path, call, expected):
    content = checkpoint(state_dict(NET, BANK), extra=b"(" + call if call[:1] == b"i" else call)
    assert expected in refusal(tmp_path, content)


def test_calls_inside_of_known_packages_are_never_made(tmp_path, monkeypatch):
    """A name of a listed package is a record, whatever it would do if it were called."""
    call = name("torchvision.io", "write_file") + tuple_of(text("never")) + b"R"
    monkeypatch.chdir(tmp_path)
    opened(tmp_path, checkpoint(state_dict(NET, BANK), extra=call))
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("tensor", "model"),
    [
        ("model.gaussian.mean", "PaDiM"),
        ("model.teacher.conv1.weight", "EfficientAD"),
        ("model.teacher_model.conv1.weight", "STFPM"),
        ("model.feature_encoder.x", "AnomalyDINO"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_by_its_name(tmp_path, tensor, model):
    arrays = state_dict(NET, BANK) | {tensor: np.ones(2, "<f4")}
    assert f"its tensors are those of {model}" in refusal(tmp_path, checkpoint(arrays))


def test_an_export_of_another_model_is_refused_by_its_name(tmp_path):
    words = refusal(tmp_path, export(state_dict(NET, BANK), kind="Padim"))
    assert "its model is 'Padim'" in words


def without(arrays: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if name != key}


ARRAYS = state_dict(NET, BANK)
CONFIG = "anomalib_pre_processor_config"
KERNEL = "model.anomaly_map_generator.blur.kernel"
REFUSED: list[tuple[str, bytes, str]] = [
    ("no bank", checkpoint(without(ARRAYS, "model.memory_bank")), "memory_bank is missing"),
    ("empty bank", checkpoint(state_dict(NET, BANK[:0])), "expected floating numbers (M, D)"),
    ("flat bank", checkpoint(state_dict(NET, BANK[0])), "expected floating numbers (M, D)"),
    ("NaN", checkpoint(state_dict(NET, BANK * np.nan)), "expected finite numbers"),
    (
        "anomalib 1",
        checkpoint({**ARRAYS, "image_threshold.value": np.array(1, "<f4")}),
        "it is of anomalib 1",
    ),
    ("no settings", checkpoint(ARRAYS, hyper_parameters=...), "no num_neighbors"),
    (
        "backbone",
        checkpoint(ARRAYS, hyper_parameters=settings(backbone="efficientnet_b5")),
        "backbone: expected one of resnet18,",
    ),
    (
        "transformer",
        checkpoint(ARRAYS, hyper_parameters=settings(backbone="dinov2_vits14")),
        "wide_resnet101_2, got 'dinov2_vits14'",
    ),
    (
        "backbone of another kind",
        checkpoint(ARRAYS, hyper_parameters=settings(backbone=7)),
        "got no name",
    ),
    (
        "layers",
        checkpoint(ARRAYS, hyper_parameters=settings(layers=["blocks.2", "blocks.5"])),
        "layers: expected one to four of layer1, layer2, layer3, layer4, the finest first",
    ),
    (
        "order of layers",
        checkpoint(ARRAYS, hyper_parameters=settings(layers=["layer3", "layer2"])),
        "the finest first",
    ),
    (
        "layers of another kind",
        checkpoint(ARRAYS, hyper_parameters=settings(layers="layer2")),
        "got str",
    ),
    (
        "neighbours",
        checkpoint(ARRAYS, hyper_parameters=settings(num_neighbors=0)),
        "num_neighbors: expected 1 or more, got 0",
    ),
    ("no transforms", checkpoint(ARRAYS, **{CONFIG: {"transform": None}}), "got none; export"),
    ("antialias", checkpoint(ARRAYS, **{CONFIG: specs(antialias=False)}), "antialias on"),
    ("filter", checkpoint(ARRAYS, **{CONFIG: specs(interpolation="nearest")}), "interpolation"),
    ("max_size", checkpoint(ARRAYS, **{CONFIG: specs(max_size=300)}), "no max_size"),
    ("sides", checkpoint(ARRAYS, **{CONFIG: specs(size=(250, 256))}), "a multiple of 16 for"),
    ("one side", checkpoint(ARRAYS, **{CONFIG: specs(size=(256,))}), "depend on the photograph"),
    (
        "half a pixel",
        checkpoint(ARRAYS, **{CONFIG: specs(size=(259, 259), crop=(224, 224))}),
        "one pixel off",
    ),
    (
        "large crop",
        checkpoint(ARRAYS, **{CONFIG: specs(size=(64, 64), crop=(96, 96))}),
        "height: expected 32 to resize_height",
    ),
    (
        "kernel",
        checkpoint({**ARRAYS, KERNEL: np.ones((1, 1, 9, 9), "<f4")}),
        "expected 33 pixels, a Gaussian of 4 px, got 9",
    ),
    (
        "sensitivity",
        checkpoint(ARRAYS, anomalib_post_processor_config={"image_sensitivity": 0.0}),
        "image_sensitivity: expected above 0",
    ),
    (
        "text as sensitivity",
        checkpoint(ARRAYS, anomalib_post_processor_config={"image_sensitivity": "high"}),
        "image_sensitivity: expected a float",
    ),
    (
        "negative threshold",
        checkpoint(state_dict(NET, BANK, _image_threshold=-1.0)),
        "image threshold: expected above 0",
    ),
    ("a state dict", zip_file(pack({"conv1.weight": np.ones(3, "<f4")})), "neither a `state_dict`"),
    ("no zip", b"not a model at all", "starts with neither a zip nor"),
    ("cut", checkpoint(ARRAYS)[:-40], "but "),
]  # fmt: skip


@pytest.mark.parametrize(("content", "words"), [case[1:] for case in REFUSED],
                         ids=[case[0] for case in REFUSED])  # fmt: skip
def test_what_an_artifact_cannot_be_made_of_is_refused_in_one_line(tmp_path, content, words):
    assert words in refusal(tmp_path, content)


def test_another_transform_is_refused_by_its_name(tmp_path):
    config = specs()
    steps = config["transform"]["init_args"]["transforms"]
    steps.insert(1, {"class_path": "torchvision.transforms.v2.RandomRotation", "init_args": {}})
    words = refusal(tmp_path, checkpoint(ARRAYS, **{CONFIG: config}))
    assert "got Resize, RandomRotation, Normalize" in words


def test_another_normalisation_is_refused(tmp_path):
    config = specs()
    config["transform"]["init_args"]["transforms"][-1]["init_args"] = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    words = refusal(tmp_path, checkpoint(ARRAYS, **{CONFIG: config}))
    assert "Normalize: mean: expected ImageNet's" in words


def test_modules_that_contain_themselves_are_refused(tmp_path):
    """The outer module is memorised before its state, and is its own submodule."""
    package = b"canomalib.models.image.patchcore.lightning_model\nPatchcore\n"
    state = b"}(" + text("_modules") + b"}(" + text("own") + b"h\x00" + b"uub"
    body = b"}(" + text("model") + package + b")\x81q\x00" + state + b"u"
    assert "nested without end" in refusal(tmp_path, zip_file(Parts(body, {}, {})))


LAUGHS = 60  # a nest of so many levels would have 2^60 entries


def laughs() -> bytes:
    """A pair of one pair, twice, that is a pair of one pair, twice, and so on."""
    levels = b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(100, 100 + LAUGHS))
    return b"]q%c" % 100 + levels


@pytest.mark.parametrize(
    "place", ["num_neighbors", "layers", "backbone", "precision", "size", "interpolation"]
)
def test_a_value_that_would_never_end_is_not_shown(tmp_path, place):
    nest = laughs()
    if place in ("size", "interpolation"):
        steps = specs()
        steps["transform"]["init_args"]["transforms"][0]["init_args"][place] = nest
        refusal(tmp_path, checkpoint(ARRAYS, **{CONFIG: steps}))
    elif place == "precision":
        opened(tmp_path, checkpoint(ARRAYS, hyper_parameters=settings(precision=nest)))
    else:
        refusal(tmp_path, checkpoint(ARRAYS, hyper_parameters=settings(**{place: nest})))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no-such\.ckpt: cannot be read: No such file"):
        open_anomalib(tmp_path / "no-such.ckpt")


def test_the_helper_writes_what_pickle_reads():
    value = {"a": [1, 2.5, None, True], "b": ("x", {"c": False})}
    assert pickle.loads(b"\x80\x02" + plain(value) + b".") == value
    assert mapping({}) == b"ccollections\nOrderedDict\n)R(u"
