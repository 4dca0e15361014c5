"""The C++ runner cuts, searches and blends tiles as the Python runtime does."""

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiled_config
from cpp_binary import needs_binary
from cpp_runs import maps_of_cpp, rows_of, run
from masks import write_mask
from patchcore_runtime import Detector

pytestmark = needs_binary


@pytest.fixture(scope="module", params=["full-frame", "paper", "modelzoo", "region"])
def tiled_artifact(request, tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("tiled")
    roi = write_mask(folder / "mask.png") if request.param == "region" else None
    recipe = "paper" if roi else request.param
    return make_artifact(folder / request.param, photos, tiled_config(recipe), roi=roi)


@pytest.mark.parametrize("search", ["engine", "portable"])
def test_tiles_give_the_same_scores_peaks_and_maps_in_both(
    search, tiled_artifact, photos, tmp_path, capsys
):
    spoilt = striped_photo(70)
    spoilt[30:50, 50:60] = 255  # lies on a border of tiles
    Image.fromarray(spoilt).save(tmp_path / "spoilt.png")
    images = [*sorted(photos.iterdir()), tmp_path / "spoilt.png"]
    detector = Detector.load(tiled_artifact)
    folder = tmp_path / "maps"
    found = maps_of_cpp(tiled_artifact, images, folder, capsys, "--search", search)
    for image, stored, unit in found:
        expected = np.minimum(detector.predict(image).anomaly_map, 65535 * unit)
        assert np.abs(stored - expected).max() <= unit


def test_the_self_test_of_tiles_holds_in_cpp(tiled_artifact):
    code, stdout, stderr = run(tiled_artifact, "--selftest")
    assert code == 0, stdout + stderr


@pytest.mark.parametrize("batch", [2, 5, 100])
def test_tiles_of_several_images_in_a_batch_stay_with_their_images(batch, tiled_artifact, photos):
    one = rows_of(run(tiled_artifact, photos)[1])
    many = rows_of(run(tiled_artifact, photos, "--batch", batch, "--threads", 2)[1])
    for alone, together in zip(one, many, strict=True):
        assert together.pop("score") == pytest.approx(alone.pop("score"), rel=1e-5)
        assert together == alone
