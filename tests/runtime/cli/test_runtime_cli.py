"""Laws of the command `patchcore-runtime`: JSON out, one line per refusal, exit codes 0, 1, 2."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo, write_sums
from patchcore_runtime import Detector, __version__
from patchcore_runtime.cli import score
from patchcore_runtime.cli.main import main
from patchcore_runtime.image.preprocess import read_photograph
from runtime_command import run as _run


@pytest.fixture
def parts(tmp_path):
    """Write three images, one in a subfolder, and files that are not images."""
    folder = tmp_path / "parts"
    (folder / "a_late").mkdir(parents=True)
    defect = striped_photo(31)
    defect[30:40, 50:80], defect[40:50, 50:80] = 0, 255
    Image.fromarray(striped_photo(30)).save(folder / "b.png")
    Image.fromarray(defect).save(folder / "c.PNG")
    Image.fromarray(striped_photo(32)).save(folder / "a_late" / "z.bmp")
    (folder / "notes.txt").write_text("no image")
    return folder


def _lines(out):
    return [json.loads(line) for line in out.splitlines()]


def _alter_manifest(folder, path, value):
    file = folder / "manifest.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    file.write_text(json.dumps(document), encoding="utf-8")
    write_sums(folder)


def test_score_prints_one_json_line_per_image(capsys, tiny_artifact, parts):
    code, out, err = _run(capsys, "score", tiny_artifact, parts / "b.png", parts / "c.PNG")
    assert code == 0
    assert re.fullmatch(r"patchcore-runtime: 2 images scored, 1 anomalous, [0-9.]+ s\n", err)
    rows = _lines(out)
    detector = Detector.load(tiny_artifact)
    for row, name in zip(rows, ("b.png", "c.PNG"), strict=True):
        result = detector.predict(parts / name)
        assert row == {
            "image": str(parts / name),
            "score": pytest.approx(result.score, rel=1e-6),
            "threshold": result.threshold,
            "score_ratio": pytest.approx(result.score / result.threshold, rel=1e-6),
            "p_value": pytest.approx(result.p_value, rel=1e-3),
            "is_anomalous": name == "c.PNG",
            "verdict": result.verdict,
            "reasons": list(result.reasons),
            "peak": list(result.peak),
        }


def test_a_folder_is_scored_in_the_order_of_its_paths(capsys, tiny_artifact, parts):
    code, out, _ = _run(capsys, "score", tiny_artifact, parts, "--threads", 1)
    assert code == 0
    names = [str(parts / name) for name in ("a_late/z.bmp", "b.png", "c.PNG")]
    assert [row["image"] for row in _lines(out)] == names


def test_images_come_in_the_order_they_were_named(capsys, tiny_artifact, parts):
    named = [parts / "c.PNG", parts / "a_late", parts / "b.png"]
    _, out, _ = _run(capsys, "score", tiny_artifact, *named)
    expected = [parts / "c.PNG", parts / "a_late" / "z.bmp", parts / "b.png"]
    assert [row["image"] for row in _lines(out)] == [str(path) for path in expected]


def test_a_bad_image_prints_an_error_line_and_the_others_are_scored(capsys, tiny_artifact, parts):
    (parts / "a_broken.png").write_bytes(b"junk")
    code, out, err = _run(capsys, "score", tiny_artifact, parts)
    assert code == 1
    rows = _lines(out)
    assert ["error" in row for row in rows] == [True, False, False, False]
    assert set(rows[0]) == {"image", "error"}
    left_out, refused, summary = err.splitlines()
    assert left_out.endswith("left out 1 without an image's suffix (notes.txt)")
    assert refused.startswith(f"patchcore-runtime: {parts / 'a_broken.png'}: not a readable image")
    assert "3 images scored, 1 anomalous, 1 refused" in summary


def test_a_missing_image_is_a_bad_image_too(capsys, tiny_artifact, parts):
    code, out, err = _run(capsys, "score", tiny_artifact, parts / "absent.png", parts / "b.png")
    assert code == 1
    assert ["error" in row for row in _lines(out)] == [True, False]
    assert "absent.png: no such file" in err


def test_an_image_too_elongated_to_resize_does_not_stop_the_others(capsys, cropped_artifact, parts):
    Image.new("RGB", (8000, 8)).save(parts / "a_strip.png")
    code, out, err = _run(capsys, "score", cropped_artifact, parts)
    assert code == 1
    assert ["error" in row for row in _lines(out)] == [False, True, False, False]
    assert f"{parts / 'a_strip.png'}: 8000 x 8 px is too elongated" in err


def test_the_table_has_the_printed_scores(capsys, tiny_artifact, parts, tmp_path):
    (parts / "a_broken.png").write_bytes(b"junk")
    table = tmp_path / "scores.csv"
    _, out, _ = _run(capsys, "score", tiny_artifact, parts, "--csv", table)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, printed in zip(rows, _lines(out), strict=True):
        assert row["image"] == printed["image"]
        assert row["error"] == printed.get("error", "")
        if "error" not in printed:
            assert float(row["score"]) == printed["score"]
            for name in ("threshold", "score_ratio", "p_value"):
                assert float(row[name]) == printed[name]
            assert row["is_anomalous"] == str(printed["is_anomalous"])
            assert [int(row["peak_y"]), int(row["peak_x"])] == printed["peak"]


def test_maps_are_written_per_image_below_the_folder(capsys, tiny_artifact, parts, tmp_path):
    maps = tmp_path / "new" / "maps"
    code, out, _ = _run(capsys, "score", tiny_artifact, parts, "--maps", maps)
    assert code == 0
    names = ["a_late/z.bmp", "b.png", "c.PNG"]
    assert [row["map"] for row in _lines(out)] == [str(maps / f"{n}.heatmap.png") for n in names]
    assert sorted(path for path in maps.rglob("*") if path.is_file()) == sorted(
        maps / f"{name}.heatmap.png" for name in names
    )
    for name in names:
        with Image.open(maps / f"{name}.heatmap.png") as image:
            assert min(image.size) >= 80


def test_two_images_never_share_one_heat_map(capsys, tiny_artifact, parts, tmp_path):
    for folder in ("left", "right"):
        (parts / folder).mkdir()
        Image.fromarray(striped_photo(30)).save(parts / folder / "part.png")
    named = [parts / "left" / "part.png", parts / "right" / "part.png"]
    code, out, err = _run(capsys, "score", tiny_artifact, *named, "--maps", tmp_path / "maps")
    assert (code, out) == (1, "")
    assert "part.png.heatmap.png: two images would get this file" in err
    assert not (tmp_path / "maps").exists()


def test_a_folder_without_images_is_refused(capsys, tiny_artifact, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = _run(capsys, "score", tiny_artifact, tmp_path / "empty")
    assert (code, out) == (1, "")
    assert "empty: expected images" in err


def test_an_output_that_cannot_be_written_is_named(capsys, tiny_artifact, parts, tmp_path):
    table = tmp_path / "absent" / "scores.csv"
    code, out, err = _run(capsys, "score", tiny_artifact, parts / "b.png", "--csv", table)
    assert (code, out) == (1, "")  # before any image is scored
    assert err == (
        f"patchcore-runtime: {table}: expected a file name in an existing folder; create the "
        "folder, or choose another name\n"
    )


def test_a_table_appears_whole_or_not_at_all(capsys, tiny_artifact, parts, tmp_path, monkeypatch):
    table = tmp_path / "scores.csv"
    table.write_text("older\n", encoding="utf-8")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(score, "print_json", interrupted)
    code, _, _ = _run(capsys, "score", tiny_artifact, parts, "--csv", table)
    assert code == 130
    assert table.read_text(encoding="utf-8") == "older\n"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_image_is_decoded_once_and_scored_as_predict_scores_it(
    capsys, tiny_artifact, parts, monkeypatch
):
    """An image with an unreadable EXIF block counts as upright, however it is passed."""
    path = parts / "b.jpg"
    Image.fromarray(striped_photo(30)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    expected = Detector.load(tiny_artifact).predict(path).score
    decoded = []

    def counted(image, *given, **options):
        decoded.append(image)
        return read_photograph(image, *given, **options)

    monkeypatch.setattr(score, "read_photograph", counted)
    code, out, _ = _run(capsys, "score", tiny_artifact, path)
    assert (code, decoded) == (0, [path])
    assert _lines(out)[0]["score"] == expected


@pytest.mark.parametrize("command", [["score", "x"], ["check"]])
def test_an_empty_list_of_providers_is_refused(capsys, tiny_artifact, command):
    name, *more = command
    with pytest.raises(SystemExit) as end:
        main([name, str(tiny_artifact), *more, "--providers", " ,"])
    assert end.value.code == 2
    assert (
        "--providers: expected execution providers separated by commas" in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["score", "check", "info"])
def test_a_folder_that_is_not_an_artifact_is_refused_in_one_line(capsys, parts, command):
    images = [parts / "b.png"] if command == "score" else []
    code, out, err = _run(capsys, command, parts, *images)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "manifest.json: No such file" in err


def test_check_passes_where_the_artifact_was_made(capsys, tiny_artifact):
    code, out, err = _run(capsys, "check", tiny_artifact)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "checksums: 8 files as listed"
    steps = [f"{name}: ok" for name in ("input", "features", "map", "score")]
    assert [line.split(",")[0] for line in lines[1:]] == steps


def test_check_as_json_lists_every_step(capsys, tiny_artifact):
    code, out, _ = _run(capsys, "check", tiny_artifact, "--json", "--threads", 1)
    assert code == 0
    (report,) = _lines(out)
    assert report["artifact"] == str(tiny_artifact)
    assert report["passed"] is True
    assert [step["name"] for step in report["steps"]] == ["input", "features", "map", "score"]
    for step in report["steps"]:
        assert set(step) == {"name", "difference", "tolerance", "passed"}


@pytest.mark.parametrize(
    ("path", "value", "broken"),
    [
        (("selftest", "score"), 99.0, "score"),
        (("selftest", "layer_magnitudes"), [1.0, 1.0, 1.0, 1.0], "features"),
        (("selftest", "map_tolerance"), 1e-300, None),
        (("scoring", "sigma_px"), 9.0, "map"),
        (("preprocess", "filter"), "lanczos", "input"),
    ],
)
def test_check_says_which_step_breaks(capsys, own_artifact, path, value, broken):
    if broken is None:  # the smallest tolerance still passes if nothing differs
        stored = Detector.load(own_artifact, threads=1).predict(own_artifact / "selftest.png")
        np.save(own_artifact / "selftest_map.npy", stored.anomaly_map)
    _alter_manifest(own_artifact, path, value)
    code, out, err = _run(capsys, "check", own_artifact, "--threads", 1)
    if broken is None:
        assert (code, err) == (0, "")
        return
    assert code == 1
    assert f"{broken}: FAILED" in out
    assert f"the self-test breaks at `{broken}`" in err
    code, out, err = _run(capsys, "check", own_artifact, "--json")
    assert (code, err) == (1, "")
    (report,) = _lines(out)
    assert report["passed"] is False
    first = next(step for step in report["steps"] if not step["passed"])
    assert first["name"] == broken


def test_check_refuses_a_tolerance_that_would_pass_anything(capsys, own_artifact):
    _alter_manifest(own_artifact, ("selftest", "score_tolerance"), 10.0)
    code, out, err = _run(capsys, "check", own_artifact)
    assert (code, out) == (1, "")
    assert "selftest.score_tolerance: expected in (0, 0.1]" in err


@pytest.mark.parametrize(
    "name",
    [
        "features.mindir",
        "features.onnx",
        "index.onnx",
        "memory_bank.bin",
        "selftest.png",
        "selftest_input.png",
        "selftest_map.npy",
    ],
)
def test_check_refuses_one_altered_byte_in_any_file(capsys, own_artifact, name):
    content = bytearray((own_artifact / name).read_bytes())
    content[len(content) // 3] ^= 4
    (own_artifact / name).write_bytes(content)
    code, out, err = _run(capsys, "check", own_artifact)
    assert (code, out) == (1, "")
    assert f"{name}: altered" in err


def test_check_refuses_an_altered_manifest(capsys, own_artifact):
    path = own_artifact / "manifest.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"stripes"', '"strikes"'), encoding="utf-8")
    code, out, err = _run(capsys, "check", own_artifact)
    assert (code, out) == (1, "")
    assert "manifest.json: altered" in err


def test_info_as_json_is_the_manifest_to_the_byte(capsys, tiny_artifact):
    code, out, _ = _run(capsys, "info", tiny_artifact, "--json")
    assert code == 0
    assert out == (tiny_artifact / "manifest.json").read_text(encoding="utf-8")


def test_info_prints_the_main_facts(capsys, tiny_artifact):
    code, out, _ = _run(capsys, "info", tiny_artifact)
    assert code == 0
    for part in ("stripes", "full-frame", "64 x 96 px", "29 rows of 16", "patchcore-build tests"):
        assert part in out


@pytest.mark.parametrize(("path", "value"), [(("config",), {}), (("provenance",), {})])
def test_info_works_without_config_and_provenance(capsys, own_artifact, path, value):
    _alter_manifest(own_artifact, path, value)
    code, out, err = _run(capsys, "info", own_artifact)
    assert (code, err) == (0, "")
    assert "stripes" in out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["paint"],
        ["score"],
        ["score", "artifact"],
        ["score", "artifact", "photo.png", "--threads", "0"],
        ["score", "artifact", "photo.png", "--threads", "two"],
        ["check"],
        ["info", "artifact", "--csv", "x"],
    ],
)
def test_wrong_usage_ends_with_code_2(capsys, argv):
    code, out, err = _run(capsys, *argv)
    assert (code, out) == (2, "")
    assert "usage: patchcore-runtime" in err


def test_an_unavailable_provider_ends_with_code_1(capsys, tiny_artifact, parts):
    arguments = ["score", tiny_artifact, parts / "b.png", "--providers", "NoSuchProvider"]
    code, out, err = _run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert "provider NoSuchProvider: not in this onnxruntime" in err


def test_help_and_version_print_and_exit_with_0(capsys):
    for command in ([], ["score"], ["check"], ["info"]):
        code, out, _ = _run(capsys, *command, "--help")
        assert code == 0
        assert "patchcore-runtime score artifacts/bottle" in out
    assert _run(capsys, "--version")[:2] == (0, f"patchcore-runtime {__version__}\n")


def test_the_installed_command_is_this_one(tiny_artifact):
    program = (
        "import sys; from patchcore_runtime.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "info", str(tiny_artifact)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_kinds_of_threshold_at_once_are_wrong_usage(capsys, tiny_artifact, parts):
    code, out, err = _run(
        capsys, "score", tiny_artifact, parts, "--threshold", 1, "--target-fpr", 0.1
    )
    assert (code, out) == (2, "")
    assert "not allowed with argument" in err


def test_a_rate_out_of_reach_is_refused_in_one_line(capsys, tiny_artifact, parts):
    code, out, err = _run(capsys, "score", tiny_artifact, parts, "--target-fpr", 1e-9)
    assert (code, out) == (1, "")
    _, refused = err.splitlines()
    assert refused.startswith("patchcore-runtime: target false-alarm rate: expected ")


def test_info_prints_the_intervals_of_the_thresholds(capsys, tiny_artifact):
    code, out, _ = _run(capsys, "info", tiny_artifact)
    assert code == 0
    assert "image threshold:" in out
    assert "(90 % interval: " in out
    assert "target 0.01 of good images, about 1 in 100" in out
