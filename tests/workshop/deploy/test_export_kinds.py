"""`export` takes every kind of artifact, refuses in time, and leaves nothing half-written."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from artifact_factory import striped_photo
from hnsw_cases import needs_hnswlib
from patchcore_build.cli.main import main
from patchcore_build.deploy import new_files as module
from patchcore_build.deploy.new_files import new_files
from patchcore_build.deploy.one_file import OUTPUTS, OneFile, build_model
from patchcore_build.deploy.parts import at_opset, opset_of
from patchcore_build.errors import ExportError, OutputError
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.detector import Detector
from places import TINY

FIT = ("--resize-px", "78", "--folds", "2", "--coreset-ratio", "0.05")


def made(photos, output, *options):
    """Fit an artifact of 64 x 96 px by the command."""
    command = ["fit", "--normal", photos, "--output", output, *FIT, *options]
    assert main([str(part) for part in command]) == 0
    return output


def write_own_network(path, opset):
    """Write a network of an opset, whose opset 18 has other forms of its operators."""
    kernel = np.random.default_rng(3).standard_normal((5, 3, 8, 8)).astype(np.float32) / 14
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["linear"], strides=[8, 8]),
        helper.make_node("ReduceMean", ["linear"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["linear", "mean"], ["centred"]),
        helper.make_node("Tanh", ["centred"], ["fine"]),
    ]
    if opset >= 18:
        nodes[1] = helper.make_node("ReduceMean", ["linear", "axes"], ["mean"], keepdims=1)
    tensors = [
        numpy_helper.from_array(kernel, "kernel"),
        numpy_helper.from_array(np.array([1]), "axes"),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("fine", TensorProto.FLOAT, ["n", 5, None, None])],
        tensors[: len(nodes[1].input)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path
    )
    return path


def write_files(target, *, error=None, meanwhile=None):
    """Write a graph and its numbers; something else happens before they are moved."""
    with new_files(target) as staging:
        (staging / target.name).write_text("ours")
        (staging / f"{target.name}.data").write_text("ours")
        if error is not None:
            raise error
        if meanwhile is not None:
            target.write_text(meanwhile)


def check_export(folder, target, capsys, *options, index="exact"):
    """Export by the command, and compare two photographs with the artifact's own detector."""
    capsys.readouterr()
    command = ["export", folder, "--format", "onnx", "--output", target, "--photo-size", 80, 120]
    assert main([str(part) for part in (*command, *options, "--json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["replaced_index"] == (None if index == "exact" else index)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    images = np.stack([striped_photo(seed) for seed in (60, 61)])
    images[1, 30:50, 40:70] = (255, 0, 255)
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"image": images}), strict=True))
    detector = Detector(Artifact.open(folder), threads=1, search="exact")
    for at, image in enumerate(images):
        expected = detector.predict(image)
        assert found["score"][at] == pytest.approx(expected.score, rel=1e-4)
        assert found["is_anomalous"][at] == expected.is_anomalous
        np.testing.assert_allclose(found["anomaly_map"][at], expected.anomaly_map, rtol=1e-4)
    return told


def test_an_int8_network_is_exported_with_its_integers(photos, tmp_path, capsys):
    options = ("--backbone", "resnet18", "--weights", "random", "--quantize", "int8")
    folder = made(photos, tmp_path / "made", *options)
    for opset in (17, 21):
        target = tmp_path / f"{opset}.onnx"
        check_export(folder, target, capsys, "--opset", opset)
        kinds = {node.op_type for node in onnx.load(target).graph.node}
        assert kinds & {"QLinearConv", "QuantizeLinear"}
    refused = ["export", str(folder), "--format", "mindir", "--output", str(tmp_path / "a.mindir")]
    assert main(refused) == 1
    assert "features.mindir: expected float32, got none" in capsys.readouterr().err


@pytest.mark.parametrize("opset", [17, 18])
def test_a_network_of_the_user_is_exported_with_its_opset(photos, tmp_path, capsys, opset):
    path = write_own_network(tmp_path / "own.onnx", opset)
    folder = made(photos, tmp_path / "made", "--network", path, "--outputs", "fine")
    assert check_export(folder, tmp_path / "made.onnx", capsys)["opset"] == opset


@needs_hnswlib
def test_an_approximate_index_is_replaced_and_the_command_says_so(tiny_artifact, tmp_path, capsys):
    fast = tmp_path / "fast"
    assert main(["index", str(tiny_artifact), "--kind", "hnsw", "--output", str(fast)]) == 0
    check_export(fast, tmp_path / "made.onnx", capsys, index="hnsw")
    command = ["export", str(fast), "--format", "triton", "--output", str(tmp_path / "models")]
    assert main([*command, "--external"]) == 0
    assert "index: exact search in place of hnsw" in capsys.readouterr().out
    version = tmp_path / "models" / "fast" / "1"
    assert sorted(path.name for path in version.iterdir()) == ["model.onnx", "model.onnx.data"]
    onnxruntime.InferenceSession(str(version / "model.onnx"), providers=["CPUExecutionProvider"])


def test_a_newer_opset_than_any_that_is_offered_is_refused(photos, tmp_path, capsys):
    path = write_own_network(tmp_path / "own.onnx", 18)
    folder = made(photos, tmp_path / "made", "--network", path, "--outputs", "fine")
    model = onnx.load(folder / "features.onnx")
    model.opset_import[0].version = 22
    (folder / "features.onnx").write_bytes(model.SerializeToString())
    from patchcore_build.deploy.one_file import least_opset

    with pytest.raises(ExportError, match=r"expected opset 21 or older, got 22; export your netw"):
        least_opset(Artifact.open(folder, verify=False))
    capsys.readouterr()


def test_an_operator_without_conversion_is_one_clear_line(monkeypatch):
    from patchcore_build.deploy import one_file

    def fail(_model, _opset):
        raise RuntimeError("No Adapter To Version $18 for Thing\nmore")

    monkeypatch.setattr(one_file, "at_opset", fail)
    artifact = Artifact.open(TINY)
    with pytest.raises(ExportError, match=r"features\.onnx: cannot be converted from opset \d+ "):
        build_model(artifact, OneFile(opset=18))


def test_large_numbers_take_no_part_in_a_conversion(tmp_path):
    model = onnx.load(write_own_network(tmp_path / "own.onnx", 17))
    newer = at_opset(model, 18)
    onnx.checker.check_model(newer, full_check=True)
    assert opset_of(newer) == 18
    assert [value.name for value in newer.graph.input] == ["x"]
    assert "kernel" in [tensor.name for tensor in newer.graph.initializer]
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    one, other = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(None, {"x": image})[0]
        for each in (model, newer)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        ("onnx", "a.onnx", "a.onnx: exists already"),
        ("mindir", "m", "m: exists already"),
        ("triton", "t", "t: cannot be written (File exists)"),
    ],
)
def test_a_target_is_checked_before_the_artifact_is_read(form, name, said, tmp_path, capsys):
    target = tmp_path / name
    target.write_text("mine")
    command = ["export", str(tmp_path / "absent"), "--format", form, "--output", str(target)]
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("onnx", ("--opset", "22"), "--opset: expected 17 to 21, got 22"),
        ("onnx", ("--photo-size", "4", "90"), "--photo-size: expected 8 to 8192 px each"),
        ("triton", ("--batch", "1025"), "--batch: expected 1 to 1024, got 1025"),
        ("triton", ("--name", "a/b"), "--name: expected letters, digits"),
        ("mindir", ("--batch", "1025"), "--batch: expected 1 to 1024, got 1025"),
        ("mindir", ("--opset", "17"), "--opset needs --format onnx, triton, got mindir"),
    ],
)
def test_a_setting_is_refused_before_the_artifact_is_read(form, options, message, tmp_path, capsys):
    command = ["export", str(tmp_path / "absent"), "--format", form]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--output", str(tmp_path / "out"), *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_folders_are_created_and_removed_after_a_failure(tmp_path, capsys):
    target = tmp_path / "new" / "newer" / "made.onnx"
    assert main(["export", str(TINY), "--format", "onnx", "--output", str(target)]) == 0
    assert [path.name for path in target.parent.iterdir()] == ["made.onnx"]
    capsys.readouterr()
    with pytest.raises(ExportError):
        write_files(tmp_path / "other" / "deep" / "x.onnx", error=ExportError("no"))
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_file_that_appears_meanwhile_is_kept_and_nothing_is_added(tmp_path, monkeypatch):
    target = tmp_path / "made.onnx"
    with pytest.raises(OutputError, match=r"made\.onnx: exists"):
        write_files(target, meanwhile="theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["made.onnx"]
    assert target.read_text() == "theirs"
    target.unlink()

    def full(_folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "flush_tree", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_files(target)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(tmp_path):
    target = tmp_path / "deep" / "made.onnx"
    command = [sys.executable, "-m", "patchcore_build", "export", str(TINY), "--format", "onnx"]
    command += ["--output", str(target), "--photo-size", "4000", "3000"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not list(tmp_path.glob("deep/.made.onnx.partial-*/*")):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert said == "patchcore-build: interrupted\n"
    assert not list(tmp_path.iterdir())
