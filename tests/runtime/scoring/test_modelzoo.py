"""The recipe `modelzoo` equals a direct transcription of the MindSpore Models evaluation.

Source of the formulas: official/cv/PatchCore/eval.py and src/operator.py of mindspore-ai/models:
layer3 copied to layer2's grid, 9 nearest rows by squared distance, softmax weight of the patch's
own 9, map of squared distances resized bilinearly to 224 and blurred with sigma 4.
"""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from patchcore_build.config import make_config, plan_layout, plan_preprocessing, scoring_rule
from patchcore_build.features.store import FeatureStore, make_bank
from patchcore_runtime.scoring.patch_scorer import PatchScorer
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank

CHANNELS = (24, 40)


def _store(seed, images, scale):
    rng = np.random.default_rng(seed)
    shapes = ((images, 28, 28, CHANNELS[0]), (images, 14, 14, CHANNELS[1]))
    layers = [scale * rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return FeatureStore(layers=(layers[0], layers[1]), upsampling="nearest")


def _published(patches, rows):
    """Compute (score, map) as the original code does, in float64."""
    squares = np.sort(cdist(patches, rows, "sqeuclidean"), axis=1)[:, :9]
    nearest = squares[:, 0]
    around = squares[np.argmax(nearest)]
    weight = 1 - np.max(np.exp(around)) / np.sum(np.exp(around))
    fine = ndimage.zoom(nearest.reshape(28, 28), 8, order=1, mode="nearest", grid_mode=True)
    return weight * nearest.max(), ndimage.gaussian_filter(fine, sigma=4)


@pytest.mark.parametrize("seed", range(5))
def test_score_and_map_equal_the_original(tmp_path, seed):
    config = make_config("modelzoo", backbone="resnet18")
    size = plan_preprocessing(config, [(900, 900)])
    assert (size.height, size.width, size.filter) == (224, 224, "lanczos")
    bank_rows = np.arange(0, 3 * 784, 7)
    bank = make_bank(_store(seed, 3, 0.3), bank_rows, config.neighbours)
    layout = plan_layout(config, size, CHANNELS)
    index = ExactIndex(write_bank(tmp_path, bank, layout), bank, layout)
    scorer = PatchScorer(bank, index, layout, scoring_rule(config, size))
    query = _store(100 + seed, 1, 0.35)
    result = scorer.score(query.as_network_output(0))

    copied = query.layers[1][0].repeat(2, axis=0).repeat(2, axis=1)
    patches = np.concatenate([query.layers[0][0], copied], axis=-1).reshape(784, -1).astype(float)
    rows = np.concatenate([bank.layers[0], bank.layers[1]], axis=1).astype(float)
    score, anomaly_map = _published(patches, rows)
    assert result.score == pytest.approx(score, rel=1e-4)
    np.testing.assert_allclose(result.anomaly_map, anomaly_map, rtol=1e-4)


def test_the_score_is_finite_where_the_original_overflows(tmp_path):
    config = make_config("modelzoo", backbone="resnet18")
    size = plan_preprocessing(config, [(900, 900)])
    bank = make_bank(_store(0, 3, 30), np.arange(0, 3 * 784, 7), config.neighbours)
    layout = plan_layout(config, size, CHANNELS)
    index = ExactIndex(write_bank(tmp_path, bank, layout), bank, layout)
    scorer = PatchScorer(bank, index, layout, scoring_rule(config, size))
    result = scorer.score(_store(9, 1, 60).as_network_output(0))
    assert result.distances.max() ** 2 > 709  # beyond it exp() is infinite, even in float64
    assert np.isfinite(result.score)
    assert 0 <= result.score <= result.distances.max() ** 2 * (1 + 1e-6)
