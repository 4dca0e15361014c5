"""Both programs on arm64, by emulation: the same input to the byte, the same scores.

`make arm64` prepares out/arm64 and runs these tests.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from cpp_dump import random_pixels
from patchcore_build import FitJob, fit, make_config
from patchcore_runtime import Artifact
from places import ROOT, TINY

EMULATED = ROOT / "out" / "arm64" / "bin"
SCORER = Path(__file__).with_name("score_as_json.py")
LARGEST_DIFFERENCE = {
    "float32": 1e-5,
    "int8": 1e-2,
}  # of a score, relative, by the network's precision
LARGEST_DIFFERENCE_CPP = {"float32": 1e-4, "int8": 1e-2}

pytestmark = pytest.mark.skipif(
    not (EMULATED / "dump_preprocess").is_file(),
    reason="out/arm64 is not prepared; `make arm64` does it on x86-64 Debian 12, with a network",
)


def stdout_of(*command, stdin=None):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, input=stdin, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, tiny_artifact, cropped_artifact, photos):
    """The golden artifact, two of the tests' recipes, one with an int8 ResNet, and the demo's."""
    config = make_config("full-frame", backbone="resnet18", resize_px=64, coreset_ratio=0.05,
                         folds=2, feature_precision="int8")  # fmt: skip
    output = tmp_path_factory.mktemp("int8") / "stripes"
    job = FitJob(images=photos, category="stripes", config=config, weights="random", output=output)
    demo = ROOT / "out" / "demo" / "artifact"
    found = [demo] if demo.is_dir() else []  # of `make demo`
    return [TINY, tiny_artifact, cropped_artifact, fit(job).artifact, *found]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of several sizes as PNG, and one as JPEG."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(4)
    for number, (height, width) in enumerate([(80, 120), (63, 211), (300, 90)]):
        Image.fromarray(random_pixels(rng, height, width)).save(folder / f"{number}.png")
    Image.fromarray(striped_photo(5)).save(folder / "striped.jpg", quality=90)
    return sorted(folder.iterdir())


def test_the_emulated_programs_are_arm64():
    said = stdout_of(EMULATED / "python3", "-c", "import platform; print(platform.machine())")
    assert said == "aarch64\n"


def test_the_runtime_checks_the_golden_artifact():
    said = stdout_of(EMULATED / "python3", "-m", "patchcore_runtime", "check", TINY)
    assert "input: ok, differs by 0 of 0" in said
    assert "score: ok" in said


@pytest.fixture(scope="module")
def native(artifacts, images):
    """The rows of this machine's own processor."""
    command = (sys.executable, SCORER, *artifacts, "--", *images)
    return json.loads(stdout_of(*command))


def assert_close(artifacts, scores, expected, largest):
    """Compare scores, artifact by artifact, and print how much they differ.

    An activation on the edge of two int8 steps may fall to the other side on another processor.
    """
    assert len(scores) == len(expected)
    per_artifact = len(expected) // len(artifacts)
    for number, artifact in enumerate(artifacts):
        part = slice(number * per_artifact, (number + 1) * per_artifact)
        precision = Artifact.open(artifact).manifest.features.precision
        differences = np.abs(np.divide(scores[part], expected[part]) - 1)
        print(f"{artifact.name}, {precision}: largest relative difference {differences.max():.1e}")
        assert differences.max() <= largest[precision], artifact


def test_the_runtime_gives_the_same_input_and_scores(artifacts, images, native):
    command = (EMULATED / "python3", SCORER, *artifacts, "--", *images)
    rows = json.loads(stdout_of(*command))
    assert [row[0] for row in rows] == [row[0] for row in native]
    scores, expected = ([row[1] for row in some] for some in (rows, native))
    assert_close(artifacts, scores, expected, LARGEST_DIFFERENCE)


def test_the_cpp_runner_checks_the_golden_artifact():
    said = stdout_of(EMULATED / "patchcore_infer", TINY, "--selftest")
    assert "input: ok, differs by 0 of 0" in said
    assert "score: ok" in said


def test_the_cpp_runner_gives_the_scores_of_the_runtime(artifacts, images, native):
    scores = []
    for artifact in artifacts:
        lines = stdout_of(EMULATED / "patchcore_infer", artifact, *images)
        scores += [json.loads(line)["score"] for line in lines.splitlines()]
    assert_close(artifacts, scores, [row[1] for row in native], LARGEST_DIFFERENCE_CPP)


def test_the_cpp_runner_gives_the_same_input(artifacts, images, native):
    manifest = json.loads((artifacts[0] / "manifest.json").read_text())
    size = manifest["preprocess"]
    settings = [
        size[name]
        for name in ("resize", "resize_height", "resize_width", "filter", "height", "width")
    ]
    settings.append(size.get("white_level", 65535))
    lines = "".join("\t".join(map(str, (path, *settings))) + "\n" for path in images)
    done = subprocess.run(
        [EMULATED / "dump_preprocess"], input=lines.encode(), capture_output=True, check=True
    )
    rest = done.stdout
    for path, (expected, _) in zip(images, native, strict=False):
        head, _, rest = rest.partition(b"\n")
        word, height, width, *_ = head.split()
        assert word == b"ok", head
        count = int(height) * int(width) * 3
        assert hashlib.sha256(rest[:count]).hexdigest() == expected, path
        rest = rest[count:]
    assert rest == b""
