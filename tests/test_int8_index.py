"""Laws of the search by int8: the exact search's winners, whatever the rounding does."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from artifact_factory import striped_photo
from patchcore_build.int8_graph import int8_graph
from patchcore_runtime import Detector, ProviderError, int8_index
from patchcore_runtime.int8_bound import ZERO, round_patches, round_rows
from patchcore_runtime.int8_index import Int8Index, upsample
from test_index_graph import BOTH, C2, C3, H2, W2, batch_of, build, describe, every_row, make_store
from test_index_graph import whole as joined

RUNTIME = Path(int8_index.__file__).parent


class _NoIndex:
    """Stands where float32 would take over, and may not."""

    def nearest(self, _layer2, _layer3):
        raise AssertionError("the exact index was asked")


def open_both(folder, store, rows, precision="float32", exact=None):
    bank, index = build(folder, store, rows, precision)
    quick = Int8Index(bank, describe(store.upsampling), exact or _NoIndex(), threads=1)
    return bank, index, quick


def product_bounds(patches, rows):
    left, right = round_patches(patches), round_rows(rows)
    product = (left.rows.astype(int) - ZERO) @ right.columns.astype(int)
    return product * np.float64(left.scale) * right.scales + left.error * right.lengths


@pytest.mark.parametrize("shape", [(1, 1), (50, 7), (40, 300), (9, 1024)])
@pytest.mark.parametrize("spread", [0.0, 1.0, 40.0])
def test_a_product_of_rounded_vectors_is_never_below_the_true_one(shape, spread):
    rng = np.random.default_rng(3)
    rows = rng.standard_t(2, shape).astype(np.float32) * np.float32(spread)
    patches = rng.standard_t(2, (30, shape[1])).astype(np.float32)
    patches[0], patches[1, 0] = 0, 1000
    true = patches.astype(float) @ rows.astype(float).T
    assert (product_bounds(patches, rows) >= true - 1e-9).all()


def test_and_above_it_by_few_percent_of_the_lengths():
    rng = np.random.default_rng(0)
    patches, rows = (rng.standard_normal((50, 512)).astype(np.float32) for _ in range(2))
    lengths = np.outer(np.linalg.norm(patches, axis=1), np.linalg.norm(rows, axis=1))
    excess = (product_bounds(patches, rows) - patches.astype(float) @ rows.T) / lengths
    assert excess.max() < 0.04


@pytest.mark.parametrize("rows", [1, 500, 2048, 2049])
@pytest.mark.parametrize("upsampling", BOTH)
def test_distances_and_rows_equal_brute_force(tmp_path, upsampling, rows, monkeypatch):
    monkeypatch.setattr(int8_index, "_MOST_PAIRS", 10**6)
    good = make_store(upsampling, images=90)
    chosen = np.random.default_rng(1).permutation(90 * H2 * W2)[:rows]
    bank, _, quick = open_both(tmp_path, good, chosen)
    test = make_store(upsampling, images=2, seed=2)
    distances, found = quick.nearest(*batch_of(test))
    table = cdist(joined(test.take(every_row(test))), joined((bank.layer2, bank.layer3)))
    np.testing.assert_allclose(distances.ravel(), table.min(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.ravel(), table.argmin(axis=1))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("upsampling", BOTH)
def test_it_finds_what_the_exact_index_finds(tmp_path, upsampling, precision, monkeypatch):
    monkeypatch.setattr(int8_index, "_MOST_PAIRS", 10**6)
    store = make_store(upsampling, images=45)
    _, index, quick = open_both(tmp_path, store, every_row(store), precision)
    layers = batch_of(make_store(upsampling, images=3, seed=4))
    for mine, expected in zip(quick.nearest(*layers), index.nearest(*layers), strict=True):
        assert mine.shape == expected.shape
        assert mine.dtype == expected.dtype
        np.testing.assert_allclose(mine, expected, rtol=1e-5)


@pytest.mark.parametrize("gap", [1, 2048, 2051])
def test_of_equal_rows_the_first_wins_within_a_block_and_across_blocks(tmp_path, gap):
    store = make_store("nearest", images=1, whole_numbers=True)
    own = np.arange(H2 * W2)
    far = type(store)(
        layer2=np.concatenate([store.layer2, store.layer2 + 500]),
        layer3=np.concatenate([store.layer3, store.layer3 + 500]),
        upsampling="nearest",
    )
    picks = np.concatenate([own, np.full(gap, H2 * W2), own])
    bank, index = build(tmp_path, far, picks)
    quick = Int8Index(bank, describe("nearest"), index, threads=1)
    distances, rows = quick.nearest(*batch_of(store))
    table = cdist(joined(store.take(own)), joined((bank.layer2, bank.layer3)))
    np.testing.assert_array_equal(rows.ravel(), table.argmin(axis=1))
    assert distances.max() == 0.0


def test_where_rounding_decides_nothing_the_exact_index_takes_over(tmp_path):
    """Equal rows, all of them in doubt: more pairs than int8 pays for."""
    store = make_store("bilinear", images=1)
    bank, index = build(tmp_path, store, np.zeros(500, int))
    asked = []

    class Watched:
        def nearest(self, layer2, layer3):
            asked.append(layer2.shape)
            return index.nearest(layer2, layer3)

    quick = Int8Index(bank, describe("bilinear"), Watched(), threads=1)
    layers = batch_of(make_store("bilinear", images=2, seed=1))
    distances, rows = quick.nearest(*layers)
    np.testing.assert_array_equal(rows, index.nearest(*layers)[1])
    np.testing.assert_array_equal(distances, index.nearest(*layers)[0])
    assert asked == [(1, C2, H2, W2)] * 2


@pytest.mark.parametrize("upsampling", BOTH)
def test_upsampling_is_that_of_the_features(upsampling):
    store = make_store(upsampling, images=1)
    _, layer3 = batch_of(store)
    fine = upsample(np.moveaxis(layer3[0], 0, -1), upsampling)
    assert fine.shape == (H2, W2, C3)
    expected = store.take(every_row(store))[1].reshape(H2, W2, C3)
    np.testing.assert_allclose(fine, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("upsampling", BOTH)
def test_the_shipped_graphs_are_those_the_workshop_writes(upsampling):
    assert (RUNTIME / f"int8_{upsampling}.onnx").read_bytes() == int8_graph(upsampling)


def test_a_processor_that_clips_sums_is_refused(tmp_path):
    store = make_store("bilinear", images=1)
    _, _, quick = open_both(tmp_path, store, every_row(store))
    session = quick._session

    class Clipping:
        def run(self, names, feeds):
            return [np.minimum(array, 2 * 32767) for array in session.run(names, feeds)]

    quick._session = Clipping()
    with pytest.raises(ProviderError, match="clips sums of int8 products; use --search exact"):
        quick._refuse_saturation()


def test_a_detector_scores_the_same_either_way(tiny_artifact):
    exact = Detector.load(tiny_artifact, threads=1, search="exact")
    quick = Detector.load(tiny_artifact, threads=1, search="int8")
    for seed in (30, 31):
        left, right = exact.predict(striped_photo(seed)), quick.predict(striped_photo(seed))
        assert right.score == pytest.approx(left.score, rel=1e-5)
        np.testing.assert_array_equal(left.nearest_rows, right.nearest_rows)
