"""A Triton repository describes its own file, and a MindIR has the batch that was asked for."""

import re

import numpy as np
import onnxruntime
import pytest

from patchcore_build.cli.main import main
from patchcore_build.deploy import triton
from patchcore_build.deploy.one_file import OneFile
from patchcore_build.deploy.triton import export_triton
from patchcore_build.errors import ExportError, OutputError, SettingError
from patchcore_runtime.artifact.folder import Artifact
from places import TINY

TYPES = {"uint8": "TYPE_UINT8", "float": "TYPE_FP32", "bool": "TYPE_BOOL"}


def test_the_config_has_the_inputs_and_outputs_of_the_file(tmp_path):
    artifact = Artifact.open(TINY)
    target = tmp_path / "models"
    export_triton(artifact, target, OneFile(photo_size=(90, 120)), name="plate_1", most_batch=16)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        "plate_1", "plate_1/1", "plate_1/1/model.onnx", "plate_1/config.pbtxt",
    ]  # fmt: skip
    text = (target / "plate_1" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'name: "plate_1"' in text
    assert "max_batch_size: 16" in text
    session = onnxruntime.InferenceSession(
        str(target / "plate_1" / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    described = re.findall(r'name: "(\w+)"\s+data_type: (\w+)\s+dims: \[ ([\d, ]+) \]', text)
    ends = [*session.get_inputs(), *session.get_outputs()]
    assert [name for name, _, _ in described] == [end.name for end in ends]
    for (_, kind, dims), end in zip(described, ends, strict=True):
        assert kind == TYPES[end.type.removeprefix("tensor(").removesuffix(")")]
        sides = [int(side) for side in dims.split(", ")]
        assert sides == (end.shape[1:] or [1])  # one number per image is reshaped
    assert text.count("reshape: { shape: [ ] }") == 2
    for bracket in "{}", "[]":
        assert text.count(bracket[0]) == text.count(bracket[1])


def test_names_batches_and_existing_folders_are_refused(tmp_path):
    artifact, settings = Artifact.open(TINY), OneFile()
    for name in ("", "a b", "../up", ".hidden", "x" * 101):
        with pytest.raises(SettingError, match="--name"):
            export_triton(artifact, tmp_path / "t", settings, name=name, most_batch=1)
    with pytest.raises(SettingError, match="--batch"):
        export_triton(artifact, tmp_path / "t", settings, name="a", most_batch=1025)
    (tmp_path / "t" / "a").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"t/a: exists already"):
        export_triton(artifact, tmp_path / "t", settings, name="a", most_batch=1)


def test_a_model_is_added_to_a_repository_and_a_failure_leaves_it_unchanged(tmp_path, monkeypatch):
    artifact, target = Artifact.open(TINY), tmp_path / "models"
    export_triton(artifact, target, OneFile(), name="one", most_batch=1)
    report = export_triton(artifact, target, OneFile(), name="two", most_batch=1)
    assert report.file == target / "two" / "1" / "model.onnx"
    assert report.file.is_file()

    def fail(*_arguments, **_more):
        raise ExportError("no")

    monkeypatch.setattr(triton, "config_text", fail)
    for repository in (target, tmp_path / "new"):
        with pytest.raises(ExportError):
            export_triton(artifact, repository, OneFile(), name="three", most_batch=1)
    assert sorted(path.name for path in target.iterdir()) == ["one", "two"]
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_mindir_of_a_fixed_batch_gives_the_same_layers_and_takes_no_other(tmp_path, capsys):
    mindspore = pytest.importorskip("mindspore", reason="a fixed MindIR is written with MindSpore")
    target = tmp_path / "made.mindir"
    command = ["export", str(TINY), "--format", "mindir", "--batch", "3", "--output", str(target)]
    assert main(command) == 0
    assert "uint8 (3, 64, 64, 3)" in capsys.readouterr().out
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto.FromString(target.read_bytes())
    assert list(model.graph.input[0].tensor[0].dims) == [3, 64, 64, 3]
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    one, other = (
        mindspore.nn.GraphCell(mindspore.load(str(path)))(mindspore.Tensor(images))
        for path in (TINY / "features.mindir", target)
    )
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.asnumpy(), right.asnumpy())
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
