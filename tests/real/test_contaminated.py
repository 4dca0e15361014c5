"""Laws of a training set with defects among its real images: they are found and dropped."""

import numpy as np
import pytest

from patchcore_build.config import make_config
from patchcore_build.evaluation.metrics import auroc
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_runtime import Detector
from places import SHARED

BOTTLE = SHARED / "data" / "mvtec" / "bottle"
WEIGHTS = SHARED / "weights" / "resnet18-layers123.pth"
DEFECTS = ("broken_large", "broken_small", "contamination")
NORMALS, INSIDE = 76, 4  # 5 % of the training images are defects
CONFIG = make_config("paper", backbone="resnet18", resize_px=182, crop_px=160)

pytestmark = pytest.mark.skipif(
    not (BOTTLE.is_dir() and WEIGHTS.is_file()),
    reason="needs ../shared/data/mvtec/bottle and ../shared/weights/resnet18-layers123.pth",
)


def spread(folder, count):
    paths = sorted(folder.iterdir())
    return [paths[place] for place in np.linspace(0, len(paths) - 1, count).round().astype(int)]


@pytest.fixture(scope="module")
def defects():
    """Seven images of each kind of defect; the first of each kind, and one more, are learned."""
    return [path for kind in DEFECTS for path in spread(BOTTLE / "test" / kind, 7)]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory, defects):
    """A training folder; the defects in it are called `defect...`."""
    folder = tmp_path_factory.mktemp("spoilt") / "photos"
    folder.mkdir()
    for path in spread(BOTTLE / "train" / "good", NORMALS):
        (folder / f"good_{path.name}").symlink_to(path.resolve())
    for number, path in enumerate(learned(defects)):
        (folder / f"defect{number}{path.suffix}").symlink_to(path.resolve())
    return folder


def learned(defects):
    return [*defects[::7], defects[1]][:INSIDE]


@pytest.fixture(scope="module")
def reports(tmp_path_factory, spoilt):
    """What `fit` makes of the spoilt folder, and of it with `--drop-suspects auto`."""
    target = tmp_path_factory.mktemp("fits")

    def make(name, drop):
        job = FitJob(
            images=spoilt,
            category="bottle",
            output=target / name,
            config=CONFIG,
            weights=str(WEIGHTS),
            drop_suspects=drop,
        )
        return fit(job)

    return {"spoilt": make("spoilt", 0), "mended": make("mended", "auto")}


@pytest.fixture(scope="module")
def verdicts(reports, defects):
    """Name -> AUROC and the share of defects found, over good test images and all defects."""
    good = sorted((BOTTLE / "test" / "good").iterdir())
    found = {}
    for name, report in reports.items():
        detector = Detector.load(report.artifact)
        results = [detector.predict(path) for path in (*good, *defects)]
        scores = np.array([result.score for result in results])
        hits = [result.is_anomalous for result in results[len(good) :]]
        found[name] = auroc(scores[: len(good)], scores[len(good) :]), float(np.mean(hits))
    return found


def test_most_defects_are_among_the_suspects_and_few_good_images(reports):
    dropped = [reason.partition(":")[0] for reason in reports["mended"].dropped]
    assert sum(name.startswith("defect") for name in dropped) > INSIDE / 2
    assert sum(name.startswith("good") for name in dropped) <= 0.05 * NORMALS
    assert reports["spoilt"].dropped == ()
    assert reports["mended"].images == NORMALS + INSIDE - len(dropped)


def test_most_of_the_lost_auroc_comes_back_without_the_suspects(verdicts):
    spoilt, mended = verdicts["spoilt"][0], verdicts["mended"][0]
    assert spoilt < 0.95  # what was learned as normal looks normal
    assert 1 - mended < 0.5 * (1 - spoilt)
    assert mended > 0.97  # one of the four defects is not found, and judged, too


def test_the_threshold_finds_again_what_a_spoilt_one_lets_pass(verdicts):
    spoilt, mended = verdicts["spoilt"][1], verdicts["mended"][1]
    assert spoilt < 0.5
    assert mended > 0.9
