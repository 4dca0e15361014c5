"""Laws of a fit with a transformer: random DINOv2 weights, six small images, two blocks."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from patchcore_build import FitJob, fit, make_config
from patchcore_build.errors import WeightsError
from patchcore_build.vision_transformers import VITS, official_shapes
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.selftest import run_selftest

SETTINGS = {"resize_px": 70, "coreset_ratio": 0.2, "folds": 2}


def job(photos, output, weights, **settings):
    config = make_config("dino", **{**SETTINGS, **settings})
    return FitJob(
        images=photos, category="stripes", weights=str(weights), output=output, config=config
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """ViT-S/14 with random numbers and a small grid of positions, under the official names."""
    shape, rng = VITS["dinov2_vits14"], np.random.default_rng(0)
    sides = {**official_shapes(shape), "pos_embed": (1, 17, shape.width)}
    drawn = {n: rng.standard_normal(s).astype(np.float32) * 0.1 for n, s in sides.items()}
    path = tmp_path_factory.mktemp("weights") / "dinov2_vits14.safetensors"
    save_file(drawn, path)
    return path


@pytest.mark.parametrize("mean", [False, True], ids=["blocks", "mean"])
def test_the_artifact_checks_itself_and_scores(photos, tmp_path, weights, mean):
    blocks = ("block1", "block2")
    request = job(photos, tmp_path / "a", weights, layers=blocks, mean_blocks=mean or None)
    artifact = Artifact.open(fit(request).artifact)
    features = artifact.manifest.features
    assert [layer.name for layer in features.layers] == (["output0"] if mean else list(blocks))
    assert {(layer.channels, layer.stride) for layer in features.layers} == {(384, 1)}
    assert (features.patch_px, features.backbone) == (14, "dinov2_vits14")
    assert all(step.passed for step in run_selftest(artifact))
    good = Detector.load(tmp_path / "a").predict(min(photos.iterdir()))
    assert np.isfinite(good.score)
    assert np.isfinite(good.anomaly_map).all()


def test_weights_of_another_model_are_refused(photos, tmp_path, weights):
    request = job(photos, tmp_path / "a", weights, backbone="dinov2_vits14_reg")
    with pytest.raises(WeightsError, match=r"1 missing: register_tokens.*looks like dinov2_vits14"):
        fit(request)
    assert not request.output.exists()


def test_there_is_nothing_to_download(photos, tmp_path):
    with pytest.raises(WeightsError, match=r"expected --weights FILE .*, got auto"):
        fit(job(photos, tmp_path / "a", "auto"))
