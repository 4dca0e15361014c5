"""Laws of the search along principal axes: it finds the exact search's rows with any axes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from artifact_factory import striped_photo
from graphs import BOTH, C2, H2, W2, batch_of, build, describe, every_row, make_store
from graphs import whole as joined
from patchcore_build.features.store import make_bank
from patchcore_runtime import Detector
from patchcore_runtime.engine.session import open_graph
from patchcore_runtime.search import pca_axes, pca_index
from patchcore_runtime.search.pca_axes import axes_of
from patchcore_runtime.search.pca_graphs import GROUP, bounds_graph, patches_graph
from patchcore_runtime.search.pca_index import PcaIndex


class _NoIndex:
    """An exact index that must not be called."""

    def nearest(self, _layer2, _layer3):
        raise AssertionError("the exact index was asked")


@pytest.fixture(autouse=True)
def few_axes(monkeypatch):
    """Limit the axes: these layers have fewer channels than the default, so no residual remains."""
    monkeypatch.setattr(pca_axes, "_MOST_AXES", 6)
    monkeypatch.setattr(pca_index, "_MOST_PAIRS", 10**6)


def open_both(folder, store, rows, precision="float32", exact=None):
    bank, index = build(folder, store, rows, precision)
    quick = PcaIndex(bank, describe(store.upsampling), exact or _NoIndex(), threads=1)
    return bank, index, quick


def bank_of(store):
    return make_bank(store, every_row(store), 3)


def cubed(store):
    """Draw numbers with heavy tails: few values are large."""
    return type(store)(
        layers=(store.layers[0] ** 3, store.layers[1] ** 3), upsampling=store.upsampling
    )


SHAPED = pytest.mark.parametrize(
    "shaped", [lambda store: store, cubed], ids=["normal", "heavy-tailed"]
)


def columns_of(store, axes):
    """Run the first graph for one image."""
    session = open_graph(patches_graph(describe(store.upsampling), axes), Path("graph"), threads=1)
    layer2, layer3 = batch_of(store)
    return session.run(
        ["patches_0", "patches_1", "columns", "squared"], {"layer2": layer2, "layer3": layer3}
    )


def test_patches_are_whole_vectors_and_their_parts():
    store = make_store("bilinear", images=1)
    bank = bank_of(store)
    axes = axes_of(bank)
    fine, coarse, columns, squared = columns_of(store, axes)
    main, rest, lengths = axes.split(bank.whole_rows(slice(None)))
    np.testing.assert_allclose(fine, bank.layers[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(coarse, bank.layers[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(columns[:, :-2], main, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(columns[:, -2], rest, rtol=1e-3)
    np.testing.assert_array_equal(columns[:, -1], 1)
    np.testing.assert_allclose(squared[:, 0], lengths, rtol=1e-5)


@SHAPED
@pytest.mark.parametrize("count", [1, 4, 12])
def test_no_bound_is_below_the_true_score_and_every_candidate_is_returned(
    shaped, count, monkeypatch
):
    monkeypatch.setattr(pca_axes, "_MOST_AXES", 12)
    store = shaped(make_store("bilinear", images=20))
    bank = bank_of(store)
    axes = axes_of(bank).first(count)
    rows = bank.whole_rows(slice(None))
    main, rest, squared = axes.split(rows)
    ends = [0, 64, 500, len(rows)]
    blocks = [
        np.vstack([main[start:end].T, rest[start:end], -squared[start:end] / 2])
        for start, end in pairwise(ends)
    ]
    test = shaped(make_store("bilinear", images=1, seed=5))
    _, _, columns, lengths = columns_of(test, axes)
    patches = joined(test.take(every_row(test))) - axes.centre
    others = rows.astype(float) - axes.centre
    true = patches @ others.T - (others**2).sum(axis=1) / 2
    slack = 1e-5 * (lengths + squared.max())
    least = np.quantile(true, 0.999, axis=1, keepdims=True).astype(np.float32)
    session = open_graph(bounds_graph(blocks), Path("graph"), threads=1)
    places = [
        slice(start, min(start + GROUP, end))
        for first, end in pairwise(ends)
        for start in range(first, end, GROUP)
    ]
    for floor in (np.full_like(least, -np.inf), least):
        groups, bounds = session.run(["groups", "bounds"], {"columns": columns, "least": floor})
        given = np.zeros(true.shape, bool)
        for (patch, group), values in zip(groups, bounds, strict=True):
            own = places[group]
            size = own.stop - own.start
            given[patch, own] = True
            assert (values[:size] >= true[patch, own] - slack[patch]).all()
            assert (values[size:] < -1e29).all()
        assert given[true >= floor + slack].all()
    assert count < 12 or given.mean() < 0.5


@pytest.mark.parametrize("rows", [1, 40, 64, 65, 500, 2048, 2049, 4500])
@pytest.mark.parametrize("upsampling", BOTH)
def test_distances_and_rows_equal_brute_force(tmp_path, upsampling, rows):
    good = make_store(upsampling, images=90)
    chosen = np.random.default_rng(1).permutation(90 * H2 * W2)[:rows]
    bank, _, quick = open_both(tmp_path, good, chosen)
    test = make_store(upsampling, images=2, seed=2)
    distances, found = quick.nearest(batch_of(test))
    table = cdist(joined(test.take(every_row(test))), joined((bank.layers[0], bank.layers[1])))
    np.testing.assert_allclose(distances.ravel(), table.min(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.ravel(), table.argmin(axis=1))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("upsampling", BOTH)
def test_results_equal_those_of_the_exact_index(tmp_path, upsampling, precision):
    store = cubed(make_store(upsampling, images=45))
    _, index, quick = open_both(tmp_path, store, every_row(store), precision)
    layers = batch_of(cubed(make_store(upsampling, images=3, seed=4)))
    for mine, expected in zip(quick.nearest(layers), index.nearest(layers), strict=True):
        assert mine.shape == expected.shape
        assert mine.dtype == expected.dtype
        np.testing.assert_allclose(mine, expected, rtol=1e-5)


@pytest.mark.parametrize("gap", [1, 2048, 2051])
def test_the_first_of_equal_rows_wins_at_any_position(tmp_path, gap):
    store = make_store("nearest", images=1, whole_numbers=True)
    own = np.arange(H2 * W2)
    far = type(store)(
        layers=(
            np.concatenate([store.layers[0], store.layers[0] + 30]),
            np.concatenate([store.layers[1], store.layers[1] + 30]),
        ),
        upsampling="nearest",
    )
    picks = np.concatenate([own, np.full(gap, H2 * W2), own])
    bank, _, quick = open_both(tmp_path, far, picks)
    distances, rows = quick.nearest(batch_of(store))
    table = cdist(joined(store.take(own)), joined((bank.layers[0], bank.layers[1])))
    np.testing.assert_array_equal(rows.ravel(), table.argmin(axis=1))
    assert distances.max() == 0.0


def test_the_exact_index_takes_over_if_the_axes_exclude_too_little(tmp_path, monkeypatch):
    """The rows are so similar that none can be excluded: more pairs than the limit."""
    monkeypatch.setattr(pca_index, "_MOST_PAIRS", 64)
    store, alike = make_store("bilinear", images=1), make_store("bilinear", images=35, seed=3)
    alike.layers[0][:] = store.layers[0][0, 0, 0] + alike.layers[0] * np.float32(1e-3)
    alike.layers[1][:] = store.layers[1][0, 0, 0] + alike.layers[1] * np.float32(1e-3)
    bank, index = build(tmp_path, alike, every_row(alike))
    asked = []

    class Watched:
        def nearest(self, layers):
            asked.append(layers[0].shape)
            return index.nearest(layers)

    quick = PcaIndex(bank, describe("bilinear"), Watched(), threads=1)
    layers = batch_of(make_store("bilinear", images=2, seed=1))
    distances, rows = quick.nearest(layers)
    np.testing.assert_array_equal(rows, index.nearest(layers)[1])
    np.testing.assert_array_equal(distances, index.nearest(layers)[0])
    assert asked == [(1, C2, H2, W2)] * 2


def test_a_detector_scores_the_same_either_way(tiny_artifact):
    exact = Detector.load(tiny_artifact, threads=1, search="exact")
    quick = Detector.load(tiny_artifact, threads=1, search="pca")
    for seed in (30, 31):
        left, right = exact.predict(striped_photo(seed)), quick.predict(striped_photo(seed))
        assert right.score == pytest.approx(left.score, rel=1e-5)
        np.testing.assert_array_equal(left.nearest_rows, right.nearest_rows)
