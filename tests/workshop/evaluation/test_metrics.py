"""Laws of the metrics: equal to scikit-learn and to brute force, ties included."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
    roc_curve,
)

from patchcore_build.evaluation.metrics import (
    CURVE_POINTS,
    area_below,
    auroc,
    average_precision,
    best_f1,
    confusion,
    rates,
    sweep,
    sweep_sorted,
    thin_curve,
)


def draw(seed, *, levels=None):
    """Overlapping scores of two classes of seeded sizes; `levels` rounds them into ties."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(0, 1, rng.integers(1, 60))
    anomalous = rng.normal(0.7, 1.5, rng.integers(1, 60))
    if levels is not None:
        normal, anomalous = np.round(normal * levels), np.round(anomalous * levels)
    return normal, anomalous


def as_labels(normal, anomalous):
    return np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous])


@pytest.mark.parametrize("levels", [None, 3, 1])
@pytest.mark.parametrize("seed", range(12))
def test_auroc_equals_scikit_learn_with_and_without_ties(seed, levels):
    normal, anomalous = draw(seed, levels=levels)
    assert auroc(normal, anomalous) == pytest.approx(
        roc_auc_score(*as_labels(normal, anomalous)), abs=1e-12
    )


def test_auroc_is_one_when_separated_and_zero_when_reversed():
    low, high = np.array([0.1, 0.2, 0.2]), np.array([0.3, 5.0])
    assert auroc(low, high) == 1.0
    assert auroc(high, low) == 0.0


def test_auroc_of_a_constant_score_is_one_half():
    assert auroc(np.full(3, 2.5), np.full(7, 2.5)) == 0.5


@pytest.mark.parametrize("seed", range(6))
def test_auroc_of_exchanged_classes_is_the_complement(seed):
    normal, anomalous = draw(seed, levels=2)
    assert auroc(normal, anomalous) + auroc(anomalous, normal) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("rising", [np.exp, np.arctan, lambda x: 3 * x - 7, lambda x: x**3])
def test_auroc_only_knows_the_order_of_scores(rising):
    normal, anomalous = draw(3, levels=4)
    assert auroc(rising(normal), rising(anomalous)) == auroc(normal, anomalous)


def test_auroc_does_not_care_about_the_order_of_items():
    normal, anomalous = draw(5)
    assert auroc(normal[::-1], np.roll(anomalous, 2)) == auroc(normal, anomalous)


def test_auroc_counts_more_pairs_than_fit_in_32_bits():
    normal, anomalous = np.zeros(100_000, np.float32), np.ones(100_000, np.float32)
    assert auroc(normal, anomalous) == 1.0


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(8))
def test_best_f1_equals_a_search_over_every_threshold(seed, levels):
    normal, anomalous = draw(seed, levels=levels)
    labels, scores = as_labels(normal, anomalous)
    every = {t: f1_score(labels, scores >= t) for t in np.unique(scores)}
    best = best_f1(normal, anomalous)
    assert best.f1 == pytest.approx(max(every.values()), abs=1e-12)
    assert best.f1 == pytest.approx(every[best.threshold], abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_confusion_counts_as_scikit_learn_does_with_a_score_on_the_threshold_passing(seed):
    normal, anomalous = draw(seed, levels=2)
    labels, scores = as_labels(normal, anomalous)
    for threshold in (-99.0, float(np.median(scores)), 99.0):
        counts = confusion(normal, anomalous, threshold)
        expected = confusion_matrix(labels, scores > threshold, labels=[0, 1]).ravel().tolist()
        assert [
            counts.true_negatives,
            counts.false_positives,
            counts.false_negatives,
            counts.true_positives,
        ] == expected
        assert counts.threshold == threshold


@pytest.mark.parametrize("levels", [None, 3, 1])
@pytest.mark.parametrize("seed", range(12))
def test_average_precision_equals_scikit_learn_with_and_without_ties(seed, levels):
    normal, anomalous = draw(seed, levels=levels)
    assert average_precision(normal, anomalous) == pytest.approx(
        average_precision_score(*as_labels(normal, anomalous)), abs=1e-12
    )


def test_average_precision_is_one_when_separated_and_the_share_of_defects_when_constant():
    assert average_precision(np.array([0.1, 0.2]), np.array([0.3, 5.0])) == 1.0
    assert average_precision(np.full(3, 2.5), np.full(7, 2.5)) == pytest.approx(0.7)


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("levels", [None, 2])
def test_normal_scores_may_come_in_any_number_of_sorted_parts(parts, levels):
    normal, anomalous = draw(7, levels=levels)
    whole = sweep(normal, anomalous)
    split = [np.sort(part) for part in np.array_split(normal, parts)]
    again = sweep_sorted([*split, np.empty(0)], np.sort(anomalous))
    for name, counts in vars(whole).items():
        np.testing.assert_array_equal(getattr(again, name), counts)


@pytest.mark.parametrize("levels", [None, 3, 1])
@pytest.mark.parametrize("seed", range(6))
def test_the_exact_roc_passes_every_point_of_scikit_learns_and_has_its_area(seed, levels):
    normal, anomalous = draw(seed, levels=levels)
    across, upward = sweep(normal, anomalous).roc()
    assert (across[0], upward[0], across[-1], upward[-1]) == (0, 0, 1, 1)
    assert (np.diff(across) >= 0).all()
    assert (np.diff(upward) >= 0).all()
    assert area_below(across, upward, 1.0) == pytest.approx(auroc(normal, anomalous), abs=1e-12)
    fpr, tpr, _ = roc_curve(*as_labels(normal, anomalous), drop_intermediate=False)
    # x + y grows along the curve, so it tells every point of it.
    np.testing.assert_allclose(np.interp(fpr + tpr, across + upward, across), fpr, atol=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 0.5, 0.77, 1.0])
def test_the_area_up_to_a_limit_is_the_mean_height_of_the_straight_pieces(limit):
    rng = np.random.default_rng(0)
    across = np.concatenate([[0, 0], np.sort(rng.uniform(0, 1, 30)).repeat(2), [0.5, 1, 1]])
    across.sort()
    upward = np.sort(rng.uniform(0, 1, len(across)))
    x = np.linspace(0, limit, 400_001)
    middles = (x[1:] + x[:-1]) / 2  # no point lies on one of them
    assert area_below(across, upward, limit) == pytest.approx(
        np.interp(middles, across, upward).mean(), abs=1e-5
    )


def test_a_thinned_curve_keeps_points_of_the_exact_one_its_ends_and_nearly_its_area():
    rng = np.random.default_rng(1)
    across, upward = sweep(rng.normal(0, 1, 5000), rng.normal(1, 1, 5000)).roc()
    thin = thin_curve(across, upward, protocol="all images")
    points = list(zip(thin.false_positive_rates, thin.rates, strict=True))
    assert len(points) <= CURVE_POINTS
    assert set(points) <= set(zip(across.tolist(), upward.tolist(), strict=True))
    assert (points[0], points[-1]) == ((0, 0), (1, 1))
    x, y = np.array(points).T
    assert area_below(x, y, 1.0) == pytest.approx(area_below(across, upward, 1.0), abs=2e-3)


def test_a_short_curve_keeps_every_corner_and_a_limit_keeps_one_point_beyond():
    across, upward = np.array([0, 0, 0.2, 0.2, 0.6, 1]), np.array([0, 0.5, 0.5, 0.8, 0.8, 1])
    whole = thin_curve(across, upward, protocol="all images")
    assert whole.false_positive_rates == tuple(across)
    assert whole.rates == tuple(upward)
    assert thin_curve(across, upward, protocol="x", limit=0.3).false_positive_rates[-2:] == (
        0.2,
        0.6,
    )


@pytest.mark.parametrize("seed", range(6))
def test_rates_equal_scikit_learns_and_do_not_exist_without_their_class(seed):
    normal, anomalous = draw(seed, levels=2)
    labels, scores = as_labels(normal, anomalous)
    found = rates(confusion(normal, anomalous, 0.5))
    assert found.true_positive_rate == (anomalous > 0.5).mean()
    assert found.false_positive_rate == (normal > 0.5).mean()
    assert found.f1 == pytest.approx(f1_score(labels, scores > 0.5))
    none = np.empty(0)
    assert rates(confusion(none, anomalous, 0.5)).false_positive_rate is None
    assert rates(confusion(normal, none, 0.5)).true_positive_rate is None
    assert rates(confusion(normal, none, 0.5)).f1 is None
    assert rates(confusion(none, anomalous, 0.5)).f1 is None
