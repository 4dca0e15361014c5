"""Laws of `upgrade`: an artifact of format 2 gives the same scores in format 3, or a refusal.

Format 2 is written here from an artifact of format 3, by the rules that FORMAT.md gave for it.
"""

import json
import shutil
import struct

import numpy as np
import pytest

from artifact_factory import make_artifact, striped_photo, tiny_config, write_sums
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.cli.main import main
from patchcore_runtime.detector import Detector
from patchcore_runtime.edit.upgrade import upgrade
from patchcore_runtime.errors import ArtifactError, EditError, OutputError
from patchcore_runtime.selftest import run_selftest


def as_format_2(folder, target):
    """Write an artifact of layer2 and layer3 as format 2 had it."""
    shutil.copytree(folder, target)
    path = target / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    height = document["tiling"]["tile_height"] // 8
    width = document["tiling"]["tile_width"] // 8
    features = document["features"]
    document["features"] = {
        "backbone": features["backbone"],
        "precision": features["precision"],
        **{
            layer["name"]: {
                "channels": layer["channels"],
                "height": height // layer["stride"],
                "width": width // layer["stride"],
            }
            for layer in features["layers"]
        },
        "layer3_upsampling": features["upsampling"],
    }
    for name in ("distance", "map_upsampling", "map_border"):
        del document["scoring"][name]
    monitoring = document["monitoring"]
    monitoring["layer2"], monitoring["layer3"] = monitoring.pop("layers")
    quantiles = monitoring["quantiles"]
    quantiles["layer2"], quantiles["layer3"] = quantiles.pop("layers")
    document["format_version"] = 2
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    bank = target / "memory_bank.bin"
    content = bank.read_bytes()
    _, _, start, rows, neighbours, bits, _, *channels = struct.unpack("<8sIIQ7I", content[:52])
    header = struct.pack("<8sIIQIIII", b"PCMEMBNK", 2, start, rows, *channels[:2], neighbours, bits)
    bank.write_bytes(header.ljust(64, b"\0") + content[64:])
    (target / "index.onnx").write_bytes(b"the search of format 2")
    write_sums(target)
    return target


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bank_precision": "float16", "upsampling": "nearest"},
        {"recipe": "modelzoo"},
        {"recipe": "paper"},
    ],
    ids=str,
)
def test_an_upgraded_artifact_gives_the_same_to_the_bit(settings, photos, tmp_path):
    made = make_artifact(tmp_path / "made", photos, tiny_config(**settings))
    old = as_format_2(made, tmp_path / "old")
    with pytest.raises(ArtifactError, match="patchcore-runtime upgrade ARTIFACT --output NEW"):
        Artifact.open(old)
    new = upgrade(old, tmp_path / "new")
    artifact = Artifact.open_whole(new)
    photo = striped_photo(50)
    before, after = (Detector.load(folder, threads=1).predict(photo) for folder in (made, new))
    assert before.score == after.score
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    assert all(step.passed for step in run_selftest(artifact, threads=1))
    for name in ("features.onnx", "memory_bank.bin", "index.onnx", "selftest_map.npy"):
        assert (made / name).read_bytes() == (new / name).read_bytes()
    edit = artifact.manifest.provenance["edits"][-1]
    assert edit["what"] == "upgrade"
    assert (old / "manifest.json").exists()


def test_the_command_upgrades_and_tells_the_folder(tiny_artifact, tmp_path, capsys):
    old = as_format_2(tiny_artifact, tmp_path / "old")
    assert main(["upgrade", str(old), "--output", str(tmp_path / "new")]) == 0
    assert "scores and thresholds are unchanged" in capsys.readouterr().out
    assert main(["upgrade", str(old), "--output", str(tmp_path / "new")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["upgrade", str(old), "--output", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format_version"] == 3


def _with_manifest(folder, change):
    path = folder / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    write_sums(folder)


def _flip_last(folder):
    path = folder / "memory_bank.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip_last, r"memory_bank\.bin: altered"),
        (lambda f: _with_manifest(f, lambda d: d["features"].pop("layer3")), "fields of format 2"),
        (lambda f: _with_manifest(f, lambda d: d.update(monitoring=[])), "fields of format 2"),
        (lambda f: _with_manifest(f, lambda d: d.update(format_version=1)), "expected 2, got 1"),
        (lambda f: _with_manifest(f, lambda d: d.update(format="other")), "no PatchCore artifact"),
        (
            lambda f: _with_manifest(f, lambda d: d["features"]["layer3"].update(channels=11)),
            r"memory_bank\.bin: \(M, K, channels, precision\)",
        ),
        (
            lambda f: _with_manifest(f, lambda d: d["scoring"].update(sigma_px=-1)),
            r"scoring\.sigma_px: expected",
        ),
    ],
    ids=["sums", "field", "object", "version", "format", "channels", "range"],
)
def test_a_damaged_folder_is_refused_and_nothing_is_left(damage, message, tiny_artifact, tmp_path):
    old = as_format_2(tiny_artifact, tmp_path / "old")
    damage(old)
    with pytest.raises(ArtifactError, match=message) as caught:
        upgrade(old, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_artifact_of_format_3_and_an_existing_output_are_refused(tiny_artifact, tmp_path):
    with pytest.raises(EditError, match="it needs no upgrade"):
        upgrade(tiny_artifact, tmp_path / "new")
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        upgrade(tiny_artifact, tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
