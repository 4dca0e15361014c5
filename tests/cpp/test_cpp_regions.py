"""Regions of the C++ runner are Python's, corner by corner; `--regions` and `--csv` are, too."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from cpp_binary import BINARY, needs_binary
from cpp_runs import assert_same, rows_of, run
from patchcore_runtime.cli.main import main
from patchcore_runtime.explain.regions import find_regions
from places import ROOT, TINY

DUMP = Path(
    os.environ.get("PATCHCORE_DUMP_REGIONS", ROOT / "out" / "host" / "tests" / "dump_regions")
)

pytestmark = needs_binary


def random_map(rng):
    """Draw noise, smooth blobs or few levels, so that outlines wind and values tie."""
    height, width = rng.integers(1, 40, 2)
    values = rng.random((height, width))
    match rng.integers(3):
        case 0:
            values = np.round(values * 3)
        case 1:
            y, x = np.mgrid[:height, :width] / rng.uniform(2, 9)
            values += np.sin(y + rng.random()) * np.cos(x) * 2
        case _:
            pass
    return values.astype(np.float32)


def regions_of_cpp(maps, thresholds):
    """Return the regions that the C++ runner finds in each map, as JSON."""
    sent = b"".join(
        f"{len(one)} {one.shape[1]} {float(threshold)!r}\n".encode() + one.tobytes()
        for one, threshold in zip(maps, thresholds, strict=True)
    )
    done = subprocess.run([str(DUMP)], input=sent, stdout=subprocess.PIPE, check=True)
    return [json.loads(line)["regions"] for line in done.stdout.splitlines()]


def as_json(regions):
    return json.loads(json.dumps([dataclasses.asdict(region) for region in regions]))


@pytest.mark.skipif(not DUMP.is_file(), reason=f"{DUMP.name} is not built; `make cpp` builds it")
def test_regions_of_any_map_are_pythons():
    rng = np.random.default_rng(8)
    maps = [random_map(rng) for _ in range(400)]
    # Thresholds between values and equal to one of them, which is not above itself.
    thresholds = [
        rng.uniform(one.min() - 0.1, one.max()) if number % 2 else rng.choice(one.ravel())
        for number, one in enumerate(maps)
    ]
    found = regions_of_cpp(maps, thresholds)
    expected = [
        as_json(find_regions(one, float(threshold)))
        for one, threshold in zip(maps, thresholds, strict=True)
    ]
    assert sum(map(len, expected)) > 2000
    assert max(len(region["contour"]) for regions in expected for region in regions) > 100
    for mine, reference in zip(found, expected, strict=True):
        assert mine == reference


@pytest.fixture
def spotted(tmp_path):
    """A folder with a good image, two with a bright square, and one that is too small."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        photo = striped_photo(number + 20)
        if number:
            photo[20 : 30 + 10 * number, 30:60] = 255
        Image.fromarray(photo).save(folder / f"{number}.png")
    Image.new("RGB", (4, 4)).save(folder / "small, too.png")
    return folder


def both(artifact, folder, capsys, *options):
    """Return the JSON lines of both programs, which end with the same exit code."""
    code, stdout, stderr = run(artifact, folder, *options)
    capsys.readouterr()
    assert main(["score", str(artifact), str(folder), *map(str, options)]) == code, stderr
    return rows_of(stdout), rows_of(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["tiny_artifact", "cropped_artifact"])
def test_regions_of_images_are_pythons(kind, spotted, capsys, request):
    ours, theirs = both(request.getfixturevalue(kind), spotted, capsys, "--regions")
    assert_same(ours, theirs)
    assert sum(len(row.get("regions", ())) for row in theirs) > 1
    for mine, reference in zip(ours, theirs, strict=True):
        if "error" in mine:
            continue
        for one, other in zip(mine["regions"], reference["regions"], strict=True):
            assert list(one) == list(other)
            assert one.pop("peak_value") == pytest.approx(other.pop("peak_value"), rel=1e-5)
            assert one == other


def table_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_is_pythons(tiny_artifact, spotted, tmp_path):
    path = tmp_path / "scores.csv"
    tables = []
    for program in (lambda *line: run(*line)[0], lambda *line: main(["score", *line])):
        code = program(str(tiny_artifact), str(spotted), "--csv", str(path))
        assert code == 1
        raw = path.read_bytes()
        assert raw.count(b"\r\n") == raw.count(b"\n") == 5
        tables.append(table_of(path))
    ours, theirs = tables
    assert list(ours[0]) == list(theirs[0])
    for mine, reference in zip(ours, theirs, strict=True):
        for column in ("score", "score_ratio", "p_value"):
            if mine[column]:
                close = pytest.approx(float(reference.pop(column)), rel=1e-4)
                assert float(mine.pop(column)) == close
        assert mine == reference


def test_names_that_a_spreadsheet_would_execute_are_escaped(tmp_path):
    names = ["=1+1.png", "+1.png", "-1.png", "@sum.png", "\t1.png", "\r1.png", "plain=.png"]
    for name in names:
        shutil.copyfile(TINY / "selftest.png", tmp_path / name)
    table = tmp_path / "scores.csv"
    done = run(TINY, "--csv", table, "--", *names, cwd=tmp_path)
    assert done[0] == 0, done
    shown = [
        "'=1+1.png",
        "'+1.png",
        "'-1.png",
        "'@sum.png",
        "\\x091.png",
        "\\x0d1.png",
        "plain=.png",
    ]
    assert [row["image"] for row in table_of(table)] == shown


def test_an_older_table_remains_when_nothing_is_scored(own_artifact, tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("older")
    (own_artifact / "memory_bank.bin").write_bytes(b"junk")
    code, _, _ = run(own_artifact, TINY / "selftest.png", "--csv", table)
    assert (code, table.read_text()) == (1, "older")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("place", ["missing/scores.csv", "folder", "/dev/null", "/proc/x.csv"])
def test_a_place_where_no_table_can_be_written_is_refused_before_scoring(place, tmp_path):
    (tmp_path / "folder").mkdir()
    code, stdout, stderr = run(TINY, TINY / "selftest.png", "--csv", tmp_path / place)
    assert (code, stdout) == (1, "")
    (line,) = stderr.splitlines()
    assert line.startswith(f"patchcore_infer: {tmp_path / place}: ")
    assert Path("/dev/null").is_char_device()


def test_results_that_cannot_be_printed_end_with_1():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [BINARY, TINY, TINY / "selftest.png"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "standard output: cannot be written" in done.stderr
