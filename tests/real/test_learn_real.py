"""On real bottles: ten good images that were refused pass, and the others stay told apart."""

import numpy as np
import pytest
from PIL import Image

from patchcore_build.config import make_config
from patchcore_build.evaluation.metrics import auroc
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_runtime import Detector
from patchcore_runtime.cli.main import main
from patchcore_runtime.image.decode import read_image
from places import SHARED

WEIGHTS = SHARED / "weights" / "resnet18-layers123.pth"
BOTTLE = SHARED / "data" / "mvtec" / "bottle"
LAMP = 0.35  # of the brightness: good bottles are refused, defects stay visible
LEARNED, LARGEST_LOSS = 10, 0.005

pytestmark = pytest.mark.skipif(
    not (WEIGHTS.is_file() and BOTTLE.is_dir()),
    reason="../shared with real photographs and weights is absent",
)


@pytest.fixture(scope="module")
def bottle(tmp_path_factory):
    """An artifact of 40 bottles, and all test images under a weaker lamp: (path, is good)."""
    scratch = tmp_path_factory.mktemp("bottle")
    photos = scratch / "photos"
    photos.mkdir()
    for path in sorted((BOTTLE / "train" / "good").iterdir())[::5][:40]:
        (photos / path.name).symlink_to(path)
    job = FitJob(
        images=photos,
        category="bottle",
        output=scratch / "artifact",
        config=make_config("full-frame", backbone="resnet18", resize_px=224, target_fpr=0.05),
        weights=str(WEIGHTS),
        keep_thumbnails=True,
    )
    fit(job)
    tests = []
    for path in sorted((BOTTLE / "test").glob("*/*")):
        image = read_image(path)
        image.thumbnail((320, 320))
        dark = np.rint(np.asarray(image, np.float32) * LAMP).astype(np.uint8)
        target = scratch / f"{path.parent.name}_{path.stem}.png"
        Image.fromarray(dark).save(target)
        tests.append((target, path.parent.name == "good"))
    return job.output, tests


def scores(folder, images):
    detector = Detector.load(folder)
    return np.array([detector.predict(path).score for path in images])


def test_ten_refused_bottles_pass_and_the_rest_stays_told_apart(bottle, tmp_path):
    artifact, tests = bottle
    threshold = Detector.load(artifact).manifest.calibration.image_threshold
    good = [path for path, is_good in tests if is_good]
    bad = [path for path, is_good in tests if not is_good]
    refused = [
        path for path, score in zip(good, scores(artifact, good), strict=True) if score > threshold
    ]
    assert len(refused) >= LEARNED
    learned, rest = refused[:LEARNED], [path for path in good if path not in refused[:LEARNED]]
    new = tmp_path / "new"
    assert main(["learn", str(artifact), *map(str, learned), "--output", str(new)]) == 0
    assert main(["check", str(new)]) == 0
    assert scores(new, learned).max() <= threshold
    before = auroc(scores(artifact, rest), scores(artifact, bad))
    after = auroc(scores(new, rest), scores(new, bad))
    assert after >= before - LARGEST_LOSS
    assert (scores(new, bad) > threshold).mean() > 0.9  # the defects are not learned away
    evidence = Detector.load(new).explain(Detector.load(new).predict(learned[0]), top=3)
    assert any(one.normal_image.startswith("learned/") for one in evidence)
