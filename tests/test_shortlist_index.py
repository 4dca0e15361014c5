"""Laws of the search by int8: the exact search's winners, whatever the rounding does."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from artifact_factory import striped_photo
from patchcore_runtime import Detector, ProviderError, shortlist_bound, shortlist_graph, shortlist_index
from patchcore_runtime.shortlist_bound import PatchBytes, split_of, split_rows
from patchcore_runtime.shortlist_graph import PATCH_FIELDS, Rows, bounds_graph, patches_graph
from patchcore_runtime.shortlist_index import ShortlistIndex
from patchcore_runtime.session import open_own_graph
from test_index_graph import BOTH, C2, H2, W2, batch_of, build, describe, every_row, make_store
from test_index_graph import whole as joined


class _NoIndex:
    """Stands where float32 would take over, and may not."""

    def nearest(self, _layer2, _layer3):
        raise AssertionError("the exact index was asked")


@pytest.fixture(autouse=True)
def few_axes(monkeypatch):
    """The layers of these tests have fewer channels than axes: nothing would be left to round."""
    monkeypatch.setattr(shortlist_bound, "_AXES", 2)


@pytest.fixture(params=["own", PatchBytes.SEVEN_BITS], ids=["own bits", "7 bits"])
def any_bits(request, monkeypatch):
    if request.param != "own":
        monkeypatch.setattr(shortlist_index, "_patch_bytes", lambda: request.param)


def open_both(folder, store, rows, precision="float32", exact=None):
    bank, index = build(folder, store, rows, precision)
    quick = ShortlistIndex(bank, describe(store.upsampling), exact or _NoIndex(), threads=1)
    return bank, index, quick


def cubed(store):
    """Heavy tails: few values are large, and the scale is theirs."""
    return type(store)(layer2=store.layer2**3, layer3=store.layer3**3, upsampling=store.upsampling)


def bounds_of(test, bank_store, *, doubt=1):
    """Groups, bounds, what is reached; true scores about the same centre (P, R'); slack.

    R' is whole groups; what fills the last one scores least. `doubt` lengthens what the patches'
    rounding takes off what is reached, so that more groups are given.
    """
    features, patch_bytes = describe(test.upsampling), shortlist_index._patch_bytes()
    layers = bank_store.take(every_row(bank_store))
    splits = tuple(split_of(layer) for layer in layers)
    parts = [split_rows(layer, split) for layer, split in zip(layers, splits, strict=True)]
    rows = Rows(layer2=parts[0], layer3=parts[1])
    graph = patches_graph(features, splits, patch_bytes, float(rows.squares.max()))
    layer2, layer3 = batch_of(test)
    patches = open_own_graph(graph, threads=1)
    outputs = patches.run(list(PATCH_FIELDS), {"layer2": layer2, "layer3": layer3})
    fields = dict(zip(PATCH_FIELDS, outputs, strict=True))
    bounds = open_own_graph(bounds_graph(features, [rows], patch_bytes), threads=1)
    nothing = np.full((H2 * W2, 1), -np.inf, np.float32)
    feeds = {**fields, "least": nothing, "rounded": fields["rounded"] * np.float32(doubt)}
    found = bounds.run(["groups", "bounds", "reached"], feeds)
    centre = np.concatenate([split.centre for split in splits]).astype(float)
    own, others = joined(test.take(every_row(test))) - centre, joined(layers) - centre
    true = own @ others.T - (others**2).sum(axis=1) / 2
    fill = shortlist_graph.padded(rows.count) - rows.count
    assert fill > 0
    return *found, np.pad(true, [(0, 0), (0, fill)], constant_values=FILLED), fields["slack"]


FILLED = -1e29
SHAPED = pytest.mark.parametrize(
    "shaped", [lambda store: store, cubed], ids=["normal", "heavy-tailed"]
)


@SHAPED
@pytest.mark.parametrize("axes", [1, 3, 5])
@pytest.mark.parametrize("largest", [127, 3], ids=["rows as ever", "rows rounded far"])
def test_no_bound_is_below_the_true_score_and_few_are_far_above(shaped, axes, largest, monkeypatch):
    monkeypatch.setattr(shortlist_bound, "_AXES", axes)
    monkeypatch.setattr(shortlist_bound, "LARGEST", largest)
    test = shaped(make_store("bilinear", images=1, seed=5))
    groups, bounds, _, true, slack = bounds_of(
        test, shaped(make_store("bilinear", images=90)), doubt=1e6
    )
    assert len(groups) * shortlist_graph.GROUP == true.size
    members = true.reshape(len(true), -1, shortlist_graph.GROUP)[groups[:, 0], groups[:, 1]]
    real = members > FILLED
    above = bounds - members
    assert (above >= -slack[groups[:, 0]])[real].all()
    assert np.median(above[real]) < 1.3 / largest * np.abs(members[real]).max()
    assert (bounds[~real] < members[real].min()).all()


@SHAPED
@pytest.mark.parametrize("upsampling", BOTH)
def test_what_is_reached_leaves_the_best_group_and_few_others(upsampling, shaped):
    test = shaped(make_store(upsampling, images=1, seed=5))
    groups, _, reached, true, _ = bounds_of(test, shaped(make_store(upsampling, images=20)))
    assert (reached[:, 0] <= true.max(axis=1)).all()
    best = zip(range(len(true)), true.argmax(axis=1) // shortlist_graph.GROUP, strict=True)
    assert set(best) <= {tuple(pair) for pair in groups.tolist()}
    assert len(groups) < true.size / shortlist_graph.GROUP / 3


@pytest.mark.usefixtures("any_bits")
@pytest.mark.parametrize("rows", [1, 500, 2048, 2049])
@pytest.mark.parametrize("upsampling", BOTH)
def test_distances_and_rows_equal_brute_force(tmp_path, upsampling, rows):
    good = make_store(upsampling, images=90)
    chosen = np.random.default_rng(1).permutation(90 * H2 * W2)[:rows]
    bank, _, quick = open_both(tmp_path, good, chosen)
    test = make_store(upsampling, images=2, seed=2)
    distances, found = quick.nearest(*batch_of(test))
    table = cdist(joined(test.take(every_row(test))), joined((bank.layer2, bank.layer3)))
    np.testing.assert_allclose(distances.ravel(), table.min(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.ravel(), table.argmin(axis=1))


@pytest.mark.usefixtures("any_bits")
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("upsampling", BOTH)
def test_it_finds_what_the_exact_index_finds(tmp_path, upsampling, precision):
    store = cubed(make_store(upsampling, images=45))
    _, index, quick = open_both(tmp_path, store, every_row(store), precision)
    layers = batch_of(cubed(make_store(upsampling, images=3, seed=4)))
    for mine, expected in zip(quick.nearest(*layers), index.nearest(*layers), strict=True):
        assert mine.shape == expected.shape
        assert mine.dtype == expected.dtype
        np.testing.assert_allclose(mine, expected, rtol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_bank_of_several_graphs_is_searched_as_one(tmp_path, blocks, monkeypatch):
    monkeypatch.setattr(shortlist_index, "_BLOCKS", blocks)
    store = make_store("bilinear", images=90)
    _, index, quick = open_both(tmp_path, store, every_row(store))
    assert len(quick._shelves) == -(-3 // blocks)
    layers = batch_of(make_store("bilinear", images=1, seed=4))
    np.testing.assert_array_equal(quick.nearest(*layers)[1], index.nearest(*layers)[1])


@pytest.mark.parametrize("gap", [1, 2048, 2051])
@pytest.mark.parametrize("blocks", [1, 8])
def test_of_equal_rows_the_first_wins_wherever_they_lie(tmp_path, gap, blocks, monkeypatch):
    monkeypatch.setattr(shortlist_index, "_BLOCKS", blocks)
    store = make_store("nearest", images=1, whole_numbers=True)
    own = np.arange(H2 * W2)
    far = type(store)(
        layer2=np.concatenate([store.layer2, store.layer2 + 30]),
        layer3=np.concatenate([store.layer3, store.layer3 + 30]),
        upsampling="nearest",
    )
    picks = np.concatenate([own, np.full(gap, H2 * W2), own])
    bank, _, quick = open_both(tmp_path, far, picks)
    distances, rows = quick.nearest(*batch_of(store))
    table = cdist(joined(store.take(own)), joined((bank.layer2, bank.layer3)))
    np.testing.assert_array_equal(rows.ravel(), table.argmin(axis=1))
    assert distances.max() == 0.0


@pytest.mark.parametrize("blocks", [1, 8])
def test_where_rounding_decides_nothing_the_exact_index_takes_over(tmp_path, blocks, monkeypatch):
    """Equal rows, all of them in doubt: more pairs than int8 pays for."""
    monkeypatch.setattr(shortlist_index, "_BLOCKS", blocks)
    store = make_store("bilinear", images=1)
    bank, index = build(tmp_path, store, np.zeros(2100, int))
    asked = []

    class Watched:
        def nearest(self, layer2, layer3):
            asked.append(layer2.shape)
            return index.nearest(layer2, layer3)

    quick = ShortlistIndex(bank, describe("bilinear"), Watched(), threads=1)
    layers = batch_of(make_store("bilinear", images=2, seed=1))
    distances, rows = quick.nearest(*layers)
    np.testing.assert_array_equal(rows, index.nearest(*layers)[1])
    np.testing.assert_array_equal(distances, index.nearest(*layers)[0])
    assert asked == [(1, C2, H2, W2)] * 2


class _Sums:
    """Products with rows of LARGEST, added in pairs that are clipped at `limit`."""

    def __init__(self, patch_bytes, limit):
        self._zero, self._limit = patch_bytes.zero, limit

    def run(self, _names, feeds):
        pairs = feeds["bytes"].reshape(4, -1, 2).astype(int).sum(axis=2) * shortlist_bound.LARGEST
        clipped = np.minimum(pairs, self._limit).sum(axis=1, keepdims=True)
        sums = clipped - feeds["bytes"].shape[1] * self._zero * shortlist_bound.LARGEST
        return [np.repeat(sums.astype(np.float32), 32, axis=1)]


@pytest.mark.parametrize(
    ("limit", "expected"), [(2**31, PatchBytes.EIGHT_BITS), (2**15 - 1, PatchBytes.SEVEN_BITS)]
)
def test_a_processor_that_clips_in_16_bits_gets_7(limit, expected, monkeypatch):
    clip(monkeypatch, limit)
    assert shortlist_index._patch_bytes() == expected


def test_one_that_clips_even_those_is_refused(monkeypatch):
    clip(monkeypatch, 2**14)
    with pytest.raises(ProviderError, match="clips sums of int8 products; use --search exact"):
        shortlist_index._patch_bytes()


def clip(monkeypatch, limit):
    monkeypatch.setattr(shortlist_index, "product_graph", lambda _terms, bits: bits)
    monkeypatch.setattr(shortlist_index, "open_own_graph", lambda bits, **_: _Sums(bits, limit))


def test_here_the_chosen_bits_give_right_sums_in_every_place():
    """The widest sums there are, and of both signs."""
    bits = shortlist_index._patch_bytes()
    session = open_own_graph(shortlist_graph.product_graph(1024, bits), threads=1)
    signs = np.random.default_rng(0).choice([-1, 1], (4, 1024))
    signs[0], signs[1] = 1, -1
    (sums,) = session.run(["sums"], {"bytes": (bits.zero + signs * bits.value).astype(np.uint8)})
    expected = signs.sum(axis=1) * bits.value * shortlist_bound.LARGEST
    np.testing.assert_array_equal(sums, np.repeat(expected[:, None], 32, axis=1))


def test_a_detector_scores_the_same_either_way(tiny_artifact):
    exact = Detector.load(tiny_artifact, threads=1, search="exact")
    quick = Detector.load(tiny_artifact, threads=1, search="int8")
    for seed in (30, 31):
        left, right = exact.predict(striped_photo(seed)), quick.predict(striped_photo(seed))
        assert right.score == pytest.approx(left.score, rel=1e-5)
        np.testing.assert_array_equal(left.nearest_rows, right.nearest_rows)
