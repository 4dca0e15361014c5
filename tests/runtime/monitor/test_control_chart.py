"""Laws of control charts: they keep the given false-alarm rate and detect changes."""

import numpy as np
import pytest
from scipy import stats

from patchcore_runtime.monitor.control_chart import STEP, WEIGHT, WINDOW, Chart, Normal, limits_for

STATISTICS = 10  # as a monitor has


def chart(rng, *, count=200, rate=0.001, draw=None):
    """Make a chart with a new sample of standard normal numbers as its normal values."""
    values = np.sort((draw or rng.standard_normal)(count))
    normal = Normal(values.tolist(), np.arange(float(count)).tolist(), count)
    return Chart(normal=normal, limits=limits_for(rate, count), window=[])


def alarms(charts, streams):
    """Count the alarms that begin in any of the charts; streams (charts, n)."""
    began, raised = 0, False
    for number, values in enumerate(streams.T, start=1):
        for one, value in zip(charts, values, strict=True):
            one.add(float(value), number=number)
        before, raised = raised, any(one.far or one.unlike for one in charts)
        began += raised and not before
    return began


@pytest.mark.parametrize("count", [60, 500])
def test_all_charts_together_raise_no_more_false_alarms_than_promised(count):
    rng = np.random.default_rng(0)
    rate, length, lines = 0.004, 1000, 20
    found = 0
    for _ in range(lines):
        charts = [chart(rng, count=count, rate=rate / STATISTICS) for _ in range(STATISTICS)]
        found += alarms(charts, rng.standard_normal((STATISTICS, length)))
    promised = rate * length * lines  # 80
    assert found <= promised
    assert found >= 0.1 * promised  # otherwise a chart that never raises an alarm would pass


def test_the_average_alone_keeps_its_share_where_the_normal_values_are_many():
    rng = np.random.default_rng(1)
    rate, length = 0.01, 40_000
    one = chart(rng, count=20_000, rate=rate)
    found = alarms([one], rng.standard_normal((1, length)))
    assert 0.25 * rate * length <= found <= rate * length


def test_no_distribution_is_assumed():
    rng = np.random.default_rng(2)
    streams = rng.standard_normal((1, 400))
    skewed = chart(np.random.default_rng(3), rate=0.05)
    plain = chart(np.random.default_rng(3), rate=0.05)
    values = np.exp(np.array(skewed.normal.values)).tolist()
    skewed.normal = Normal(values, skewed.normal.ranks, skewed.normal.count)
    streams[0] = np.round(streams[0], 1)
    assert alarms([plain], streams) == alarms([skewed], np.exp(streams))


def test_the_limit_is_that_of_the_literature():
    # Lucas & Saccucci 1990, table 3: weight 0.1, limit 2.814, in-control run length 500.
    limit = limits_for(2 / 500, 10**9).average / np.sqrt(WEIGHT / (2 - WEIGHT))
    assert limit == pytest.approx(2.814, abs=0.02)


def test_rarer_alarms_and_fewer_normal_values_widen_both_limits():
    near, rare, few = limits_for(1e-3, 200), limits_for(1e-5, 200), limits_for(1e-3, 40)
    assert near.average < min(rare.average, few.average)
    assert near.distance < min(rare.distance, few.distance)


def test_the_distance_is_kolmogorovs():
    rng = np.random.default_rng(4)
    one = chart(rng)
    for number in range(1, 80):
        one.add(rng.normal(0.3, 2), number=number)
    assert len(one.window) == WINDOW
    places = [one.normal.share_below(value) for value in one.window]
    assert one.distance() == pytest.approx(stats.kstest(places, "uniform").statistic)


@pytest.mark.parametrize(("change", "within"), [(5.0, 8), (1.5, 30), (-1.5, 30)])
def test_a_lasting_change_is_found_and_its_end_is_too(change, within):
    rng = np.random.default_rng(5)
    one = chart(rng, rate=1e-4)
    assert alarms([one], rng.standard_normal((1, 100))) == 0
    for number in range(101, 101 + within):
        one.add(rng.normal(change), number=number)
    assert one.far
    for number in range(200, 300):
        one.add(rng.normal(), number=number)
    assert not one.far
    assert not one.unlike


def test_a_change_of_spread_alone_is_found_by_the_distance():
    rng = np.random.default_rng(6)
    one = chart(rng, rate=1e-3)
    for number in range(1, 10 * STEP * 2 + 1):
        one.add(rng.choice([-2.2, 2.2]) + 0.1 * rng.standard_normal(), number=number)
        if one.unlike:
            break
    assert one.unlike


def test_a_chart_for_rises_only_ignores_a_fall():
    rng = np.random.default_rng(8)
    falling, rising = chart(rng, rate=1e-2), chart(rng, rate=1e-2)
    falling.upward = rising.upward = True
    assert alarms([falling], rng.normal(-2, 1, (1, 120))) == 0
    assert alarms([rising], rng.normal(2, 1, (1, 120))) == 1
    assert rising.unlike


def test_one_outlier_raises_no_alarm():
    rng = np.random.default_rng(7)
    one = chart(rng, rate=1e-4)
    values = rng.standard_normal((1, 60))
    values[0, 30] = 1e9
    assert alarms([one], values) == 0


def test_equal_values_are_in_the_middle_and_shares_rise():
    normal = Normal([0.0, 1.0, 1.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0, 4.0], 5)
    assert normal.share_below(1.0) == pytest.approx(0.5)
    shares = [normal.share_below(value) for value in (-9, 0, 0.5, 1, 1.5, 2, 9)]
    assert shares == sorted(shares)
    assert len(set(shares)) == len(shares)
    assert shares[0] > 0
    assert shares[-1] < 1
