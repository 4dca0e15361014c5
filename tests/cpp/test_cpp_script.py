"""run_infer_cpp.sh: from a data set to figures, as the MindSpore Models run theirs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from cpp_binary import BINARY, needs_binary
from patchcore_build.evaluation.evaluate import evaluate
from patchcore_runtime import Detector
from places import ROOT

SCRIPT = ROOT / "ascend310_infer" / "run_infer_cpp.sh"

pytestmark = needs_binary


def run_script(cwd, *arguments, **variables):
    """Exit code, stdout and stderr of run_infer_cpp.sh, run in a folder."""
    environment = {**os.environ, "PATCHCORE_INFER": str(BINARY), "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**environment, **variables},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def dataset(tmp_path):
    """MVTec's layout: three good images, three with a bright square and its mask."""
    root = tmp_path / "data" / "stripes"
    for folder in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        photo = striped_photo(number + 50)
        kind = "good" if number < 3 else "spot"
        if number >= 3:
            photo[30:50, 40:70] = 255
            mask = np.zeros(photo.shape[:2], np.uint8)
            mask[30:50, 40:70] = 255
            Image.fromarray(mask).save(root / f"ground_truth/spot/{number}_mask.png")
        Image.fromarray(photo).save(root / "test" / kind / f"{number}.png")
        Image.fromarray(striped_photo(number)).save(root / "train" / "good" / f"{number}.png")
    return root.parent


def test_the_script_measures_what_the_evaluation_of_python_measures(
    tiny_artifact, dataset, tmp_path
):
    arguments = (tiny_artifact / "features.mindir", dataset, "y", "stripes", "CPU")
    code, _, stderr = run_script(tmp_path, *arguments)
    assert code == 0, stderr
    log = dict(line.split(": ") for line in (tmp_path / "acc_stripes.log").read_text().splitlines())
    found = evaluate(Detector.load(tiny_artifact), dataset, "stripes")
    assert float(log["img_auc"]) == pytest.approx(found.image_auroc, abs=1e-6)
    assert float(log["pixel_auc"]) == pytest.approx(found.pixel_auroc, abs=1e-4)  # 16-bit maps
    assert "read " in (tmp_path / "time_stripes.log").read_text()


def test_the_script_measures_images_without_python_and_again_without_scoring(
    tiny_artifact, dataset, tmp_path
):
    arguments = (tiny_artifact, dataset, "y", "stripes", "CPU", "0")
    code, with_python, stderr = run_script(tmp_path, *arguments)
    assert code == 0, stderr
    again = (*arguments[:2], "n", *arguments[3:])
    code, without, stderr = run_script(tmp_path, *again, PYTHON="/bin/false")
    assert code == 0, stderr
    image_line = next(line for line in with_python.splitlines() if line.startswith("img_auc: "))
    assert image_line in without.splitlines()
    assert "pixel_auc: not measured" in without


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (0, "nowhere.mindir", "no such file"),
        (1, "nowhere", "no such folder"),
        (2, "yes", "NEED_PREPROCESS: expected y or n, got 'yes'"),
        (3, "../stripes", "CATEGORY: expected the name of a folder"),
        (4, "TPU", "DEVICE_TYPE: expected Ascend or CPU, got 'TPU'"),
        (4, "GPU", "GPU is served by the Python runtime"),
        (4, "Ascend", "-DPATCHCORE_MINDSPORE=ON"),
        (5, "first", "DEVICE_ID: expected a number, got 'first'"),
    ],
)
def test_the_script_refuses_wrong_arguments_in_one_line(
    place, value, expected, tiny_artifact, dataset, tmp_path
):
    arguments = [tiny_artifact, dataset, "y", "stripes", "CPU", "0"]
    arguments[place] = value
    code, _, stderr = run_script(tmp_path, *arguments)
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert expected in stderr


@pytest.mark.parametrize("home", ["", "nowhere"])
def test_ascend_without_mindspore_is_refused_in_one_line_before_a_build(
    home, tiny_artifact, dataset, tmp_path
):
    if (ROOT / "out" / "ascend" / "patchcore_infer").is_file():
        pytest.skip(
            "the preset ascend is built here, so MindSpore is not needed; remove out/ascend"
        )
    arguments = (tiny_artifact, dataset, "y", "stripes", "Ascend")
    code, stdout, stderr = run_script(tmp_path, *arguments, PATCHCORE_INFER="", MS_LITE_HOME=home)
    assert (code, stdout) == (1, "")
    (line,) = stderr.splitlines()
    assert f"Ascend needs MindSpore Lite, but MS_LITE_HOME='{home}' holds no" in line
    assert not (tmp_path / "build_stripes.log").exists()


def test_the_script_explains_itself_when_arguments_are_missing(tmp_path):
    code, stdout, stderr = run_script(tmp_path, "one", "two")
    assert (code, stdout) == (1, "")
    assert stderr.startswith("Usage: bash run_infer_cpp.sh [MINDIR_PATH]")
