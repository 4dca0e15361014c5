"""Laws of index.mindir: the nearest row is in the shortlist, and a reader can know how surely."""

import mindspore as ms
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from graphs import BOTH, C2, C3, batch_of, build, describe, every_row, make_store, whole
from patchcore_build.backbone.device import open_device
from patchcore_build.errors import ExportError
from patchcore_build.export.index_mindir import (
    Frame,
    check_shortlist,
    write_shortlist,
)
from patchcore_build.features.store import FeatureStore, make_bank
from patchcore_runtime.bank.patches import upsamplers, whole_patches

COLUMNS = C2 + C3 + 4


def patch_vectors(layers, upsampling):
    return whole_patches(layers, upsamplers(describe(upsampling)))


@pytest.fixture(scope="module", autouse=True)
def _mindspore():
    open_device()


def bank_of(rows, *, seed=0, precision="float32"):
    store = make_store("bilinear", images=-(-rows // 60), seed=seed)
    return make_bank(store, np.arange(rows), 3, precision=precision)


def shortlists(path, queries):
    graph = ms.nn.GraphCell(ms.load(str(path)))
    scores, rows = graph(ms.Tensor(queries.astype(np.float32)))
    return scores.asnumpy(), rows.asnumpy()


@pytest.mark.parametrize(("rows", "candidates"), [(1, 8), (5, 8), (8, 8), (300, 1), (300, 8)])
@pytest.mark.parametrize("upsampling", BOTH)
def test_the_nearest_row_of_every_patch_of_every_image_is_listed(
    tmp_path, upsampling, rows, candidates
):
    store = make_store(upsampling, images=5)
    bank = make_bank(store, np.arange(rows), 3)
    count = write_shortlist(tmp_path / "i.mindir", bank, candidates=candidates, block_rows=128)
    assert count == min(rows, candidates)
    test = make_store(upsampling, images=3, seed=1)
    vectors = patch_vectors(batch_of(test), upsampling)
    scores, listed = shortlists(tmp_path / "i.mindir", Frame.of(bank).queries(vectors))
    assert scores.shape == listed.shape == (180, count)
    assert scores.dtype == np.float32
    assert listed.dtype == np.int32
    assert np.all(np.diff(scores, axis=1) <= 0)
    table = cdist(vectors.astype(np.float64), whole((bank.layers[0], bank.layers[1])))
    assert np.all((listed == table.argmin(axis=1)[:, None]).any(axis=1))


def test_a_score_is_half_the_squared_distance_of_the_scaled_vectors(tmp_path):
    bank = bank_of(200)
    write_shortlist(tmp_path / "i.mindir", bank, block_rows=64)
    frame = Frame.of(bank)
    vectors = patch_vectors(batch_of(make_store("bilinear", images=1, seed=1)), "bilinear")
    scores, listed = shortlists(tmp_path / "i.mindir", frame.queries(vectors))
    squares = cdist(vectors.astype(np.float64), whole((bank.layers[0], bank.layers[1]))) ** 2
    expected = -np.take_along_axis(squares, listed.astype(np.int64), 1) * frame.scale**2 / 2
    np.testing.assert_allclose(scores, expected, rtol=5e-3)


def test_equal_rows_within_a_block_and_across_blocks_are_different_entries(tmp_path):
    store = make_store("nearest", images=1)
    bank = make_bank(store, np.tile(np.arange(10), 5), 3)
    write_shortlist(tmp_path / "i.mindir", bank, block_rows=17)
    vectors = whole(store.take(np.arange(10))).astype(np.float32)
    _, listed = shortlists(tmp_path / "i.mindir", Frame.of(bank).queries(vectors))
    assert np.all(np.sort(listed[:, :5], axis=1) == np.arange(10)[:, None] + [0, 10, 20, 30, 40])
    assert all(len(set(rows)) == 8 for rows in listed)


@pytest.mark.parametrize("magnitude", [1e-20, 1.0, 1e15])
def test_factors_are_halves_in_range_wherever_the_bank_lies(magnitude):
    store = make_store("bilinear", images=2)
    far = FeatureStore(
        layers=(
            (store.layers[0] + 5) * np.float32(magnitude),
            (store.layers[1] + 5) * np.float32(magnitude),
        ),
        upsampling="bilinear",
    )
    vectors = whole(far.take(every_row(far))).astype(np.float32)
    frame = Frame.of(make_bank(far, every_row(far), 3))
    rows = frame.rows(vectors)
    assert rows.dtype == np.float16
    assert rows.shape == (120, COLUMNS)
    lengths = np.linalg.norm(rows[:, :-4].astype(np.float64), axis=1)
    assert 7.9 < lengths.max() < 16.1
    small = np.abs(rows[rows != 0]).min()
    assert small >= 2.0**-14
    exact = (vectors - frame.centre) * frame.scale
    assert np.abs(rows[:, :-4] - exact).max() <= 16 * 2.0**-11


def test_a_bank_of_equal_rows_is_listed_whole(tmp_path):
    bank = make_bank(make_store("nearest", images=1), np.zeros(4, np.int64), 2)
    assert Frame.of(bank).scale == 1
    assert write_shortlist(tmp_path / "i.mindir", bank) == 4


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_same_bank_gives_the_same_bytes(tmp_path, precision):
    bank = bank_of(100, precision=precision)
    for name in ("one.mindir", "two.mindir"):
        write_shortlist(tmp_path / name, bank, block_rows=64)
    content = [(tmp_path / name).read_bytes() for name in ("one.mindir", "two.mindir")]
    assert content[0] == content[1]
    assert len(content[0]) < 100 * COLUMNS * 2 + 8000


def test_a_bank_too_large_for_one_file_gets_none(tmp_path):
    bank, size = bank_of(100), 100 * COLUMNS * 2
    assert write_shortlist(tmp_path / "i.mindir", bank, max_bytes=size) == 0
    assert not list(tmp_path.iterdir())
    assert write_shortlist(tmp_path / "i.mindir", bank, max_bytes=size + 1) == 8


@pytest.mark.parametrize("upsampling", BOTH)
def test_a_file_of_another_bank_is_refused_and_the_right_one_passes(tmp_path, upsampling):
    store = make_store(upsampling, images=3)
    bank, index = build(tmp_path, store, every_row(store))
    layers = batch_of(make_store(upsampling, images=2, seed=1))
    right, wrong = tmp_path / "right.mindir", tmp_path / "wrong.mindir"
    write_shortlist(right, bank)
    check_shortlist(right, bank, index, layers, describe(upsampling))
    write_shortlist(wrong, bank_of(180, seed=7))
    with pytest.raises(
        ExportError, match=r"wrong\.mindir: expected the nearest row of each of 120"
    ):
        check_shortlist(wrong, bank, index, layers, describe(upsampling))
