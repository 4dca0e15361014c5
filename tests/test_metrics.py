"""Laws of the metrics: equal to scikit-learn and to brute force, ties included."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from patchcore_build.metrics import auroc, best_f1, confusion


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
