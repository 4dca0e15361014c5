"""Laws of what int8 costs: errors of layers, losses of AUROC, and when they are refused."""

import numpy as np
import pytest

from patchcore_build.errors import AccuracyError
from patchcore_build.fitting.float32_twin import (
    Auroc,
    compare_auroc,
    layer_errors,
    require_small_loss,
    unseen_images,
)

NAMES = ("layer2", "layer3")


def test_layer_errors_are_zero_of_itself_and_relative_to_float32():
    def network(factor):
        def run(images):
            means = images.astype(np.float32).mean(axis=(1, 2, 3))[:, None, None, None]
            return means * factor, 2 * means

        return run

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (11, 64, 64, 3), np.uint8)  # more than one batch
    assert layer_errors(network(1), network(1), images, NAMES) == {"layer2": 0, "layer3": 0}
    errors = layer_errors(network(1), network(0.9), images, NAMES)
    assert errors["layer2"] == pytest.approx(0.1, rel=1e-5)
    assert errors["layer3"] == 0


def test_errors_are_measured_on_images_that_gave_no_ranges_where_there_are_some():
    seen = list(range(0, 100, 2))
    chosen = unseen_images(100, seen)
    assert len(chosen) == 16
    assert not set(chosen.tolist()) & set(seen)
    assert unseen_images(3, [0, 1, 2]).tolist() == [0, 1, 2]
    assert unseen_images(3, [0, 2]).tolist() == [1]


def test_a_loss_is_refused_above_its_bound_and_a_gain_never():
    float32 = Auroc(image=0.95, pixel=0.9)
    require_small_loss(float32, Auroc(image=0.9451, pixel=0.8951), where="tiles")
    require_small_loss(float32, Auroc(image=1.0, pixel=1.0), where="tiles")
    require_small_loss(float32, Auroc(image=None, pixel=None), where="tiles")
    with pytest.raises(AccuracyError) as caught:
        require_small_loss(float32, Auroc(image=0.96, pixel=0.8949), where="tiles")
    assert str(caught.value) == (
        "tiles: --quantize int8: expected pixel AUROC at most 0.005 below float32's 0.9000, "
        "got 0.8949; leave --quantize out, or take it with --force"
    )
    with pytest.raises(AccuracyError, match=r"expected image AUROC .* 0\.9500, got 0\.9000"):
        require_small_loss(float32, Auroc(image=0.9, pixel=0.9), where="tiles")


def test_the_difference_is_int8_minus_float32():
    found = compare_auroc(Auroc(image=0.9, pixel=None), Auroc(image=0.8, pixel=None))
    assert found["difference"] == {"image": pytest.approx(-0.1)}
    assert found["float32"] == {"image": 0.9, "pixel": None}
