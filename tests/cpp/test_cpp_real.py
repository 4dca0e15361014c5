"""Both programs give the same scores on artifacts fitted to real images, batch by batch."""

import json
import subprocess

import numpy as np
import pytest

from cpp_binary import BINARY, needs_binary
from cpp_dump import dump, needs_dump
from patchcore_build.config import make_config
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_runtime import Detector
from patchcore_runtime.image.preprocess import preprocess
from places import SHARED

WEIGHTS = SHARED / "weights" / "resnet18-layers123.pth"
LARGEST_SCORE_DIFFERENCE = 1e-4  # relative
# Category folder, recipe, training images, test images (all, or that many spread evenly).
CASES = {
    "bottle": ("mvtec/bottle", "paper", 40, None),
    "magnetic_tile": ("mtd/magnetic_tile", "full-frame", 20, 60),
}

pytestmark = [
    needs_binary,
    pytest.mark.skipif(
        not WEIGHTS.is_file(), reason="../shared with real photographs and weights is absent"
    ),
]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(artifact, test images, results of Python by image)."""
    folder, recipe, train, test = CASES[request.param]
    source = SHARED / "data" / folder
    if not source.is_dir():
        pytest.skip(f"../shared/data/{folder} is absent")
    scratch = tmp_path_factory.mktemp("real")
    photos = scratch / "photos"
    photos.mkdir()
    for path in _spread(sorted((source / "train" / "good").iterdir()), train):
        (photos / path.name).symlink_to(path)
    artifact = scratch / "artifact"
    job = FitJob(
        images=photos,
        category=request.param,
        output=artifact,
        config=make_config(recipe, backbone="resnet18"),
        weights=str(WEIGHTS),
    )
    fit(job)
    images = _spread(sorted((source / "test").rglob("*.*g")), test)
    detector = Detector.load(artifact)
    return artifact, images, [detector.predict(path) for path in images]


def _spread(paths, count):
    places = np.linspace(0, len(paths) - 1, count or len(paths)).round().astype(int)
    return [paths[place] for place in places]


@pytest.mark.parametrize("search", ["engine", "portable"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_real_image_gets_the_score_and_verdict_of_python(case, batch, search):
    artifact, images, results = case
    options = ("--batch", str(batch), "--search", search)
    command = [str(BINARY), str(artifact), *map(str, images), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["image"] for row in rows] == [str(path) for path in images]
    assert len(rows) >= 60
    for row, result in zip(rows, results, strict=True):
        assert abs(row["score"] - result.score) <= LARGEST_SCORE_DIFFERENCE * result.score, row
        assert row["is_anomalous"] == result.is_anomalous, row
        assert row["peak"] == list(result.peak), row
    assert len({row["is_anomalous"] for row in rows}) == 2


@needs_dump
def test_every_real_image_becomes_the_same_input(case):
    artifact, images, _ = case
    settings = Detector.load(artifact).manifest.preprocess
    sizes = set()
    for path, ours in zip(images, dump([(path, settings) for path in images]), strict=True):
        pixels, place = preprocess(path, settings)
        assert np.array_equal(ours[0], pixels), path
        assert ours[1] == list(vars(place).values()), path
        sizes.add((place.photo_height, place.photo_width))
    assert len(sizes) > (20 if "tile" in str(images[0]) else 0)
