"""The monitor on real images: good ones raise no alarm, and three changes are told apart."""

import numpy as np
import pytest
from PIL import Image

from patchcore_build.config import make_config
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_runtime import Detector, Monitor
from patchcore_runtime.image.decode import read_image
from places import SHARED

BOTTLE = SHARED / "data" / "mvtec" / "bottle"
OTHER = SHARED / "data" / "mtd" / "magnetic_tile" / "test" / "good"
WEIGHTS = SHARED / "weights" / "resnet18-layers123.pth"
LEARNED = 100

pytestmark = pytest.mark.skipif(
    not (BOTTLE.is_dir() and OTHER.is_dir() and WEIGHTS.is_file()),
    reason="needs bottle and magnetic_tile in ../shared/data, and ../shared/weights",
)


def brighter(image):
    return np.clip(np.rint(np.asarray(image) * 1.15), 0, 255).astype(np.uint8)


def moved(image):
    """Eight pixels to the right; what comes into view repeats the edge."""
    padded = np.pad(np.asarray(image), ((0, 0), (8, 0), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded[:, :-8])


@pytest.fixture(scope="module")
def train():
    """Good images in a seeded order: the first are learned, the rest are watched."""
    paths = sorted((BOTTLE / "train" / "good").iterdir())
    return [paths[place] for place in np.random.default_rng(0).permutation(len(paths))]


@pytest.fixture(scope="module")
def detector(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitor")
    (folder / "photos").mkdir()
    for path in train[:LEARNED]:
        (folder / "photos" / path.name).symlink_to(path.resolve())
    job = FitJob(
        images=folder / "photos",
        category="bottle",
        output=folder / "artifact",
        config=make_config("full-frame", backbone="resnet18", resize_px=224, folds=2),
        weights=str(WEIGHTS),
    )
    return Detector.load(fit(job).artifact)


@pytest.fixture(scope="module")
def watched(detector, train):
    """A monitor's images: some of those that were not learned, and the good test images."""
    unseen = [*train[LEARNED : LEARNED + 20], *sorted((BOTTLE / "test" / "good").iterdir())]
    return [(path, detector.predict(path, measure=True)) for path in unseen]


def test_good_images_raise_no_alarm(detector, watched):
    watch = Monitor(detector.manifest)
    verdicts = [watch.update(result) for _, result in watched]
    assert len(verdicts) == 40
    assert not any(verdict.alarm for verdict in verdicts)


@pytest.mark.parametrize(
    ("change", "cause", "within"),
    [
        (brighter, "light changed", 8),
        (moved, "camera moved", 15),
        (None, "batch changed", 8),
    ],
)
def test_a_change_is_found_and_told_apart(detector, watched, change, cause, within):
    watch = Monitor(detector.manifest)
    for _, result in watched[:20]:
        watch.update(result)
    if change is None:
        shots = [Image.open(path).convert("RGB") for path in sorted(OTHER.iterdir())[:within]]
    else:
        shots = [change(read_image(path)) for path, _ in watched[20 : 20 + within]]
    verdicts = [watch.update(detector.predict(shot, measure=True)) for shot in shots]
    assert sum(verdict.began for verdict in verdicts) == 1
    assert verdicts[-1].candidates[0].cause == cause
