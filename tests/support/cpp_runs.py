"""Run the C++ runner beside the Python runtime and compare their outputs."""

import json
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from cpp_binary import BINARY
from patchcore_runtime import Artifact
from patchcore_runtime.cli.main import main

LARGEST_SCORE_DIFFERENCE = 1e-4  # relative
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?")
FOR_BOTH = ("--threshold", "--target-fpr")  # options that Python knows, too


def run(*arguments, cwd=None):
    """Run patchcore_infer; return exit code, stdout and stderr."""
    command = [str(BINARY), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    return done.returncode, done.stdout, done.stderr


def rows_of(stdout):
    return [json.loads(line) for line in stdout.splitlines()]


def scores_of_both(artifact, sources, capsys, *options):
    """Return the JSON lines of both programs for the same images."""
    code, stdout, stderr = run(artifact, *sources, *options)
    capsys.readouterr()
    shared = [option for option in options if option in FOR_BOTH]
    values = [options[options.index(option) + 1] for option in shared]
    both = [str(part) for pair in zip(shared, values, strict=True) for part in pair]
    assert main(["score", str(artifact), *map(str, sources), *both]) == code, stderr
    return rows_of(stdout), rows_of(capsys.readouterr().out)


def write_noise(folder, sizes):
    folder.mkdir()
    for number, size in enumerate(sizes):
        noise = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for mine, reference in zip(ours, theirs, strict=True):
        assert list(mine) == list(reference)  # the keys and their order
        assert (mine["image"], mine.get("error")) == (reference["image"], reference.get("error"))
        if "error" in mine:
            continue
        difference = abs(mine["score"] - reference["score"]) / reference["score"]
        assert difference <= LARGEST_SCORE_DIFFERENCE, mine["image"]
        assert mine["threshold"] == reference["threshold"]
        assert mine["score_ratio"] == pytest.approx(reference["score_ratio"], rel=1e-4)
        # A score with different last digits may lie on the other side of a held-out score.
        assert mine["p_value"] == pytest.approx(reference["p_value"], rel=1e-2, abs=0.1)
        assert mine["is_anomalous"] == reference["is_anomalous"]
        assert mine["verdict"] == reference["verdict"]
        assert_same_reasons(mine["reasons"], reference["reasons"])
        assert mine["peak"] == reference["peak"]


def assert_same_reasons(ours, theirs):
    """Compare sentences word for word, and their numbers but for the last digit shown."""
    assert [NUMBER.sub("#", reason) for reason in ours] == [
        NUMBER.sub("#", reason) for reason in theirs
    ]
    for mine, reference in zip(ours, theirs, strict=True):
        numbers = [float(number) for number in NUMBER.findall(reference)]
        assert [float(number) for number in NUMBER.findall(mine)] == pytest.approx(
            numbers, rel=1e-2
        )


def pythons_rows(artifact, images, capsys, *options):
    """Return the rows that `patchcore-runtime score` prints."""
    capsys.readouterr()
    assert main(["score", str(artifact), *map(str, images), *map(str, options)]) == 0
    return rows_of(capsys.readouterr().out)


def maps_of_cpp(artifact, images, folder, capsys, *options):
    """Return (image, its map by the C++ runner, the step between two map values) per image.

    The scores of both programs are compared on the way.
    """
    code, stdout, stderr = run(artifact, *images, *options, "--maps", folder)
    assert code == 0, stderr
    rows = rows_of(stdout)
    for row in rows:
        row.pop("map")
    assert_same(rows, pythons_rows(artifact, images, capsys))
    unit = 4 * Artifact.open(artifact).manifest.calibration.heatmap.high / 65535
    for image in images:
        stored = np.asarray(Image.open(folder / f"{image.name}.map.png"))
        yield image, stored.astype(np.float64) * unit, unit
