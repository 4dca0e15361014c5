"""Laws of learn and forget: learned images are accepted, forgotten images leave no row."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import patchcore_runtime
from artifact_factory import make_artifact, striped_photo, tiled_config, tiny_config
from hnsw_cases import needs_hnswlib
from masks import write_mask
from patchcore_build.cli.main import main as build_main
from patchcore_build.signing import sign_artifact
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.artifact.folder import INDEX_ONNX, SHA256SUMS
from patchcore_runtime.bank.neighbours import nearest_rows
from patchcore_runtime.cli.main import main
from patchcore_runtime.edit import forget as edit_forget
from patchcore_runtime.edit import learn as edit_learn
from patchcore_runtime.edit.learn import _refuse_refused, learning_radius
from patchcore_runtime.errors import EditError, SettingError
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.scoring.thresholds import threshold_at
from places import TINY

RECIPES = ("full-frame", "paper", "modelzoo")


def write_drifted(folder, count=4):
    """Write good images under another lamp: darker, with another colour cast."""
    folder.mkdir()
    for seed in range(count):
        pixels = striped_photo(40 + seed).astype(np.float32) * [0.3, 0.5, 0.75]
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(folder / f"lamp{seed}.png")
    return folder


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    return write_drifted(tmp_path_factory.mktemp("drift") / "images")


def learn(artifact, images, output, *options):
    return main(["learn", str(artifact), str(images), "--output", str(output), *options])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def scores(artifact, images):
    detector = Detector.load(artifact, threads=1)
    return [detector.predict(path) for path in sorted(images.iterdir())]


def assert_whole(folder):
    """Check that a fit could have made the artifact: tables, norms and numbers agree."""
    artifact = Artifact.open(folder)
    artifact.verify()
    bank, manifest = artifact.memory_bank, artifact.manifest
    rows = bank.whole_rows(slice(None))
    norms = np.einsum("md,md->m", rows, rows)
    np.testing.assert_allclose(bank.norms, norms, rtol=1e-6)
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    listed = np.take_along_axis(squares, bank.neighbours.astype(np.int64), axis=1)
    assert np.array_equal(bank.neighbours[:, 0], np.arange(bank.rows))
    best = np.sort(squares, axis=1)[:, : listed.shape[1]]
    np.testing.assert_allclose(listed, best, rtol=1e-4, atol=1e-4)
    assert bank.origins[:, 0].max() < len(manifest.training.images)
    assert len(set(manifest.training.images)) == len(manifest.training.images)
    return artifact


@pytest.mark.parametrize("recipe", RECIPES)
def test_images_that_were_refused_pass_afterwards(recipe, photos, drifted, tmp_path, capsys):
    config = tiny_config(recipe, bank_precision="float16" if recipe == "paper" else "float32")
    old = make_artifact(tmp_path / "old", photos, config)
    before = contents(old)
    assert any(result.is_anomalous for result in scores(old, drifted))
    assert learn(old, drifted, tmp_path / "new", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert contents(old) == before
    assert main(["check", str(tmp_path / "new")]) == 0
    artifact = assert_whole(tmp_path / "new")
    radius = learning_radius(artifact.manifest)
    for result, said in zip(scores(tmp_path / "new", drifted), report["images"], strict=True):
        assert not result.is_anomalous
        assert result.score == pytest.approx(said["score_after"], rel=1e-5)
        assert result.patch_distances.max() <= radius * (1 + 2e-3)
    assert radius == report["radius"]
    assert sum(image["rows"] for image in report["images"]) == (
        report["rows_after"] - report["rows_before"]
    )
    assert report["rows_after"] == artifact.memory_bank.rows > report["rows_before"]


def arrays_of(bank):
    return (*bank.layers, bank.norms, bank.origins)


def test_old_rows_are_unchanged_and_no_distance_grows(tiny_artifact, drifted, photos, tmp_path):
    assert learn(tiny_artifact, drifted, tmp_path / "new") == 0
    old, new = (Artifact.open(folder) for folder in (tiny_artifact, tmp_path / "new"))
    count = old.memory_bank.rows
    for before, after in zip(*(arrays_of(one.memory_bank) for one in (old, new)), strict=True):
        assert np.array_equal(before, after[:count])
    for before, after in zip(scores(old.folder, photos), scores(new.folder, photos), strict=True):
        assert (after.patch_distances <= before.patch_distances * (1 + 1e-5)).all()
        assert after.score <= before.score * (1 + 1e-5)


def test_learned_images_are_recorded_in_the_manifest(tiny_artifact, drifted, tmp_path):
    assert learn(tiny_artifact, drifted, tmp_path / "new") == 0
    assert main(["forget", str(tmp_path / "new"), "--image", "learned/lamp0.png", "--output",
                 str(tmp_path / "newer")]) == 0  # fmt: skip
    old, new, newer = (
        Artifact.open(folder).manifest
        for folder in (tiny_artifact, tmp_path / "new", tmp_path / "newer")
    )
    names = [f"learned/lamp{i}.png" for i in range(4)]
    assert new.training.images == (*old.training.images, *names)
    assert newer.training.images == (*old.training.images, *names[1:])
    first, second = newer.provenance["edits"]
    assert (first["what"], second["what"]) == ("learn", "forget")
    for entry, folder in ((first, tiny_artifact), (second, tmp_path / "new")):
        assert entry["of"] == hashlib.sha256((folder / SHA256SUMS).read_bytes()).hexdigest()
    digests = [
        hashlib.sha256((drifted / Path(name).name).read_bytes()).hexdigest() for name in names
    ]
    assert first["images"] == dict(zip(names, digests, strict=True))
    lines = [f"{old.training.digest}  before"]
    lines += [f"{digest}  {name}" for digest, name in zip(digests, names, strict=True)]
    text = "".join(f"{line}\n" for line in lines)
    assert new.training.digest == hashlib.sha256(text.encode()).hexdigest()
    kept = ("image_threshold", "pixel_threshold", "heatmap", "image_scores", "map_maxima")
    for name in kept:
        assert getattr(new.calibration, name) == getattr(old.calibration, name)
    assert "kept by learn" in new.calibration.method


def test_learning_the_same_images_gives_the_same_bytes(tiny_artifact, drifted, tmp_path):
    for name in ("one", "two"):
        assert learn(tiny_artifact, drifted, tmp_path / name) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_forgetting_learned_images_restores_the_old_bank(tiny_artifact, drifted, tmp_path):
    first = next(path for path in sorted(drifted.iterdir()))
    assert learn(tiny_artifact, first, tmp_path / "new") == 0
    forget = ["forget", str(tmp_path / "new"), "--image", f"learned/{first.name}"]
    assert main([*forget, "--output", str(tmp_path / "back")]) == 0
    old, back = contents(tiny_artifact), contents(tmp_path / "back")
    same = ("memory_bank.bin", INDEX_ONNX, "selftest_map.npy", "features.onnx")
    assert all(old[name] == back[name] for name in same)
    assert Detector.load(tmp_path / "back").manifest.selftest == (
        Detector.load(tiny_artifact).manifest.selftest
    )


@pytest.mark.parametrize("by", ["name", "number"])
def test_a_forgotten_image_leaves_no_row_and_no_thumbnail(by, photos, tmp_path, capsys):
    config = tiny_config(coreset_ratio=0.2, bank_precision="float16")
    old = make_artifact(tmp_path / "old", photos, config, thumbnails=True)
    image = "002.png" if by == "name" else "2"
    options = ["--image", image, "--output", str(tmp_path / "new"), "--json"]
    assert main(["forget", str(old), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    before, after = Artifact.open(old), assert_whole(tmp_path / "new")
    assert main(["check", str(tmp_path / "new")]) == 0
    assert report["image"] == "002.png"
    assert "002.png" not in after.manifest.training.images
    of = [before.manifest.training.images[i] for i in before.memory_bank.origins[:, 0]]
    kept = [i for i, name in enumerate(of) if name != "002.png"]
    assert [after.manifest.training.images[i] for i in after.memory_bank.origins[:, 0]] == [
        of[i] for i in kept
    ]
    assert np.array_equal(after.memory_bank.layers[0], before.memory_bank.layers[0][kept])
    assert after.thumbnails == before.thumbnails[:2] + before.thumbnails[3:]
    for one, other in zip(scores(old, photos), scores(tmp_path / "new", photos), strict=True):
        rise = other.patch_distances - one.patch_distances
        assert rise.min() >= -1e-4
        assert rise.max() <= report["largest_rise"] + 1e-4
        assert report["largest_rise"] > 0


def test_thumbnails_are_learned_too(photos, drifted, tmp_path):
    old = make_artifact(tmp_path / "old", photos, tiny_config(), thumbnails=True)
    assert learn(old, drifted, tmp_path / "new") == 0
    before, after = Artifact.open(old), Artifact.open(tmp_path / "new")
    assert after.thumbnails[: len(before.thumbnails)] == before.thumbnails
    assert len(after.thumbnails) == len(after.manifest.training.images)
    assert after.thumbnails[-1].decode("here").size == (120, 80)


def test_an_updated_table_equals_a_new_one(tiny_artifact, drifted, tmp_path):
    assert learn(tiny_artifact, drifted, tmp_path / "new") == 0
    bank = Artifact.open(tmp_path / "new").memory_bank
    whole = nearest_rows(bank.whole_rows(slice(None)), bank.norms, bank.neighbours.shape[1])
    assert np.array_equal(bank.neighbours, whole)


@needs_hnswlib
def test_an_index_and_files_that_only_the_workshop_makes_are_left_out(
    tiny_artifact, drifted, tmp_path, capsys
):
    fast = tmp_path / "fast"
    index = ["index", str(tiny_artifact), "--kind", "hnsw", "--output", str(fast)]
    assert build_main(index) == 0
    golden = shutil.copytree(TINY, tmp_path / "golden")
    capsys.readouterr()
    assert learn(fast, drifted, tmp_path / "new") == 0
    assert "left out: index.hnsw" in capsys.readouterr().out
    assert Artifact.open(tmp_path / "new").manifest.index.kind == "exact"
    assert not (tmp_path / "new" / "index.hnsw").exists()
    assert main(["forget", str(golden), "--image", "0", "--output", str(tmp_path / "less")]) == 0
    assert "left out: index.mindir" in capsys.readouterr().out
    assert Artifact.open(tmp_path / "less").manifest.index.mindir_candidates == 0
    assert not (tmp_path / "less" / "index.mindir").exists()
    assert (tmp_path / "less" / "features.mindir").exists()
    assert main(["check", str(tmp_path / "less")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "{old}", "{old}/selftest.png", "{photos}/000.png", "{photos}/../photos/000.png"],
         "000.png: the artifact has a training image learned/000.png already"),
        (["learn", "{old}", "{photos}/000.png"], "the bank covers these images already"),
        (["learn", "{old}", "{old}/manifest.json"], "manifest.json: not a readable image"),
        (["learn", "{old}", "{old}/nothing.png"], "nothing.png: no such file"),
        (["forget", "{old}", "--image", "6"], "a name of this list or a number below 6, got 6"),
        (["forget", "{old}", "--image", "00.png"], "similar names: 00"),
        (["forget", "{empty}", "--image", "0"], "no such folder"),
    ],
)  # fmt: skip
def test_impossible_edits_are_refused_in_one_line(
    arguments, message, tiny_artifact, photos, tmp_path, capsys
):
    places = {"old": tiny_artifact, "photos": photos, "empty": tmp_path / "empty"}
    words = [word.format(**places) for word in arguments]
    assert main([*words, "--output", str(tmp_path / "new")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "new").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_last_rows_are_never_forgotten(tiny_artifact, drifted, tmp_path, capsys):
    source = Artifact.open(tiny_artifact)
    used = sorted(set(source.memory_bank.origins[:, 0].tolist()))
    folder = tiny_artifact
    for step, _ in enumerate(used[1:]):
        number = Artifact.open(folder).memory_bank.origins[0, 0]
        target = tmp_path / f"{step}"
        assert main(["forget", str(folder), "--image", str(number), "--output", str(target)]) == 0
        folder = target
    number = Artifact.open(folder).memory_bank.origins[0, 0]
    last = ["forget", str(folder), "--image", str(number), "--output", str(tmp_path / "none")]
    assert main(last) == 1
    assert "no row would remain" in capsys.readouterr().err
    assert learn(folder, drifted, tmp_path / "again") == 0  # K was clipped and is unchanged
    assert_whole(tmp_path / "again")


def test_a_damaged_artifact_is_refused_and_an_output_that_exists_too(
    own_artifact, drifted, tmp_path, capsys
):
    assert learn(own_artifact, drifted, tmp_path) == 1
    assert "exists already" in capsys.readouterr().err
    (own_artifact / "selftest_map.npy").write_bytes(b"x")
    assert learn(own_artifact, drifted, tmp_path / "new") == 1
    assert "selftest_map.npy: altered" in capsys.readouterr().err


def test_both_commands_need_the_runtime_alone(tiny_artifact, drifted, tmp_path):
    site = str(Path(patchcore_runtime.__file__).parents[1])
    program = "import sys; sys.path.insert(0, sys.argv[1])\n"
    program += "for name in ('patchcore_build', 'onnx', 'mindspore', 'scipy', 'hnswlib'):\n"
    program += "    sys.modules[name] = None  # importing it is an error now\n"
    program += "from patchcore_runtime.cli.main import main\n"
    program += "old, images, new, newer = sys.argv[2:]\n"
    program += "learn = main(['learn', old, images, '--output', new])\n"
    program += "image = ['--image', 'learned/lamp1.png', '--output', newer]\n"
    program += "sys.exit(learn or main(['forget', new, *image]) or main(['check', newer]))\n"
    command = [sys.executable, "-c", program, site, tiny_artifact, drifted]
    subprocess.run([*command, tmp_path / "new", tmp_path / "newer"], check=True)
    assert (tmp_path / "newer" / SHA256SUMS).exists()


def test_the_radius_is_the_median_score_as_a_distance_and_never_above_the_threshold(tiny_artifact):
    manifest = Artifact.open(tiny_artifact).manifest
    calibration = manifest.calibration
    median = threshold_at(calibration, calibration.image_scores, 0.5)
    assert learning_radius(manifest) == median
    squared = dataclasses.replace(
        manifest, scoring=dataclasses.replace(manifest.scoring, distance="squared")
    )
    assert learning_radius(squared) == pytest.approx(np.sqrt(median))
    half = median / 2
    strict = dataclasses.replace(calibration, image_threshold=half, image_interval=(half, half))
    assert learning_radius(dataclasses.replace(manifest, calibration=strict)) == median / 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_tile_of_a_cut_image_learns_its_own_view_inside_the_region(
    recipe, photos, drifted, tmp_path
):
    mask = write_mask(tmp_path / "mask.png")
    old = make_artifact(tmp_path / "old", photos, tiled_config(recipe), roi=mask)
    assert learn(old, drifted, tmp_path / "new") == 0
    assert main(["check", str(tmp_path / "new")]) == 0
    artifact = assert_whole(tmp_path / "new")
    detector = Detector(artifact, threads=1)
    bank, radius = artifact.memory_bank, learning_radius(artifact.manifest)
    assert artifact.region.patches[tuple(bank.origins[:, 1:].T)].all()
    first = len(artifact.manifest.training.images) - 4
    views = {}
    for number, path in enumerate(sorted(drifted.iterdir())):
        pixels, placement = preprocess(path, artifact.manifest.preprocess)
        layers = detector.features(pixels)
        assert not detector.score_features(layers, placement).is_anomalous
        assert detector.tile_distances(layers).max() <= radius * (1 + 2e-3)
        views[first + number] = layers[0]
    rows = np.flatnonzero(bank.origins[:, 0] >= first)
    assert len(rows)
    corners = np.array(detector.grid.corners_px) // 8
    for row in rows:  # its origin is a patch of the whole input, which lies in one tile or more
        number, y, x = bank.origins[row]
        seen = [
            views[number][tile, :, y - top, x - left]
            for tile, (top, left) in enumerate(corners)
            if 0 <= y - top < 8 and 0 <= x - left < 8
        ]
        assert min(np.abs(bank.layers[0][row] - view).max() for view in seen) < 1e-5


def test_a_refusal_after_learning_names_the_score_of_the_image_it_names(tiny_artifact):
    manifest = Artifact.open(tiny_artifact).manifest
    threshold = manifest.calibration.image_threshold
    paths = [Path("good.png"), Path("first.png"), Path("second.png")]
    found = [threshold, 2 * threshold, 3 * threshold]  # equal to the threshold is normal
    with pytest.raises(EditError) as refusal:
        _refuse_refused(found, paths, manifest)
    assert str(refusal.value) == (
        f"first.png: expected a score up to {threshold:.4g} after learning, got "
        f"{2 * threshold:.4g} (2 refused); nothing was written"
    )


@pytest.mark.parametrize("command", ["learn", "forget"])
def test_with_a_key_an_unsigned_artifact_is_not_edited(
    command, own_artifact, keys, drifted, tmp_path, capsys
):
    what = [str(drifted)] if command == "learn" else ["--image", "0"]
    key = ["--public-key", str(keys / "public.pem")]
    output = tmp_path / "new"
    assert main([command, str(own_artifact), *what, *key, "--output", str(output)]) == 1
    assert "SHA256SUMS.sig" in capsys.readouterr().err
    assert not output.exists()
    sign_artifact(own_artifact, keys / "private.pem")
    assert main([command, str(own_artifact), *what, *key, "--output", str(output)]) == 0


def test_images_of_one_name_in_two_folders_are_learned_under_their_folders(
    tiny_artifact, drifted, tmp_path
):
    sources = [tmp_path / "in" / folder / "000.png" for folder in ("a", "b")]
    for number, path in enumerate(sources):
        path.parent.mkdir(parents=True)
        shutil.copy(drifted / f"lamp{number}.png", path)
    command = ["learn", str(tiny_artifact), *map(str, sources), "--output", str(tmp_path / "new")]
    assert main(command) == 0
    names = Artifact.open(tmp_path / "new").manifest.training.images
    assert names[-2:] == ("learned/a/000.png", "learned/b/000.png")


@pytest.mark.parametrize("threads", [0, -1, True, 1.5])
def test_no_number_of_threads_is_refused_before_the_artifact_is_read(threads, tmp_path):
    for call, of in ((edit_learn.learn, [tmp_path / "a.png"]), (edit_forget.forget, "0")):
        with pytest.raises(SettingError, match="threads: expected a whole number of 1 or more"):
            call(tmp_path / "none", of, tmp_path / "out", threads=threads)
