"""The C++ runner gives what the Python runtime gives: scores, verdicts, JSON, maps, refusals."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifact_factory import (
    make_artifact,
    striped_photo,
    tiny_config,
    write_network,
    write_photos,
    write_sums,
)
from cpp_binary import needs_binary
from cpp_runs import assert_same, rows_of, run, scores_of_both, write_noise
from patchcore_runtime import Detector
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.cli.main import main
from patchcore_runtime.explain.heatmap import overlay
from patchcore_runtime.image.decode import read_image
from places import SHARED, TINY

pytestmark = needs_binary


@pytest.mark.parametrize("search", ["engine", "portable"])
def test_the_golden_artifact_gets_the_same_json_from_both_programs(search, capsys):
    images = [TINY / "selftest.png", TINY / "selftest_input.png"]
    assert_same(*scores_of_both(TINY, images, capsys, "--search", search))


@pytest.mark.parametrize("search", ["engine", "portable"])
@pytest.mark.parametrize(
    ("recipe", "image_score"), [("full-frame", "max"), ("paper", "paper"), ("modelzoo", "modelzoo")]
)
def test_every_recipe_gets_the_same_scores_in_both_programs(
    recipe, image_score, search, photos, tmp_path, capsys
):
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config(recipe))
    assert Artifact.open(artifact).manifest.scoring.image_score == image_score
    sizes = write_noise(tmp_path / "sizes", [(80, 120), (200, 300), (64, 64), (51, 97)])
    assert_same(*scores_of_both(artifact, [photos, sizes], capsys, "--search", search))


@pytest.mark.parametrize("search", ["engine", "portable"])
@pytest.mark.parametrize("image_score", ["map", "paper", "modelzoo"])
def test_a_bank_of_float16_gets_the_same_scores_in_both_programs(
    image_score, search, photos, tmp_path, capsys
):
    config = tiny_config(image_score=image_score, bank_precision="float16")
    artifact = make_artifact(tmp_path / "half", photos, config)
    assert Artifact.open(artifact).manifest.memory_bank.precision == "float16"
    assert_same(*scores_of_both(artifact, [photos], capsys, "--search", search))


@pytest.mark.parametrize(
    "asked", [("--threshold", 0.5), *(("--target-fpr", rate) for rate in (0.9, 0.3, 0.02, 0.002))]
)
def test_other_thresholds_are_the_same_in_both_programs(tiny_artifact, photos, asked, capsys):
    ours, theirs = scores_of_both(tiny_artifact, [photos], capsys, *asked)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine["threshold"] == pytest.approx(reference["threshold"], rel=1e-12)
        assert mine["is_anomalous"] == reference["is_anomalous"]
        assert mine["p_value"] == pytest.approx(reference["p_value"], rel=1e-2, abs=0.1)


def test_no_program_says_that_a_score_is_rarer_than_the_images_can_tell(
    tiny_artifact, tmp_path, capsys
):
    noise = write_noise(tmp_path / "noise", [(80, 120)])
    images = Artifact.open(tiny_artifact).manifest.calibration.images
    for rows in scores_of_both(tiny_artifact, [noise], capsys):
        assert [row["p_value"] for row in rows] == [pytest.approx(0.01 / (images + 1), rel=1e-9)]


@pytest.mark.parametrize(
    "asked", [("--threshold", "-1"), ("--target-fpr", "1e-9"), ("--target-fpr", "1")]
)
def test_thresholds_out_of_range_are_refused_alike(tiny_artifact, photos, asked, capsys):
    code, _, stderr = run(tiny_artifact, photos, *asked)
    assert main(["score", str(tiny_artifact), str(photos), *asked]) == code == 1
    theirs = capsys.readouterr().err
    assert stderr.partition(": ")[2] == theirs.partition(": ")[2]


@pytest.mark.parametrize("search", ["engine", "portable"])
def test_what_was_learned_and_forgotten_on_the_line_is_read_by_both_programs(
    search, photos, tmp_path, capsys
):
    config = tiny_config(bank_precision="float16")
    old = make_artifact(tmp_path / "old", photos, config, thumbnails=True)
    lamp = tmp_path / "lamp.png"
    Image.fromarray((striped_photo(50) * 0.5).astype(np.uint8)).save(lamp)
    new, newer = tmp_path / "new", tmp_path / "newer"
    assert main(["learn", str(old), str(lamp), "--output", str(new)]) == 0
    assert main(["forget", str(new), "--image", "1", "--output", str(newer)]) == 0
    for artifact in (new, newer):
        assert run(artifact, "--selftest")[0] == 0
        ours, theirs = scores_of_both(artifact, [photos, lamp], capsys, "--search", search)
        assert_same(ours, theirs)
    (before,), (after,) = (rows_of(run(one, lamp)[1]) for one in (old, new))
    assert after["score"] < before["score"]


def test_tall_images_get_the_same_scores_in_both_programs(tiny_artifact, tmp_path, capsys):
    tall = write_noise(tmp_path / "tall", [(300, 200), (97, 51)])
    assert_same(*scores_of_both(tiny_artifact, [tall], capsys))


@pytest.mark.parametrize("category", ["hazelnut", "transistor"])
def test_real_images_get_the_same_scores_and_verdicts(category, tmp_path, capsys):
    real = SHARED / "data" / "mvtec_reduced" / category
    if not real.is_dir():
        pytest.skip("../shared/data is not here; the made images above stand in for it")
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((real / "train" / "good").iterdir())[:12]:
        (photos / path.name).symlink_to(path)
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config())
    assert_same(*scores_of_both(artifact, [real / "test"], capsys))


def test_the_self_test_prints_what_the_check_of_python_prints(capsys):
    code, stdout, _ = run(TINY, "--selftest")
    assert code == 0
    assert main(["check", str(TINY)]) == 0
    ours, theirs = stdout.splitlines(), capsys.readouterr().out.splitlines()
    assert [line.split(", differs")[0] for line in ours] == [
        line.split(", differs")[0] for line in theirs
    ]
    assert [line.split(" of ")[-1] for line in ours] == [line.split(" of ")[-1] for line in theirs]


def test_a_self_test_that_breaks_names_the_stage(own_artifact):
    image = np.asarray(Image.open(own_artifact / "selftest_input.png")).copy()
    image[0, 0, 0] ^= 1
    Image.fromarray(image).save(own_artifact / "selftest_input.png")
    write_sums(own_artifact)
    code, stdout, stderr = run(own_artifact, "--selftest")
    assert code == 1
    assert "input: FAILED, differs by 1 of 0" in stdout.splitlines()
    assert "the self-test breaks at `input` on this machine" in stderr


def test_maps_are_pythons(cropped_artifact, photos, tmp_path):
    image = photos / "000.png"
    code, stdout, stderr = run(cropped_artifact, image, "--maps", tmp_path / "maps")
    assert code == 0, stderr
    heatmap = tmp_path / "maps" / "000.png.heatmap.png"
    assert rows_of(stdout)[0]["map"] == str(heatmap)
    detector = Detector.load(cropped_artifact)
    result = detector.predict(image)
    unit = 4 * detector.manifest.calibration.heatmap.high / 65535
    stored = np.asarray(Image.open(tmp_path / "maps" / "000.png.map.png")).astype(np.float64)
    assert np.abs(stored * unit - result.anomaly_map).max() <= unit
    photo = read_image(image)
    expected = overlay(np.asarray(photo), result.map_on(photo), detector.heatmap_scale)
    left = photo.width + max(2, photo.width // 50)
    shown = np.asarray(Image.open(heatmap))[:, left : left + photo.width].astype(int)
    rounded_differently = (np.abs(shown - expected) > 1).any(axis=2).mean()
    assert rounded_differently <= 0.001


def test_a_score_equal_to_the_threshold_is_normal_and_any_larger_one_is_not(own_artifact):
    image = own_artifact / "selftest.png"
    score = rows_of(run(own_artifact, image)[1])[0]["score"]
    path = own_artifact / "manifest.json"
    for threshold, is_anomalous in ((score, False), (np.nextafter(score, 0), True)):
        manifest = json.loads(path.read_text())
        manifest["calibration"]["image_threshold"] = float(threshold)
        path.write_text(json.dumps(manifest))
        write_sums(own_artifact)
        assert rows_of(run(own_artifact, image)[1])[0]["is_anomalous"] is is_anomalous


def test_an_unreadable_image_gets_an_error_line_and_the_others_their_scores(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = TINY / "selftest.png"
    sources = [tmp_path / "missing.png", good, tmp_path / "broken.png", good]
    code, stdout, stderr = run(TINY, *sources)
    rows = rows_of(stdout)
    assert code == 1
    assert [list(row)[1] for row in rows] == ["error", "score", "error", "score"]
    assert rows[0]["error"] == f"{tmp_path / 'missing.png'}: no such file"
    assert rows[2]["error"].startswith(f"{tmp_path / 'broken.png'}: ")
    assert [f"patchcore_infer: {row['error']}" for row in rows if "error" in row] == (
        stderr.splitlines()
    )


def test_images_of_a_folder_come_sorted_with_their_paths_as_python_prints_them(tmp_path, capsys):
    images = ("b/2.PNG", "a.png", "b/10.png", "ä ö.png", "a/1.png", "b.png")
    others = (".hidden.png", "._a.png", ".trash/1.png", "b/._2.PNG", "note.txt")
    for name in (*images, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((TINY / "selftest.png").read_bytes())
    sources = [f"{tmp_path}//./", tmp_path / "b" / ".." / "a.png"]
    ours, theirs = scores_of_both(TINY, sources, capsys)
    assert_same(ours, theirs)
    assert len(ours) == len(images) + 1


def test_a_folder_without_images_is_refused_alike(tmp_path, capsys):
    for name in ("note.txt", "b/log.csv", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    code, stdout, stderr = run(TINY, tmp_path)
    assert main(["score", str(TINY), str(tmp_path)]) == code == 1
    assert stdout == ""
    assert stderr.partition(": ")[2] == capsys.readouterr().err.partition(": ")[2]
    assert "got none among 3 files" in stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "ARTIFACT is required"),
        (["artifact"], "IMAGE_OR_FOLDER is required"),
        (["artifact", "x.png", "--threads", "0"], "--threads: expected a number from 1"),
        (["artifact", "x.png", "--threads", "two"], "got 'two'"),
        (["artifact", "x.png", "--device-id", "-1"], "--device-id: expected a number from 0"),
        (["artifact", "x.png", "--device", "tpu"], "expected cpu or ascend, got 'tpu'"),
        (["artifact", "x.png", "--search"], "--search: expected a value"),
        (["artifact", "x.png", "--batch", "0"], "--batch: expected a number from 1"),
        (["artifact", "x.png", "--nonsense"], "argument was not expected: --nonsense"),
        (["artifact", "x.png", "--selftest"], "--selftest: takes the artifact's own image"),
        (["artifact", "--selftest", "--roi", "x.png"], "--roi: not allowed with --selftest"),
        (["artifact", "x.png", "--threshold", "0x1p3"], "--threshold: expected a number, got"),
        (["artifact", "x.png", "--threshold", ""], "--threshold: expected a number, got ''"),
        (["artifact", "x.png", "--maps", ""], "--maps: expected a path, got ''"),
        (
            ["artifact", "x.png", "--threshold", "1", "--target-fpr", "0.1"],
            "--target-fpr: not allowed with --threshold",
        ),
        (
            ["artifact", "x.png", "--public-key", "k.pem", "--mindir", "x.mindir"],
            "--public-key: goes with neither --mindir nor --index-mindir",
        ),
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(arguments, expected):
    code, stdout, stderr = run(*arguments)
    assert (code, stdout) == (2, "")
    (line,) = stderr.splitlines()
    assert line.startswith("patchcore_infer: error: ")
    assert expected in line
    assert line.endswith("see patchcore_infer --help")


def test_help_names_every_option_and_ends_with_0():
    code, stdout, stderr = run("--help")
    assert (code, stderr) == (0, "")
    options = (
        "--selftest --device --device-id --mindir --index-mindir --threads --batch --search --roi"
        " --maps --threshold --target-fpr --public-key --timings --version --help"
    )
    for option in options.split():
        assert re.search(rf"^  (-h,)?{option}\b", stdout, re.MULTILINE), option
    assert run("artifact", "-h") == (0, stdout, "")


def test_version_is_pythons(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert run("--version")[1].split()[-1] == capsys.readouterr().out.split()[-1]


def test_paths_that_look_like_lists_or_options_are_taken_as_they_are(tmp_path):
    (tmp_path / "[a,b]").mkdir()
    for name in ("[a,b]/1.png", "-2.png", "[3].png"):
        (tmp_path / name).write_bytes((TINY / "selftest.png").read_bytes())
    code, stdout, stderr = run(
        TINY, "[a,b]", "[3].png", "--threads", "9", "--threads=1", "--", "-2.png", cwd=tmp_path
    )
    assert (code, stderr) == (0, "")
    assert [row["image"] for row in rows_of(stdout)] == ["[a,b]/1.png", "[3].png", "-2.png"]


def damaged_bank(folder):
    (folder / "memory_bank.bin").write_bytes(b"PCMEMBNK")
    write_sums(folder)


def damaged_graph(folder):
    (folder / "features.onnx").write_bytes(b"no graph")
    write_sums(folder)


def flipped_byte(folder):
    path = folder / "memory_bank.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def missing_index(folder):
    (folder / "index.onnx").unlink()


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (damaged_bank, "memory_bank.bin"),
        (damaged_graph, "features.onnx"),
        (flipped_byte, "memory_bank.bin"),
        (missing_index, "index.onnx"),
    ],
)
def test_a_damaged_artifact_is_refused_with_one_line_that_names_the_file(
    damage, file, own_artifact
):
    damage(own_artifact)
    code, stdout, stderr = run(own_artifact, TINY / "selftest.png")
    assert (code, stdout) == (1, "")
    assert stderr.startswith("patchcore_infer: ")
    assert file in stderr
    assert len(stderr.splitlines()) == 1


def test_refusals_before_anything_is_scored(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    code, _, stderr = run(TINY, empty)
    assert (code, "expected images" in stderr) == (1, True)
    same = [TINY / "selftest.png"] * 2
    code, stdout, stderr = run(TINY, *same, "--maps", tmp_path / "maps")
    assert (code, stdout) == (1, "")
    assert "two images would get this file" in stderr


def test_threads_change_speed_and_never_verdicts(tiny_artifact, photos):
    one, four = (rows_of(run(tiny_artifact, photos, "--threads", n)[1]) for n in (1, 4))
    assert [row["score"] for row in one] == pytest.approx([row["score"] for row in four], rel=1e-5)
    assert [row["is_anomalous"] for row in one] == [row["is_anomalous"] for row in four]


@pytest.mark.parametrize("batch", [2, 3, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_give_the_lines_of_single_images_with_refused_ones_in_place(
    batch, threads, cropped_artifact, photos, tmp_path
):
    folder = shutil.copytree(photos, tmp_path / "photos")
    for name in ("0000.png", "002a.png", "002b.png", "zzz.png"):
        (folder / name).write_bytes(b"junk")
    code, single, said = run(cropped_artifact, folder, "--threads", 1)
    options = ("--batch", batch, "--threads", threads)
    again, together, also_said = run(cropped_artifact, folder, *options)
    assert (code, said) == (again, also_said) == (1, said)
    assert len(rows_of(single)) == len(rows_of(together)) == 10
    for alone, row in zip(rows_of(single), rows_of(together), strict=True):
        if "error" not in alone:
            assert row.pop("score") == pytest.approx(alone.pop("score"), rel=1e-5)
        assert row == alone


def test_the_number_of_threads_changes_no_bit(tiny_artifact, tmp_path):
    folder = write_photos(tmp_path / "photos", 20)
    one, *others = (run(tiny_artifact, folder, "--threads", n)[1] for n in (1, 2, 3, 8))
    assert others == [one] * 3


def test_a_network_of_another_artifact_is_refused_before_any_image(own_artifact, photos):
    write_network(own_artifact / "features.onnx", height=32, width=32)  # of another artifact
    write_sums(own_artifact)
    code, stdout, stderr = run(own_artifact, photos)
    assert (code, stdout) == (1, "")
    (line,) = stderr.splitlines()
    assert "features.onnx: images: expected (B, 64, 96, 3) as manifest.json says, got " in line


def test_a_map_that_cannot_be_written_is_the_error_of_its_image(tiny_artifact, photos, tmp_path):
    (tmp_path / "maps" / "002.png.heatmap.png").mkdir(parents=True)
    code, stdout, _ = run(tiny_artifact, photos, "--maps", tmp_path / "maps")
    rows = rows_of(stdout)
    assert (code, len(rows)) == (1, 6)
    (refused,) = (row for row in rows if "error" in row)
    assert refused["image"] == str(photos / "002.png")


def test_timings_go_to_stderr_and_leave_the_json_alone(photos, tiny_artifact):
    plain = run(tiny_artifact, photos)
    timed = run(tiny_artifact, photos, "--timings")
    assert timed[1] == plain[1]
    assert plain[2] == ""
    assert timed[2].splitlines()[-1].startswith(f"timings: {len(rows_of(plain[1]))} images in ")


def test_many_photographs_go_through_the_reader_in_order(tmp_path):
    photos = write_photos(tmp_path / "photos", 12)
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config())
    _, stdout, _ = run(artifact, photos)
    names = [Path(row["image"]).name for row in rows_of(stdout)]
    assert names == [f"{number:03}.png" for number in range(12)]
