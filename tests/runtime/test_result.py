"""Laws of a result: what it shows, saves and says is what the command writes."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from patchcore_runtime import Detector, ImageError
from patchcore_runtime.engine.providers import SHORT_NAMES, full_names
from patchcore_runtime.explain.heatmap import colorize, overlay


@pytest.fixture(scope="module")
def detector(tiny_artifact):
    return Detector.load(tiny_artifact, threads=1)


@pytest.fixture(scope="module")
def photo():
    defect = striped_photo(31)
    defect[30:40, 50:80], defect[40:50, 50:80] = 0, 255
    return defect


@pytest.fixture(scope="module")
def result(detector, photo):
    return detector.predict(photo)


def test_a_dictionary_is_valid_json_of_plain_numbers(result):
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
    assert result.to_dict()["is_anomalous"] is True


def test_its_text_is_one_short_line(result):
    assert len(repr(result)) < 120
    assert repr(result).startswith("Result(anomalous, score=")


def test_heat_maps_are_drawn_on_the_artifacts_scale(detector, result, photo, tmp_path):
    alone = np.asarray(result.heatmap())
    assert np.array_equal(alone, colorize(result.anomaly_map, detector.heatmap_scale))
    over = overlay(photo, result.map_on(photo), detector.heatmap_scale)
    assert np.array_equal(np.asarray(result.heatmap(photo)), over)
    result.save(tmp_path / "heat.png", Image.fromarray(photo))
    with Image.open(tmp_path / "heat.png") as saved:
        assert np.array_equal(np.asarray(saved), over)
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), alone)


def test_the_mask_is_what_the_regions_cover(result, photo):
    assert result.mask.shape == photo.shape[:2]
    assert result.mask.sum() == sum(region.area for region in result.regions())


def test_a_detector_travels_by_its_folder_and_options(tiny_artifact, photo):
    detector = Detector.load(tiny_artifact, threads=1, search="pca", threshold=0.5)
    again = pickle.loads(pickle.dumps(detector))
    assert again.manifest == detector.manifest
    assert again.predict(photo).to_dict() == detector.predict(photo).to_dict()
    with pytest.raises(TypeError, match=r"expected one made by Detector\.load"):
        pickle.dumps(Detector(detector.artifact))


def test_one_image_is_not_several(detector, photo):
    for images in ("a.png", b"bytes", Image.fromarray(photo), photo):
        with pytest.raises(ImageError, match="expected several images, got one"):
            detector.predict_batch(images)
    both = detector.predict_batch(np.stack([photo, photo]))
    assert [one.score for one in both] == [detector.predict(photo).score] * 2


def test_an_array_of_opencv_gets_the_same_score(detector, photo):
    turned = detector.predict(photo[..., ::-1], channel_order="bgr")
    assert turned.score == detector.predict(photo).score
    assert detector.predict(photo[..., ::-1]).score != turned.score


def test_providers_have_short_names(tiny_artifact):
    assert full_names(["cuda", "CPU", "cpu", "Other"]) == (
        "CUDAExecutionProvider", "CPUExecutionProvider", "Other",
    )  # fmt: skip
    assert set(SHORT_NAMES) == {"cpu", "cuda", "tensorrt", "openvino", "coreml"}
    assert Detector.load(tiny_artifact, providers=["cpu"]).predict(striped_photo(30)).score > 0
