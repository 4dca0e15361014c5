"""Laws of pixel metrics: AUPRO equals a slow definition written here, whatever the maps are."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from patchcore_build.evaluation.aupro import LIMITS, PROTOCOLS, PixelScores

ALL, BESIDE = PROTOCOLS
EVERY = [(protocol, limit) for protocol in PROTOCOLS for limit in LIMITS]


def draw(seed, *, images=5, good=2, size=(13, 17), levels=None):
    """Maps and masks, (images, *size); masks are blotches, maps know a little of them."""
    rng = np.random.default_rng(seed)
    masks = rng.uniform(size=(images, *size)) > 0.75
    masks[:, 0, 0], masks[:, -1, -1] = True, False
    masks[:good] = False
    maps = (rng.normal(0, 1, masks.shape) + 0.8 * masks).astype(np.float32)
    return (maps if levels is None else np.round(maps * levels)).astype(np.float32), masks


def measure(maps, masks, threshold=0.5):
    scores = PixelScores(sum(mask.size for mask in masks))
    for values, mask in zip(maps, masks, strict=True):
        scores.add(values, mask)
    return scores.measure(threshold)


def flood(mask):
    """Regions of one mask, each a list of (row, column); corners touch."""
    left, regions = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        region, edge = [], [left.pop()]
        while edge:
            y, x = edge.pop()
            region.append((y, x))
            around = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            edge += around
        regions.append(region)
    return regions


def slow_aupro(maps, masks, protocol, limit):
    """The definition, one threshold after another, its area by small steps of straight lines."""
    regions = [
        np.array([values[place] for place in region])
        for values, mask in zip(maps, masks, strict=True)
        for region in flood(mask)
    ]
    counted = [protocol == ALL or mask.any() for mask in masks]
    normal = np.concatenate([v[~m] for v, m, c in zip(maps, masks, counted, strict=True) if c])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([normal, *regions]))[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((np.mean(normal >= threshold), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < limit and x1 > x0:
            stop = min(x1, limit)
            cut = y0 + (y1 - y0) * (stop - x0) / (x1 - x0)
            area += (stop - x0) * (y0 + cut) / 2
    return area / limit


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("seed", range(5))
def test_aupro_equals_the_slow_definition_in_both_protocols_with_and_without_ties(seed, levels):
    maps, masks = draw(seed, levels=levels)
    found = measure(maps, masks)
    assert list(found.aupro) == EVERY
    for (protocol, limit), value in found.aupro.items():
        assert value == pytest.approx(slow_aupro(maps, masks, protocol, limit), abs=1e-9)
    assert found.aupro[ALL, 0.3] != pytest.approx(found.aupro[BESIDE, 0.3], abs=1e-9)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(4))
def test_the_other_pixel_figures_equal_scikit_learn(seed, levels):
    maps, masks = draw(seed, levels=levels)
    found = measure(maps, masks, threshold=1.0)  # a value on it, as levels make them, passes
    labels, values = masks.ravel(), maps.ravel()
    assert found.auroc == pytest.approx(roc_auc_score(labels, values), abs=1e-9)
    assert found.average_precision == pytest.approx(average_precision_score(labels, values))
    assert found.rates.f1 == pytest.approx(f1_score(labels, values > 1))
    assert found.rates.true_positive_rate == pytest.approx((values > 1)[labels].mean())
    assert found.rates.false_positive_rate == pytest.approx((values > 1)[~labels].mean())
    flagged = values >= np.float32(found.best_f1.threshold)
    assert found.best_f1.f1 == pytest.approx(f1_score(labels, flagged))
    tried = [f1_score(labels, values >= threshold) for threshold in np.unique(values)[::7]]
    assert found.best_f1.f1 >= max(tried) - 1e-12
    assert found.regions == sum(len(flood(mask)) for mask in masks)


def test_a_perfect_map_has_aupro_one_and_an_opposite_one_zero():
    _, masks = draw(0)
    noise = np.random.default_rng(0).uniform(0, 0.5, masks.shape)
    assert set(measure((masks + noise).astype(np.float32), masks).aupro.values()) == {1.0}
    assert set(measure((noise - masks).astype(np.float32), masks).aupro.values()) == {0.0}


def test_a_random_map_has_half_the_limit_and_so_has_a_constant_one():
    _, masks = draw(1, images=40, good=10, size=(40, 40))
    random = np.random.default_rng(99).uniform(size=masks.shape).astype(np.float32)
    for values, spread in ((random, 0.01), (np.full_like(random, 3), 1e-9)):
        for (_, limit), value in measure(values, masks).aupro.items():
            assert value == pytest.approx(limit / 2, abs=spread)


@pytest.mark.parametrize("rising", [lambda x: 4 * x + 1, lambda x: x * np.abs(x), np.exp2])
def test_every_figure_but_those_at_thresholds_only_knows_the_order_of_values(rising):
    maps, masks = draw(2, levels=8)  # few levels, so that rounding makes no new ties
    before, after = measure(maps, masks), measure(rising(maps / 8).astype(np.float32), masks)
    assert after.aupro == before.aupro
    assert after.auroc == before.auroc
    assert after.average_precision == before.average_precision
    assert after.best_f1.f1 == before.best_f1.f1
    assert after.pro_curves == before.pro_curves


def test_a_region_counts_alike_whatever_its_size():
    mask = np.zeros((1, 20, 20), np.bool_)
    mask[0, 2:12, 2:12] = True
    mask[0, 18, 18] = True
    normal = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape)
    only_large = np.where(mask, np.float32(2), normal)
    only_large[0, 18, 18] = -1
    only_small = np.where(mask, np.float32(-1), normal)
    only_small[0, 18, 18] = 2
    for values in (only_large, only_small):
        assert list(measure(values, mask).aupro.values()) == pytest.approx([0.5] * 4)


def test_pixels_that_touch_at_a_corner_are_one_region_and_images_never_share_one():
    mask = np.zeros((2, 6, 6), np.bool_)
    mask[:, [1, 2, 3], [1, 2, 3]] = True
    mask[0, 0, 5] = True
    assert measure(np.zeros(mask.shape, np.float32), mask).regions == 3


def test_images_may_differ_in_size_and_order_does_not_matter():
    parts = [draw(seed, images=3, good=1, size=size) for seed, size in enumerate([(9, 5), (4, 30)])]
    maps = [values for part, _ in parts for values in part]
    masks = [mask for _, part in parts for mask in part]
    found = measure(maps, masks)
    for protocol, limit in EVERY:
        assert found.aupro[protocol, limit] == pytest.approx(
            slow_aupro(maps, masks, protocol, limit), abs=1e-9
        )
    assert measure(maps[::-1], masks[::-1]).aupro == pytest.approx(found.aupro)


def test_good_images_only_matter_to_the_protocol_of_all_images():
    maps, masks = draw(3)
    spoiled = maps.copy()
    spoiled[:2] += 100  # the two good ones
    before, after = measure(maps, masks).aupro, measure(spoiled, masks).aupro
    assert after[BESIDE, 0.3] == before[BESIDE, 0.3]
    assert after[ALL, 0.3] < before[ALL, 0.3]


def test_curves_name_their_protocol_and_stop_after_the_limit():
    maps, masks = draw(4, images=8, size=(40, 40))
    found = measure(maps, masks)
    assert tuple(curve.protocol for curve in found.pro_curves) == PROTOCOLS
    for curve in found.pro_curves:
        x, y = np.array(curve.false_positive_rates), np.array(curve.rates)
        assert (x[0], y[0]) == (0, 0)
        assert x[-2] <= max(LIMITS) <= x[-1]
        assert len(x) <= 200
        grid = np.linspace(0, max(LIMITS), 10_001)
        area = np.interp(grid, x, y).mean()
        assert area == pytest.approx(found.aupro[curve.protocol, max(LIMITS)], abs=5e-3)


def test_figures_that_do_not_exist_are_none_and_never_zero_or_nan():
    maps, masks = draw(5)
    no_defects = measure(maps[:2], masks[:2])
    assert (no_defects.auroc, no_defects.average_precision, no_defects.best_f1) == (None,) * 3
    assert (no_defects.aupro, no_defects.pro_curves, no_defects.regions) == ({}, (), 0)
    assert no_defects.rates.true_positive_rate is None
    assert no_defects.rates.f1 is None
    assert no_defects.rates.false_positive_rate == (maps[:2] > 0.5).mean()
    nothing = PixelScores(0).measure(0.5)
    assert nothing.rates.false_positive_rate is None
    assert nothing.auroc is None


def test_masks_that_cover_everything_leave_the_protocol_of_all_images():
    maps, masks = draw(6, images=3, good=2)
    masks[2] = True
    found = measure(maps, masks)
    assert [protocol for protocol, _ in found.aupro] == [ALL, ALL]
    assert found.auroc is not None
    assert len(found.pro_curves) == 1
