"""Laws of thresholds: they keep the given false-alarm rate, and p-values are their inverse."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from patchcore_build.calibration.estimate import (
    describe_scores,
    estimate_bias,
    find_threshold,
    fit_tail,
    stored_ranks,
)
from patchcore_runtime.errors import ThresholdError
from patchcore_runtime.manifest.calibration import Calibration, HeatmapRange
from patchcore_runtime.scoring.thresholds import (
    conformal_rank,
    describe_calibration,
    few_images,
    p_value,
    smallest_rate,
    supported_rate,
    tail_quantile,
    tail_share,
    threshold_at,
    with_thresholds,
)

KINDS = {
    "normal": stats.norm(10, 1),
    "gamma": stats.gamma(3),
    "heavy": stats.t(5, 20, 1),
    "bounded": stats.uniform(5, 1),
}
RATES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.03, 0.01, 0.003)


def make_calibration(scores, rate=0.05):
    found = find_threshold(scores, rate, seed=0)
    held_out = describe_scores(scores, 1.0)
    return Calibration(
        method=found.method,
        images=len(scores),
        groups=len(scores),
        folds=2,
        target_fpr=rate,
        image_threshold=found.value,
        image_interval=(found.low, found.high),
        pixel_threshold=found.value,
        pixel_interval=(found.low, found.high),
        heatmap=HeatmapRange(low=0.0, high=2 * found.value),
        ranks=stored_ranks(len(scores)),
        image_scores=held_out,
        map_maxima=held_out,
    )


def draw(count, kind="gamma", seed=0):
    return KINDS[kind].rvs(count, random_state=np.random.default_rng(seed))


@pytest.mark.parametrize("fpr", [0.5, 0.2, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("count", [20, 59, 99, 150, 250])
def test_with_many_scores_the_threshold_is_an_order_statistic(count, fpr):
    scores = draw(count)
    if (count + 1) * fpr < 3:
        assert "Pareto" in find_threshold(scores, fpr, seed=0).method
        return
    # The smallest score with at least (n + 1)(1 - fpr) scores up to it.
    wanted = (count + 1) * (1 - fpr) - 1e-9
    expected = min(s for s in scores if (scores <= s).sum() >= wanted)
    assert find_threshold(scores, fpr, seed=0).value == expected


def test_299_scores_are_enough_for_one_percent_and_298_are_not():
    scores = np.arange(1.0, 300)
    assert find_threshold(scores, 0.01, seed=0).value == 297  # ceil(300 * 0.99)
    assert "Pareto" in find_threshold(scores[:298], 0.01, seed=0).method


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "fpr"), [(99, 0.05), (299, 0.01), (60, 0.1)])
def test_order_statistics_raise_no_more_false_alarms_than_promised(kind, count, fpr):
    trials = 20_000
    draws = KINDS[kind].rvs((trials, count + 1), random_state=np.random.default_rng(5))
    rank = conformal_rank(count, fpr)
    thresholds = np.partition(draws[:, :-1], rank - 1, axis=1)[:, rank - 1]
    share = float((draws[:, -1] > thresholds).mean())
    error = 4 * math.sqrt(fpr * (1 - fpr) / trials)
    assert share <= fpr + error
    assert share >= fpr - 1 / (count + 1) - error  # not wastefully far below it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "fpr"), [(60, 0.01), (150, 0.01), (209, 0.01), (30, 0.05)])
def test_the_fitted_tail_keeps_the_rate_within_a_factor_of_two_on_average(kind, count, fpr):
    rng = np.random.default_rng(7)
    truth = KINDS[kind]
    shares = []
    for _ in range(300):
        ordered = np.sort(truth.rvs(count, random_state=rng))
        value = max(ordered[-2], tail_quantile(fit_tail(ordered), fpr))
        shares.append(truth.sf(value))
    assert np.mean(shares) < 2 * fpr
    if kind != "bounded":  # its tail ends more abruptly than any that is fitted: too careful
        assert np.mean(shares) > fpr / 2


@pytest.mark.parametrize("kind", ["normal", "gamma"])
@pytest.mark.parametrize(("count", "fpr"), [(150, 0.01), (299, 0.01), (150, 0.05)])
def test_the_interval_holds_the_true_quantile_about_nine_times_in_ten(kind, count, fpr):
    quantile = KINDS[kind].isf(fpr)
    held = []
    for seed in range(40):
        found = find_threshold(draw(count, kind, seed), fpr, seed=seed)
        assert found.low <= found.value <= found.high
        held.append(found.low <= quantile <= found.high)
    assert np.mean(held) >= 0.75  # 0.9 less three standard errors of forty draws


@pytest.mark.parametrize("count", [2, 3, 10, 50, 209, 700])
@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_rate_never_raises_the_threshold_nor_a_higher_score_its_p_value(kind, count):
    calibration = make_calibration(draw(count, kind), 0.2)
    scores = calibration.image_scores
    rates = np.geomspace(smallest_rate(count) * 1.001, 0.999, 300)
    thresholds = [threshold_at(calibration, scores, rate) for rate in rates]
    assert all(later <= earlier for earlier, later in pairwise(thresholds))
    values = np.linspace(scores.values[0] - 1, scores.values[-1] * 1.5, 300)
    shares = [p_value(calibration, scores, value) for value in values]
    assert all(later <= earlier for earlier, later in pairwise(shares))
    assert smallest_rate(count) <= shares[-1] <= shares[0] <= 1
    assert p_value(calibration, scores, 1e9) == smallest_rate(count)


@pytest.mark.parametrize("count", [2, 10, 50, 209, 700])
@pytest.mark.parametrize("rate", RATES)
def test_a_score_is_above_the_threshold_of_a_rate_just_where_its_p_value_is_below(count, rate):
    calibration = make_calibration(draw(count, seed=count), 0.2)
    scores = calibration.image_scores
    if rate < smallest_rate(count):
        with pytest.raises(ThresholdError):
            threshold_at(calibration, scores, rate)
        return
    threshold = threshold_at(calibration, scores, rate)
    assert p_value(calibration, scores, threshold * (1 + 1e-9)) <= rate * (1 + 1e-6)
    assert p_value(calibration, scores, threshold * (1 - 1e-9)) >= rate * (1 - 1e-6)


@pytest.mark.parametrize("shape", [-0.5, -0.2, 0.0, 1e-12, 0.3, 0.5])
def test_the_tail_is_that_of_scipy_and_its_own_inverse(shape):
    tail = dataclasses.replace(
        fit_tail(np.sort(draw(100))), level=3.0, share=0.2, scale=0.7, shape=shape
    )
    for share in (0.19, 0.05, 1e-3, 1e-6):
        value = tail_quantile(tail, share)
        assert tail_share(tail, value) == pytest.approx(share, rel=1e-6)
        excess = stats.genpareto(shape, scale=0.7).isf(share / 0.2)
        assert value == pytest.approx(3.0 + excess)
    assert tail_share(tail, 1e300) > 0


@pytest.mark.parametrize("rate", [0.05, 0.005])
def test_a_load_at_the_fitted_rate_gives_the_fitted_thresholds(rate):
    calibration = make_calibration(draw(150), rate)
    again = with_thresholds(calibration, threshold=None, target_fpr=rate)
    assert again.image_threshold == pytest.approx(calibration.image_threshold)
    assert again.pixel_threshold == pytest.approx(calibration.pixel_threshold)
    assert with_thresholds(calibration, threshold=None, target_fpr=None) is calibration


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"threshold": 0.0}, r"threshold: expected a number above 0, got 0"),
        ({"threshold": math.nan}, r"threshold: expected a number above 0, got nan"),
        ({"threshold": math.inf}, r"threshold: expected a number above 0, got inf"),
        ({"target_fpr": 1.0}, r"expected 6\.6e-05 to below 1, got 1; .*on 150 images"),
        ({"target_fpr": 6e-5}, r"expected 6\.6e-05 to below 1, got 6e-05; "),
        ({"target_fpr": math.nan}, r"to below 1, got nan; "),
        ({"threshold": 1.0, "target_fpr": 0.1}, r"expected one of them, got both"),
    ],
)
def test_a_threshold_or_rate_out_of_range_is_refused(asked, message):
    calibration = make_calibration(draw(150))
    with pytest.raises(ThresholdError, match=message) as caught:
        with_thresholds(calibration, **{"threshold": None, "target_fpr": None, **asked})
    assert "\n" not in str(caught.value)


def test_the_power_law_of_the_number_of_images_is_found_and_half_of_it_corrected():
    scores = draw(200)
    lean = scores * (0.8 / 0.5) ** 0.2  # scores fall like n^-0.2
    assert estimate_bias(scores, lean, share=0.8, lean_share=0.5) == pytest.approx(0.8**0.1)
    assert estimate_bias(scores, scores * 0.9, share=0.8, lean_share=0.5) == 1
    assert estimate_bias(scores, scores * 50, share=0.8, lean_share=0.5) == 0.8


def test_few_images_cannot_estimate_the_power_law():
    assert estimate_bias(np.ones(19), np.full(19, 2.0), share=0.8, lean_share=0.5) == 1
    assert estimate_bias(np.zeros(50), np.ones(50), share=0.8, lean_share=0.5) == 1


@pytest.mark.parametrize("count", [2, 500, 501, 5000])
def test_all_scores_are_stored_or_four_hundred_and_the_hundred_largest(count):
    ranks = stored_ranks(count)
    assert len(ranks) == min(count, 500)
    assert list(ranks) == sorted(set(ranks))
    assert (ranks[0], ranks[-1]) == (1, count)
    assert set(range(max(1, count - 99), count + 1)) <= set(ranks)


def test_equal_scores_still_make_a_tail():
    for value in (0.0, 3.0):
        tail = fit_tail(np.full(30, value))
        assert tail.scale > 0
        assert tail_quantile(tail, 0.01) == pytest.approx(value, abs=1e-6)


def test_the_description_says_whether_the_scores_or_a_tail_gave_the_threshold():
    counted = describe_calibration(make_calibration(draw(150), 0.05))
    trusted = describe_calibration(make_calibration(draw(150), 0.01))
    assert counted["method"] == "within the scores: order statistic"
    assert trusted["method"].startswith("extrapolated beyond the scores: generalised Pareto tail")
    assert "299 or more images" in trusted["method"]
    assert "1 in 100" in trusted["false alarms"]


def test_few_images_are_said_with_the_rate_that_they_support():
    for count in (2, 10, 29):
        calibration = make_calibration(draw(count), 0.01)
        said = describe_calibration(calibration)["false alarms"]
        shown = supported_rate(count)
        assert shown == min(1, 3 / (count + 1))
        assert f"{count} images support {shown:.2g}" in said
        (warning,) = few_images(calibration)
        assert f"thresholds from {count} images, expected 30 or more" in warning
    assert few_images(make_calibration(draw(30), 0.01)) == ()
    assert "support" not in describe_calibration(make_calibration(draw(30), 0.1))["false alarms"]
    parts = dataclasses.replace(make_calibration(draw(60), 0.01), groups=29)
    assert "thresholds from 29 groups of images" in few_images(parts)[0]
