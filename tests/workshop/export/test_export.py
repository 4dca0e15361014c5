"""Laws of the exported feature network, on a small stand-in with every operator of the real one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import onnx
import onnxruntime
import pytest
from mindspore import nn, ops

from patchcore_build.backbone.device import open_device
from patchcore_build.errors import ExportError, OutputError
from patchcore_build.export.graphs import compare_mindir, compare_onnx, export_mindir, export_onnx
from places import SUPPORT
from small_network import H, SmallNetwork, W, draw_images, layers


class Unexportable(nn.Cell):
    """Pools with a padding of their own: MindSpore runs it, its ONNX exporter does not know it."""

    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)

    def construct(self, images):
        """Pool only."""
        x = ops.transpose(ops.cast(images, ms.float32), (0, 3, 1, 2))
        return self.pool(x), x


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    open_device()
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(SmallNetwork, folder / "features.onnx", height=H, width=W)
    export_mindir(SmallNetwork, folder / "features.mindir", height=H, width=W)
    return folder


def test_the_onnx_file_declares_names_types_and_a_free_batch(exported):
    graph = onnx.load(exported / "features.onnx").graph
    declared = {}
    for value in [*graph.input, *graph.output]:
        tensor = value.type.tensor_type
        shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        declared[value.name] = (tensor.elem_type, shape)
    assert declared == {
        "images": (onnx.TensorProto.UINT8, ["B", H, W, 3]),
        "layer2": (onnx.TensorProto.FLOAT, ["B", 6, H // 8, W // 8]),
        "layer3": (onnx.TensorProto.FLOAT, ["B", 10, H // 16, W // 16]),
    }


def test_weights_keep_their_names_in_the_onnx_file(exported):
    names = {tensor.name for tensor in onnx.load(exported / "features.onnx").graph.initializer}
    weights = [name for name in SmallNetwork().parameters_dict() if name.endswith(".weight")]
    assert len(weights) > 1
    assert set(weights) <= names


@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_computes_what_mindspore_computes(exported, batch):
    images = draw_images(batch)
    path = exported / "features.onnx"
    assert compare_onnx(path, images, layers(images), tolerance=1e-5) <= 1e-5


def kinds_of(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_pools_pad_by_themselves(exported):
    assert "Pad" not in kinds_of(exported / "features.onnx")


def test_normalisations_are_folded_into_convolutions(exported):
    kinds = kinds_of(exported / "features.onnx")
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds


@pytest.mark.parametrize("batch", [1, 3])
def test_mindir_loaded_back_computes_the_very_same_bits(exported, batch):
    images = draw_images(batch)
    path = exported / "features.mindir"
    assert compare_mindir(path, images, layers(images), tolerance=0) == 0


def test_onnxruntime_has_nothing_to_warn_about(exported, capfd):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 2  # warnings and worse
    session = onnxruntime.InferenceSession(
        exported / "features.onnx", options, providers=["CPUExecutionProvider"]
    )
    for batch in (1, 3):
        session.run(None, {"images": draw_images(batch)})
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import sys
from pathlib import Path
from patchcore_build.backbone.device import open_device
open_device()
tests, folder, other_work_first = sys.argv[1:]
sys.path.insert(0, tests)
from small_network import H, W, SmallNetwork, draw_images, layers
from patchcore_build.export.graphs import export_mindir, export_onnx
if other_work_first == "yes":
    layers(draw_images(2), seed=9)
    kept = [SmallNetwork(seed) for seed in range(3)]
export_onnx(SmallNetwork, Path(folder, "features.onnx"), height=H, width=W)
export_mindir(SmallNetwork, Path(folder, "features.mindir"), height=H, width=W)
"""


@pytest.mark.parametrize(("hash_seed", "other_work_first"), [("1", "no"), ("2", "yes")])
def test_every_process_silently_writes_the_same_bytes(
    exported, tmp_path, hash_seed, other_work_first
):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, SUPPORT, tmp_path, other_work_first],
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONWARNINGS": "ignore"},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.mindir", "features.onnx"]
    for name in ("features.onnx", "features.mindir"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes(), name


@pytest.mark.parametrize(
    ("export", "name"), [(export_onnx, "features.onnx"), (export_mindir, "features.mindir")]
)
def test_other_weights_give_other_bytes(exported, tmp_path, export, name):
    export(lambda: SmallNetwork(seed=1), tmp_path / name, height=H, width=W)
    assert (tmp_path / name).read_bytes() != (exported / name).read_bytes()


def test_files_can_be_copied_over_and_removed_like_any_other(exported):
    paths = sorted(exported.iterdir())
    assert [path.name for path in paths] == ["features.mindir", "features.onnx"]
    for path in paths:
        assert path.stat().st_mode & stat.S_IRUSR
        assert path.stat().st_mode & stat.S_IWUSR


def test_an_operator_the_exporter_does_not_know_is_refused_in_one_line(tmp_path):
    open_device()
    before = Path.cwd()
    with pytest.raises(ExportError, match=r"features\.onnx: expected .*MaxPool") as refusal:
        export_onnx(Unexportable, tmp_path / "features.onnx", height=H, width=W)
    assert "\n" not in str(refusal.value)
    assert Path.cwd() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [export_onnx, export_mindir])
def test_a_missing_folder_is_refused(tmp_path, export):
    open_device()
    path = tmp_path / "absent" / "features.mindir"
    with pytest.raises(OutputError, match=r"absent/features\.mindir: cannot be written"):
        export(SmallNetwork, path, height=H, width=W)


def test_a_difference_is_accepted_up_to_the_tolerance_and_refused_beyond(exported):
    images = draw_images(1)
    layer2, layer3 = layers(images)
    off = layer3.copy()
    off.flat[0] += 0.01 * np.abs(layer3).max()
    for compare, name in (
        (compare_onnx, "features.onnx: layer3"),
        (compare_mindir, "features.mindir: output 1"),
    ):
        path = exported / name.partition(":")[0]
        got = compare(path, images, (layer2, off), tolerance=0.0101)
        assert got == pytest.approx(0.01, rel=1e-2)
        with pytest.raises(ExportError, match=rf"{name}: expected .* 0\.0098 .* got 0\.0"):
            compare(path, images, (layer2, off), tolerance=0.0098)


def test_other_shapes_are_refused(exported):
    images = draw_images(2)
    layer2, layer3 = layers(images)
    with pytest.raises(ExportError, match=r"layer2: expected shape \(1, 6, 8, 12\), got \(2, "):
        compare_onnx(exported / "features.onnx", images, (layer2[:1], layer3), tolerance=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(exported, value):
    images = draw_images(1)
    layer2, layer3 = layers(images)
    layer2.flat[5] = value
    with pytest.raises(ExportError, match=r"layer2: expected .* got (nan|inf)"):
        compare_onnx(exported / "features.onnx", images, (layer2, layer3), tolerance=1)


def test_non_finite_results_of_the_exported_file_are_refused_too(tmp_path):
    open_device()

    def broken():
        network = SmallNetwork()
        network.layer3.first[1].gamma.set_data(ms.Tensor(np.full(10, np.inf, np.float32)))
        return network

    export_onnx(broken, tmp_path / "features.onnx", height=H, width=W)
    images = draw_images(1)
    expected = layers(images)
    with pytest.raises(ExportError, match=r"layer3: expected .* got (nan|inf)"):
        compare_onnx(tmp_path / "features.onnx", images, expected, tolerance=1)
