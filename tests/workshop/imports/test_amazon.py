"""Laws of reading a folder of patchcore-inspection: what it describes, and what is refused."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from foreign_models import amazon_folder, flat_index
from patchcore_build.errors import ModelError, WeightsError
from patchcore_build.imports.amazon import INDEX, PARAMETERS, open_amazon, read_flat_index
from patchcore_build.imports.original import Original
from torch_files import pack, zip_file

ROWS = np.random.default_rng(0).random((7, 8)).astype("<f4")
RESIZE = 80


def opened(folder: Path) -> Original:
    weights = folder.parent / "weights.pth"
    weights.write_bytes(zip_file(pack({"conv1.weight": np.ones((2, 3), "<f4")})))
    return open_amazon(folder, weights=weights, resize_px=RESIZE)


def test_a_folder_is_described_completely(tmp_path):
    found = opened(amazon_folder(tmp_path / "model", ROWS, **{"backbone.name": "wideresnet50"}))
    assert (found.backbone, found.layers) == ("wide_resnet50_2", ("layer2", "layer3"))
    assert (found.pool_to, found.neighbourhood, found.neighbours) == (8, 3, 1)
    np.testing.assert_array_equal(found.rows, ROWS)
    size = found.preprocess
    assert (size.resize, size.resize_height, size.height, size.width, size.filter) == (
        "shorter_side", RESIZE, 64, 64, "bilinear",
    )  # fmt: skip
    rule = found.scoring
    assert (rule.image_score, rule.distance, rule.sigma_px) == ("max", "squared", 4)
    assert (rule.map_upsampling, rule.map_border) == ("bilinear", "repeated")
    assert found.thresholds is None
    assert list(found.weights) == ["conv1.weight"]


def test_faiss_itself_writes_the_file_that_is_read(tmp_path):
    faiss = pytest.importorskip("faiss", reason="writing its file takes faiss-cpu")
    index = faiss.IndexFlatL2(ROWS.shape[1])
    index.add(ROWS)
    faiss.write_index(index, str(tmp_path / "index"))
    np.testing.assert_array_equal(read_flat_index(tmp_path / "index", columns=8), ROWS)


def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_none(tmp_path):
    marker = tmp_path / "code-ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"echo > {marker}",)

    folder = amazon_folder(tmp_path / "model", ROWS)
    (folder / PARAMETERS).write_bytes(pickle.dumps({"backbone.name": Evil()}))
    with pytest.raises(
        ModelError, match=r"patchcore_params\.pkl: expected the parameters .*system"
    ):
        opened(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone.name": "efficientnet_b7"}, "backbone.name: expected one of resnet50,"),
        ({"backbone.name": 3}, "backbone.name: expected one of"),
        ({"layers_to_extract_from": ["features.3"]}, "layers: expected one to four of layer1,"),
        ({"layers_to_extract_from": ["layer3", "layer2"]}, "the finest first"),
        ({"patchsize": 4}, "patchsize: expected 1 or 3 or 5, got 4"),
        ({"patchstride": 2}, "patchstride: expected 1, got 2"),
        ({"anomaly_scorer_num_nn": 5}, "anomaly_scorer_num_nn: expected 1, got 5"),
        ({"pretrain_embed_dimension": 16}, "pretrain_embed_dimension: expected 8, the target"),
        (
            {"target_embed_dimension": 7, "pretrain_embed_dimension": 7},
            "target_embed_dimension: expected a multiple of the 2 layers",
        ),
        ({"input_shape": (1, 64, 64)}, "input_shape: expected 3 channels, height and width"),
        ({"input_shape": "big"}, "input_shape: expected 3 channels"),
        ({"input_shape": (3, 72, 64)}, "input height: expected a multiple of 16"),
        ({"input_shape": (3, 96, 96)}, "height: expected 32 to resize_height; choose another"),
        ({"patchstride": ...}, "patchstride is missing"),
    ],
)
def test_what_an_artifact_does_not_compute_is_refused(tmp_path, changes, words):
    with pytest.raises(ModelError) as caught:
        opened(amazon_folder(tmp_path / "model", ROWS, **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_ensemble_is_refused(tmp_path):
    folder = amazon_folder(tmp_path / "model", ROWS)
    for number in (1, 2):
        (folder / f"Ensemble-{number}-2_{INDEX}").write_bytes(flat_index(ROWS))
    with pytest.raises(ModelError, match="expected one model, got an ensemble of 2"):
        opened(folder)


def test_a_missing_folder_file_or_weights_is_named(tmp_path):
    with pytest.raises(ModelError, match="expected a folder of patchcore-inspection, got No such"):
        opened(tmp_path / "nowhere")
    folder = amazon_folder(tmp_path / "model", ROWS)
    with pytest.raises(WeightsError, match=r"none\.pth: cannot be read"):
        open_amazon(folder, weights=tmp_path / "none.pth", resize_px=RESIZE)
    (folder / INDEX).unlink()
    with pytest.raises(ModelError, match=rf"{INDEX}: No such file"):
        opened(folder)
    (folder / PARAMETERS).unlink()
    with pytest.raises(ModelError, match=r"patchcore_params\.pkl: cannot be read"):
        opened(folder)


GOOD = flat_index(ROWS)


def changed(at: int, form: str, value: int) -> bytes:
    raw = bytearray(GOOD)
    struct.pack_into(form, raw, at, value)
    return bytes(raw)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (flat_index(ROWS, b"IwPQ"), "an IndexFlatL2"),
        (b"", "fourcc"),
        (GOOD[:-1], "vectors"),
        (GOOD + b"\0", "size"),
        (changed(4, "<i", 9), "d: expected 8, the target_embed_dimension, got 9"),
        (changed(8, "<q", -1), "ntotal"),
        (changed(8, "<q", 2**40), "ntotal"),
        (changed(8, "<q", 6), "size of vectors"),
        (changed(32, "<B", 0), "is_trained"),
        (changed(33, "<i", 0), "metric_type"),
        (flat_index(ROWS * np.float32(np.inf)), "expected finite numbers"),
    ],
)
def test_a_hostile_index_is_refused_at_its_field(tmp_path, content, words):
    path = tmp_path / "index"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_flat_index(path, columns=8)
    assert words in str(caught.value)
