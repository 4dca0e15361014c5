"""Laws of reading, matching and converting weights."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from patchcore_build.errors import OutputError, WeightsError
from patchcore_build.weights.match import convert_weights, match_weights, name_backbone
from patchcore_build.weights.read import digest, read_weights
from places import WEIGHTS

Arrays = dict[str, NDArray[np.float32]]


def random_arrays(shapes: dict[str, tuple[int, ...]]) -> Arrays:
    rng = np.random.default_rng(7)
    return {name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}


TORCHVISION = {
    "conv1.weight": (4, 3, 7, 7),
    "bn1.weight": (4,),
    "bn1.bias": (4,),
    "bn1.running_mean": (4,),
    "bn1.running_var": (4,),
    "bn1.num_batches_tracked": (),
    "layer1.0.downsample.0.weight": (8, 4, 1, 1),
    "layer1.0.downsample.1.weight": (8,),
    "layer1.0.downsample.1.bias": (8,),
    "layer1.0.downsample.1.running_mean": (8,),
    "layer1.0.downsample.1.running_var": (8,),
    "layer4.0.conv1.weight": (8, 8, 3, 3),
    "layer4.0.bn1.running_mean": (8,),
    "fc.weight": (10, 8),
    "fc.bias": (10,),
}
EXPECTED = {
    "conv1.weight": (4, 3, 7, 7),
    "bn1.moving_mean": (4,),
    "bn1.moving_variance": (4,),
    "bn1.gamma": (4,),
    "bn1.beta": (4,),
    "layer1.0.downsample.0.weight": (8, 4, 1, 1),
    "layer1.0.downsample.1.moving_mean": (8,),
    "layer1.0.downsample.1.moving_variance": (8,),
    "layer1.0.downsample.1.gamma": (8,),
    "layer1.0.downsample.1.beta": (8,),
}


def resnet_shapes(blocks: int, width: int, *, bottleneck: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"layer1.0.conv2.weight": (width, width, 3, 3)}
    shapes |= {f"layer3.{number}.conv1.weight": (1, 1, 1, 1) for number in range(blocks)}
    if bottleneck:
        shapes["layer1.0.conv3.weight"] = (256, width, 1, 1)
    return shapes


@pytest.fixture
def torchvision_file(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file(random_arrays(TORCHVISION), path)
    return path


def test_only_the_leaves_of_batch_norms_change_their_names(torchvision_file: Path) -> None:
    original = random_arrays(TORCHVISION)
    weights = read_weights(torchvision_file)
    renamed = {
        "bn1.gamma": "bn1.weight",
        "bn1.beta": "bn1.bias",
        "bn1.moving_mean": "bn1.running_mean",
        "bn1.moving_variance": "bn1.running_var",
        "layer1.0.downsample.1.gamma": "layer1.0.downsample.1.weight",
        "layer1.0.downsample.0.weight": "layer1.0.downsample.0.weight",
        "conv1.weight": "conv1.weight",
        "fc.weight": "fc.weight",
        "fc.bias": "fc.bias",
    }
    for new, old in renamed.items():
        np.testing.assert_array_equal(weights[new], original[old], strict=True)
    assert len(weights) == len(original) - 1
    assert not any("num_batches_tracked" in name or "running" in name for name in weights)


def test_reading_mindspore_names_changes_nothing(tmp_path: Path) -> None:
    arrays = random_arrays(EXPECTED)
    save_file(arrays, tmp_path / "net.safetensors")
    weights = read_weights(tmp_path / "net.safetensors")
    assert set(weights) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights[name], array, strict=True)


def test_every_floating_type_becomes_contiguous_float32(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    raw = len(header).to_bytes(8, "little") + header + b"\x80\x3f\x20\xc0"
    (tmp_path / "b.safetensors").write_bytes(raw)
    np.testing.assert_array_equal(read_weights(tmp_path / "b.safetensors")["a"], [1.0, -2.5])
    arrays = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in ("f2", "f4", "f8")}
    save_file(arrays, tmp_path / "net.safetensors")
    for array in read_weights(tmp_path / "net.safetensors").values():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])


def test_both_pickles_of_a_real_network_give_the_same_mindspore_weights(tmp_path: Path) -> None:
    paths = [WEIGHTS / f"resnet18-layers123{end}.pth" for end in ("", "-legacy")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"needs resnet18-layers123.pth and -legacy.pth in {WEIGHTS}")
    zipped, legacy = map(read_weights, paths)
    assert list(zipped) == list(legacy)
    assert len(zipped) == 75
    for name, array in zipped.items():
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, legacy[name], strict=True)
    assert name_backbone({name: array.shape for name, array in zipped.items()}) == "resnet18"
    renamed = tmp_path / "no-suffix"
    renamed.write_bytes(paths[0].read_bytes())
    assert list(read_weights(renamed)) == list(zipped)


def test_the_head_of_a_classifier_is_dropped_and_the_order_is_the_expected_one(
    torchvision_file: Path,
) -> None:
    weights = read_weights(torchvision_file)
    matched = match_weights(weights, EXPECTED, source="net")
    assert list(matched) == list(EXPECTED)
    assert all(matched[name] is weights[name] for name in EXPECTED)
    head = {**EXPECTED, "fc.bias": (10,)}
    assert "fc.bias" in match_weights(weights, head, source="net")


def test_a_mismatch_names_missing_surplus_and_misshapen_tensors_with_their_counts() -> None:
    weights = random_arrays(EXPECTED)
    for name in list(EXPECTED)[1:5]:
        del weights[name]
    weights["conv1.weight"] = np.zeros((4, 1, 7, 7), np.float32)
    weights["head\nof.weight"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as refusal:
        match_weights(weights, EXPECTED, source="net.pth")
    message = str(refusal.value)
    assert message.startswith(
        "net.pth: does not fit the backbone: 4 missing: bn1.moving_mean, bn1.moving_variance,"
        " bn1.gamma, ...; 1 surplus: 'head\\nof.weight'; 1 of another shape: conv1.weight"
        " (expected 4x3x7x7, got 4x1x7x7); "
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (resnet_shapes(2, 64, bottleneck=False), "looks like resnet18: choose that backbone"),
        (resnet_shapes(6, 64, bottleneck=False), "looks like resnet34: choose that backbone"),
        (resnet_shapes(6, 64, bottleneck=True), "looks like resnet50: choose that backbone"),
        (resnet_shapes(23, 64, bottleneck=True), "looks like resnet101: choose that"),
        (resnet_shapes(23, 128, bottleneck=True), "looks like wide_resnet101_2: choose that"),
        ({"features.0.weight": (1,)}, "none of resnet18, .*; get torchvision's for wide_resnet50"),
        (
            resnet_shapes(6, 128, bottleneck=True) | {"w": (1,)},
            "save the plain state dict of the torchvision model",
        ),
    ],
)
def test_weights_of_another_network_are_recognised_and_the_message_says_what_to_do(
    found: dict[str, tuple[int, ...]], advice: str
) -> None:
    expected = resnet_shapes(6, 128, bottleneck=True)
    assert name_backbone(expected) == "wide_resnet50_2"
    with pytest.raises(WeightsError, match=advice):
        match_weights(random_arrays(found), expected, source="net.pth")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_name(value: float) -> None:
    weights = random_arrays(EXPECTED)
    weights["bn1.beta"][2] = value
    with pytest.raises(WeightsError, match=r"net\.pth: 1 with NaN, infinite .* values: bn1\.beta;"):
        match_weights(weights, EXPECTED, source="net.pth")


def test_a_negative_variance_is_refused_but_a_negative_mean_is_not() -> None:
    weights = random_arrays(EXPECTED)
    weights["bn1.moving_mean"][1] = -1
    match_weights(weights, EXPECTED, source="net.pth")
    weights["bn1.moving_variance"][1] = -1e-3
    with pytest.raises(WeightsError, match=r"bn1\.moving_variance"):
        match_weights(weights, EXPECTED, source="net.pth")


def test_a_number_too_large_for_float32_is_refused(tmp_path: Path) -> None:
    save_file({"w": np.array([1e300])}, tmp_path / "net.safetensors")
    weights = read_weights(tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match="infinite"):
        match_weights(weights, {"w": (1,)}, source="net")


def test_a_tensor_under_both_names_is_refused(tmp_path: Path) -> None:
    arrays = random_arrays({"bn.weight": (2,), "bn.gamma": (2,), "bn.running_mean": (2,)})
    save_file(arrays, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=r"holds bn\.gamma twice"):
        read_weights(tmp_path / "net.safetensors")


def test_integers_in_safetensors_are_refused_by_name(tmp_path: Path) -> None:
    save_file(
        {"w": np.arange(3), "bn.num_batches_tracked": np.arange(1)}, tmp_path / "a.safetensors"
    )
    with pytest.raises(WeightsError, match="'w' is I64, expected one of F64, F32, F16, BF16"):
        read_weights(tmp_path / "a.safetensors")


def test_a_checkpoint_holds_the_source_to_the_bit_and_the_same_bytes_each_time(
    tmp_path: Path, torchvision_file: Path
) -> None:
    first, second = tmp_path / "new" / "a.ckpt", tmp_path / "b.ckpt"
    convert_weights(torchvision_file, first, EXPECTED)
    convert_weights(torchvision_file, second, EXPECTED)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["a.ckpt"]
    assert os.access(first, os.R_OK)
    assert first.stat().st_mode & 0o777 == 0o644
    source = read_weights(torchvision_file)
    converted = read_weights(first)
    assert list(converted) == list(EXPECTED)
    for name, array in converted.items():
        np.testing.assert_array_equal(array, source[name], strict=True)


def test_a_real_network_survives_the_conversion_to_the_bit(tmp_path: Path) -> None:
    path = WEIGHTS / "resnet18-layers123.pth"
    if not path.is_file():
        pytest.skip(f"needs resnet18-layers123.pth in {WEIGHTS}")
    source = read_weights(path)
    convert_weights(path, tmp_path / "r.ckpt", {name: a.shape for name, a in source.items()})
    converted = read_weights(tmp_path / "r.ckpt")
    assert list(converted) == list(source)
    assert all(converted[name].tobytes() == source[name].tobytes() for name in source)


def test_an_existing_target_is_kept_unless_overwriting_is_allowed(
    tmp_path: Path, torchvision_file: Path
) -> None:
    target = tmp_path / "a.ckpt"
    target.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"a\.ckpt: exists already; choose another name"):
        convert_weights(torchvision_file, target, EXPECTED)
    assert target.read_bytes() == b"mine"
    convert_weights(torchvision_file, target, EXPECTED, overwrite=True)
    assert set(read_weights(target)) == set(EXPECTED)


def test_a_refused_conversion_leaves_nothing_behind(tmp_path: Path, torchvision_file: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(WeightsError, match="1 missing: more"):
        convert_weights(torchvision_file, folder / "a.ckpt", {**EXPECTED, "more": (1,)})
    with pytest.raises(OutputError, match=r"a\.pth: expected a name that ends in \.ckpt"):
        convert_weights(torchvision_file, folder / "a.pth", EXPECTED)
    assert list(folder.iterdir()) == []
    with pytest.raises(OutputError, match="cannot be written"):
        convert_weights(torchvision_file, torchvision_file / "a.ckpt", EXPECTED)


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.safetensors", "net.ckpt", "net.bin"])
@pytest.mark.parametrize("content", [b"", b"garbage " * 40, b"\xff" * 7 + b"\0{" + b"x" * 40])
def test_a_file_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=name) as refusal:
        read_weights(path)
    assert "\n" not in str(refusal.value)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def disguise(content: bytes) -> bytes:
    return pickle.dumps(content)


@pytest.mark.parametrize("harm", [cut, disguise])
def test_a_damaged_file_is_refused(
    tmp_path: Path, torchvision_file: Path, harm: Callable[[bytes], bytes]
) -> None:
    checkpoint = tmp_path / "a.ckpt"
    convert_weights(torchvision_file, checkpoint, EXPECTED)
    for path in (torchvision_file, checkpoint):
        path.write_bytes(harm(path.read_bytes()))
        with pytest.raises(WeightsError, match=path.name):
            read_weights(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for read in (read_weights, digest):
        with pytest.raises(WeightsError, match=r"absent\.pth: cannot be read: No such file"):
            read(tmp_path / "absent.pth")


def test_the_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    for content in (b"", b"x" * (1 << 20), b"abc" * 700_000):
        (tmp_path / "f").write_bytes(content)
        assert digest(tmp_path / "f") == hashlib.sha256(content).hexdigest()


LOADED = "import sys; print('mindspore' in sys.modules)"


def test_importing_the_module_does_not_import_mindspore() -> None:
    for first, loaded in (("patchcore_build.weights.match", "False"), ("mindspore", "True")):
        command = [sys.executable, "-c", f"import {first}; {LOADED}"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stdout.split()[-1] == loaded


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0, 3)])
def test_a_tensor_without_elements_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "empty.safetensors"
    save_file({"conv1.weight": np.zeros(shape, np.float32)}, path)
    with pytest.raises(WeightsError, match="expected sides of 1 or more"):
        read_weights(path)
