"""Laws of the coreset: exact greedy k-centre, whatever the data, and an honest projection."""

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim
from threadpoolctl import ThreadpoolController

from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.product import HostProduct
from patchcore_build.coreset.select import (
    coreset_size,
    projection_size,
    random_projection,
    select_coreset,
)

Features = NDArray[np.float32]


def select_coreset_plain(features: Features, count: int, first: int) -> NDArray[np.int64]:
    """Pick one row at a time by float64 distances: the law in ten lines."""
    rows = features.astype(np.float64)
    gaps = np.full(len(rows), np.inf)
    picked = [first]
    while True:
        difference = rows - rows[picked[-1]]
        gaps = np.minimum(gaps, np.einsum("ij,ij->i", difference, difference))
        gaps[picked] = -1.0
        if len(picked) == count:
            return np.array(picked)
        picked.append(int(gaps.argmax()))


def smooth_mixture(seed: int) -> Features:
    """Patches of 12 "photographs": few materials, smooth in space, decaying spectrum, fat tails."""
    rng = np.random.default_rng(seed)
    grid, dim, materials = 16, 24, 5
    field = rng.normal(size=(12, grid, grid, dim))
    for axis in (1, 2):
        field = field + np.roll(field, 1, axis) + np.roll(field, 2, axis)
    material = rng.integers(materials, size=(12, grid // 4, grid // 4)).repeat(4, 1).repeat(4, 2)
    centres = rng.normal(size=(materials, dim)) * 4.0
    tails = rng.standard_t(3, size=(12, grid, grid, 1))
    spectrum = 1.0 / np.arange(1, dim + 1)
    return ((field * tails + centres[material]) * spectrum).reshape(-1, dim).astype(np.float32)


def grid_points(_: int) -> Features:
    """Exact ties by the thousand, more than the candidates of one batch."""
    axes = np.meshgrid(*[np.arange(17)] * 3, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, 3).astype(np.float32)


def with_duplicates(seed: int) -> Features:
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(40, 6)).astype(np.float32)
    return few[rng.integers(len(few), size=3000)]


def with_an_outlier(seed: int) -> Features:
    features = smooth_mixture(seed)
    features[17] = 1e6
    return features


def two_far_clusters(seed: int) -> Features:
    features = smooth_mixture(seed)[:1500]
    features[::2] += np.float32(3000.0)
    return features


def two_points_of_many_copies(seed: int) -> Features:
    """More rows tie for the widest gap than one batch has candidates."""
    return np.random.default_rng(seed).integers(2, size=(4000, 1)).astype(np.float32)


def larger_than_a_product(seed: int) -> Features:
    """So many nearly equidistant rows that a batch is brought up to date in several blocks."""
    rows = np.random.default_rng(seed).normal(size=(30_000, 6))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


ADVERSARIES: list[Callable[[int], Features]] = [
    grid_points,
    with_duplicates,
    with_an_outlier,
    two_far_clusters,
    two_points_of_many_copies,
    larger_than_a_product,
    lambda seed: smooth_mixture(seed) + np.float32(10_000.0),
    lambda seed: smooth_mixture(seed) * np.float32(1e-25),
    lambda seed: smooth_mixture(seed) * np.float32(1e30),
    lambda seed: smooth_mixture(seed)[:, :1],
    lambda seed: np.round(smooth_mixture(seed)),
    lambda _: np.full((2000, 4), 0.1, dtype=np.float32),
    lambda _: np.arange(5000, dtype=np.float32)[:, None],
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5])
def test_lazy_batches_pick_the_rows_of_the_plain_loop(seed: int, ratio: float) -> None:
    features = smooth_mixture(seed)
    count = coreset_size(len(features), ratio)
    picked = select_coreset(features, count, seed=seed)
    assert picked.tolist() == select_coreset_plain(features, count, picked[0]).tolist()


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_no_data_makes_the_batches_leave_the_plain_loop(
    adversary: Callable[[int], Features],
) -> None:
    features = adversary(1)
    picked = select_coreset(features, 300, seed=1)
    assert picked.tolist() == select_coreset_plain(features, 300, picked[0]).tolist()


def test_rows_in_any_memory_order_give_the_same_picks() -> None:
    features = smooth_mixture(0)
    twice = np.repeat(features, 2, axis=0)[::2]
    expected = select_coreset(features, 50, seed=0).tolist()
    assert select_coreset(np.asfortranarray(features), 50, seed=0).tolist() == expected
    assert select_coreset(twice, 50, seed=0).tolist() == expected


@pytest.mark.parametrize(
    "features", [smooth_mixture(2)[:1100], with_duplicates(2)[:1500], np.ones((1300, 3), "f4")]
)
def test_keeping_everything_picks_every_row_once(features: Features) -> None:
    picked = select_coreset(features, len(features), seed=5)
    assert sorted(picked.tolist()) == list(range(len(features)))
    assert picked.tolist() == select_coreset_plain(features, len(features), picked[0]).tolist()


def test_copies_of_picked_rows_come_last_in_their_own_order() -> None:
    features = with_duplicates(3)
    distinct = len(np.unique(features, axis=0))
    picked = select_coreset(features, len(features), seed=3)
    assert len(np.unique(features[picked[:distinct]], axis=0)) == distinct
    assert (np.diff(picked[distinct:]) > 0).all()


@pytest.mark.parametrize("rows", range(1, 8))
def test_tiny_sets_keep_any_number_of_distinct_rows(rows: int) -> None:
    features = np.random.default_rng(rows).normal(size=(rows, 1)).astype(np.float32)
    for count in range(1, rows + 1):
        picked = select_coreset(features, count, seed=0)
        assert picked.dtype == np.int64
        assert len(set(picked.tolist())) == count


@pytest.mark.parametrize("seed", range(6))
def test_covering_radius_is_at_most_twice_the_best_possible(seed: int) -> None:
    features = np.random.default_rng(seed).standard_t(2, size=(11, 2)).astype(np.float32)
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    subsets = itertools.combinations(range(len(features)), 4)
    best = min(distances[:, list(subset)].min(axis=1).max() for subset in subsets)
    picked = select_coreset(features, 4, seed=seed)
    assert distances[:, picked].min(axis=1).max() <= 2.0 * best * (1 + 1e-6)


def test_a_smaller_coreset_is_the_beginning_of_a_larger_one() -> None:
    features = smooth_mixture(4)
    longest = select_coreset(features, 900, seed=4)
    for count in (1, 2, 37, 899):
        assert select_coreset(features, count, seed=4).tolist() == longest[:count].tolist()


def test_one_seed_gives_one_answer_and_seeds_move_the_first_row() -> None:
    features = smooth_mixture(0)
    again = [select_coreset(features, 20, seed=9).tolist() for _ in range(2)]
    assert again[0] == again[1]
    assert len({int(select_coreset(features, 1, seed=seed)[0]) for seed in range(20)}) > 15


def test_features_are_left_as_they_are() -> None:
    features = smooth_mixture(0)
    before = features.copy()
    features.setflags(write=False)
    select_coreset(features, 200, seed=0)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("count", [1, 2, 500, 3072])
def test_progress_rises_from_the_first_row_to_the_last(count: int) -> None:
    calls: list[tuple[int, int]] = []
    select_coreset(smooth_mixture(0), count, seed=0, progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert {call[1] for call in calls} == {count}
    assert done[0] == 1
    assert done[-1] == count
    assert done == sorted(set(done))


@pytest.mark.parametrize("count", [-1, 0, 11])
def test_an_impossible_count_is_refused(count: int) -> None:
    features = np.zeros((10, 2), dtype=np.float32)
    with pytest.raises(ValueError, match=rf"expected count from 1 to 10, got {count}"):
        select_coreset(features, count, seed=0)


@pytest.mark.parametrize("shape", [(10,), (2, 5, 2), (0, 4), (4, 0)])
def test_features_that_are_no_table_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected features float32 \(P, D\), got float32"):
        select_coreset(np.zeros(shape, dtype=np.float32), 1, seed=0)


def test_features_of_another_type_are_refused() -> None:
    features = np.zeros((10, 2))
    with pytest.raises(ValueError, match=r"got float64 \(10, 2\)"):
        select_coreset(features, 1, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 5, 9])
def test_a_single_value_that_is_not_finite_is_refused(value: float, row: int) -> None:
    features = np.zeros((10, 2), dtype=np.float32)
    features[row, 1] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        select_coreset(features, 1, seed=0)


@pytest.mark.parametrize("count", [2, 100, 163_856, 10_000_000])
@pytest.mark.parametrize("eps", [0.1, 0.5, 0.9])
def test_projection_size_is_the_one_of_scikit_learn(count: int, eps: float) -> None:
    expected = int(johnson_lindenstrauss_min_dim(count, eps=eps))
    assert projection_size(count, eps=eps) == expected


def test_projection_size_of_the_paper_scale_set_is_296() -> None:
    assert projection_size(163_856) == 296
    assert projection_size(1) == 1


@pytest.mark.parametrize("eps", [-0.1, 0.0, 1.0, 1.5])
def test_an_impossible_projection_error_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=rf"expected eps between 0 and 1, got {eps}"):
        projection_size(100, eps=eps)


def test_a_projection_for_no_points_is_refused() -> None:
    with pytest.raises(ValueError, match="expected count >= 1, got 0"):
        projection_size(0)


def test_projection_entries_are_distributed_like_those_of_scikit_learn() -> None:
    ours = random_projection(1024, 296, seed=0)
    theirs = SparseRandomProjection(296, random_state=0).fit(np.zeros((1, 1024))).components_.T
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs.toarray()), rtol=1e-6)
    for sign in (-1, 1):
        share = (np.sign(ours) == sign).mean()
        assert share == pytest.approx((theirs.sign() == sign).mean(), rel=0.05)


def test_a_projection_keeps_squared_distances_on_average() -> None:
    features = smooth_mixture(0)[::30]
    differences = (features[:, None] - features[None]).reshape(-1, features.shape[1])
    before = np.square(differences).sum()
    after = [
        np.square(differences @ random_projection(features.shape[1], 16, seed=seed)).sum()
        for seed in range(200)
    ]
    assert np.mean(after) / before == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("size", [7, 8, 1000])
def test_a_projection_that_cannot_shrink_is_the_identity(size: int) -> None:
    np.testing.assert_array_equal(random_projection(7, size, seed=3), np.eye(7, dtype=np.float32))


def test_the_projection_follows_its_seed() -> None:
    first, again, other = (random_projection(64, 8, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("dim", "size"), [(0, 4), (4, 0), (-1, 4)])
def test_a_projection_of_no_size_is_refused(dim: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"got dim {dim}, size {size}"):
        random_projection(dim, size, seed=0)


@pytest.mark.parametrize(
    ("count", "ratio", "expected"),
    [(163_856, 0.01, 1639), (10, 0.01, 1), (1, 1.0, 1), (1000, 1.0, 1000), (7, 0.5, 4)],
)
def test_coreset_size_is_the_rounded_share_and_never_zero(
    count: int, ratio: float, expected: int
) -> None:
    assert coreset_size(count, ratio) == expected


@pytest.mark.parametrize("ratio", [-0.1, 0.0, 1.0001, float("nan")])
def test_a_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"a ratio above 0 and at most 1, got {ratio}"):
        coreset_size(100, ratio)


def test_a_coreset_of_no_features_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one patch feature, got 0"):
        coreset_size(0, 0.1)


@pytest.mark.parametrize("trial", range(25))
def test_any_shape_scale_and_offset_gives_the_rows_of_the_plain_loop(trial: int) -> None:
    rng = np.random.default_rng(trial)
    rows, dim = int(rng.integers(1, 4000)), int(rng.integers(1, 40))
    spread = 10.0 ** rng.uniform(-20, 15)
    features = rng.standard_normal((rows, dim)) * rng.gamma(0.5, size=(rows, 1)) * spread
    features += rng.choice([0.0, spread * 100.0])
    features = features.astype(np.float32)
    count = int(rng.integers(1, min(rows, 400) + 1))
    picked = select_coreset(features, count, seed=trial)
    assert picked.tolist() == select_coreset_plain(features, count, picked[0]).tolist()


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_picking_among_some_rows_equals_picking_from_their_copy(
    adversary: Callable[[int], Features],
) -> None:
    features = adversary(2)
    rows = np.flatnonzero(np.random.default_rng(0).random(len(features)) < 0.7)
    cloud = PatchCloud.of(features)
    expected = rows[select_coreset(features[rows], 200, seed=2)].tolist()
    for _ in range(2):  # a cloud is not used up
        assert select_coreset(cloud, 200, seed=2, rows=rows).tolist() == expected
    whole = select_coreset(features, 200, seed=2).tolist()
    assert select_coreset(cloud, 200, seed=2).tolist() == whole


@pytest.mark.parametrize("budget", [None, 0])
def test_features_mapped_from_a_file_give_the_same_picks(
    tmp_path: Path, budget: int | None
) -> None:
    features = larger_than_a_product(1)
    expected = select_coreset(features, 300, seed=1).tolist()
    features.tofile(tmp_path / "features.bin")
    mapped = np.memmap(tmp_path / "features.bin", np.float32, mode="r", shape=features.shape)
    cloud = PatchCloud.of(mapped, memory_budget_bytes=budget)
    assert select_coreset(cloud, 300, seed=1).tolist() == expected


def test_without_a_budget_no_copy_is_held() -> None:
    features = np.random.default_rng(0).standard_normal((60_000, 64), dtype=np.float32)
    peaks = []
    for budget in (features.nbytes - 1, features.nbytes):
        tracemalloc.start()
        select_coreset(PatchCloud.of(features, memory_budget_bytes=budget), 300, seed=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 0.9 * features.nbytes + 2**23
    assert peaks[1] > peaks[0] + 0.5 * features.nbytes


class CoarseProduct(HostProduct):
    """Reads numbers as an accelerator may: cut off after 11 bits."""

    unit = 2.0**-10

    def multiply(self, block: Features, picks: Features) -> Features:
        """Products of the numbers as read."""
        cut = [
            (part.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
            for part in (np.ascontiguousarray(block), np.ascontiguousarray(picks))
        ]
        return super().multiply(*cut)


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_a_coarse_multiplier_costs_time_and_no_row(
    adversary: Callable[[int], Features],
) -> None:
    features = adversary(3)
    cloud = PatchCloud.of(features, product=CoarseProduct())
    expected = select_coreset(features, 150, seed=3).tolist()
    assert select_coreset(cloud, 150, seed=3).tolist() == expected


@pytest.mark.parametrize("rows", [[], [3, 3], [4, 2], [-1, 2], [5, 3072], [[1, 2]]], ids=str)
def test_rows_that_are_no_ascending_part_are_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="expected rows ascending from 0 to 3071 at most"):
        select_coreset(smooth_mixture(0), 1, seed=0, rows=np.array(rows, dtype=np.int64))


def test_more_picks_than_rows_to_pick_among_are_refused() -> None:
    with pytest.raises(ValueError, match="expected count from 1 to 3, got 4"):
        select_coreset(smooth_mixture(0), 4, seed=0, rows=np.array([5, 6, 9]))


def test_blas_gets_its_threads_back() -> None:
    before = ThreadpoolController().select(user_api="blas").info()
    select_coreset(smooth_mixture(0), 300, seed=0)
    assert ThreadpoolController().select(user_api="blas").info() == before
