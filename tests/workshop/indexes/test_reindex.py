"""Laws of `patchcore-build index`: a new folder, measured, refused when scores move too far."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import patchcore_build
import patchcore_runtime
from artifact_factory import make_artifact, striped_photo, tiny_config, write_sums
from faiss_cases import FAISS_KINDS, needs_faiss
from hnsw_cases import needs_hnswlib
from patchcore_build.cli.main import main
from patchcore_build.indexes.images import made_images, with_drawn_defects
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.cli.main import main as runtime_main

SITE = [str(Path(package.__file__).parents[1]) for package in (patchcore_build, patchcore_runtime)]


def index(*arguments):
    return main(["index", *map(str, arguments)])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@needs_hnswlib
@pytest.mark.parametrize("recipe", ["full-frame", "paper", "modelzoo"])
def test_a_graph_passes_the_check_and_scores_as_the_exact_search(recipe, photos, tmp_path, capsys):
    exact = make_artifact(tmp_path / "exact", photos, tiny_config(recipe, bank_precision="float16"))
    before = contents(exact)
    assert index(exact, "--kind", "hnsw", "--output", tmp_path / "fast", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert contents(exact) == before
    assert runtime_main(["check", str(tmp_path / "fast")]) == 0
    manifest = Artifact.open(tmp_path / "fast").manifest
    assert manifest.index.kind == "hnsw"
    assert manifest.index.recall == report["quality"]["recall"] == 1
    assert manifest.index.score_change == report["quality"]["largest_score_change"]
    made = manifest.provenance["index"]
    assert (made["m"], made["ef_construction"], made["hnswlib"][0]) == (16, 200, "0")
    for photo in sorted(photos.iterdir()):
        fast, slow = (Detector.load(f).predict(photo) for f in (tmp_path / "fast", exact))
        assert fast.score == pytest.approx(slow.score, rel=1e-5)
        assert np.array_equal(fast.nearest_rows, slow.nearest_rows)


@needs_hnswlib
def test_exact_after_hnsw_gives_the_first_artifact_back_to_the_byte(tiny_artifact, tmp_path):
    assert index(tiny_artifact, "--kind", "hnsw", "--output", tmp_path / "fast") == 0
    assert index(tmp_path / "fast", "--kind", "exact", "--output", tmp_path / "back") == 0
    assert contents(tmp_path / "back") == contents(tiny_artifact)


@needs_hnswlib
def test_the_same_artifact_gives_the_same_bytes_twice(tiny_artifact, tmp_path):
    for name in ("one", "two"):
        assert index(tiny_artifact, "--kind", "hnsw", "--output", tmp_path / name) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@needs_hnswlib
def test_scores_that_move_too_far_are_refused_unless_forced(photos, tmp_path, capsys):
    exact = make_artifact(tmp_path / "exact", photos, tiny_config(coreset_ratio=0.2))
    held_out = tmp_path / "held_out"
    held_out.mkdir()
    for seed in range(100, 103):
        Image.fromarray(striped_photo(seed)).save(held_out / f"{seed}.png")
    poor = ["--kind", "hnsw", "--m", 3, "--ef-construction", 10, "--ef", 10]
    poor += ["--max-score-change", 0, "--output", tmp_path / "poor"]
    assert index(exact, *poor, "--images", held_out) == 1
    refusal = capsys.readouterr().err
    assert "expected image scores within 0 of the exact search's, got" in refusal
    assert "--force accepts it" in refusal
    assert not (tmp_path / "poor").exists()
    assert index(exact, *poor, "--images", held_out, "--force") == 0
    stored = Artifact.open(tmp_path / "poor").manifest
    assert 0 < stored.index.recall < 1
    assert stored.index.score_change > 0
    assert stored.provenance["index"]["measured_on"].endswith(
        "3 given ones, as they are and with a drawn defect"
    )
    assert runtime_main(["check", str(tmp_path / "poor")]) == 0
    useless = [*poor[:2], "--m", 2, "--ef-construction", 1, "--ef", 1, "--force"]
    assert index(exact, *useless, "--images", held_out, "--output", tmp_path / "useless") == 1
    assert "a change beyond 1 is never accepted" in capsys.readouterr().err


@needs_hnswlib
def test_search_exact_takes_the_exact_index_of_the_same_artifact(
    tiny_artifact, photos, tmp_path, capsys
):
    fast = tmp_path / "fast"
    assert index(tiny_artifact, "--kind", "hnsw", "--output", fast) == 0
    (fast / "index.hnsw").write_bytes(b"damaged")
    write_sums(fast)
    image = str(photos / "000.png")
    capsys.readouterr()
    assert runtime_main(["score", str(fast), image, "--search", "exact"]) == 0
    assert runtime_main(["score", str(tiny_artifact), image]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert runtime_main(["check", str(fast), "--search", "exact"]) == 0
    assert runtime_main(["score", str(fast), image]) == 1
    assert "index.hnsw: size: expected 96 bytes or more, got 7" in capsys.readouterr().err


@needs_hnswlib
def test_without_hnswlib_one_line_names_the_extra(tiny_artifact, tmp_path):
    fast = tmp_path / "fast"
    assert index(tiny_artifact, "--kind", "hnsw", "--output", fast) == 0
    absent = tmp_path / "absent"
    absent.mkdir()
    # A library that is broken is as good as none.
    (absent / "hnswlib.py").write_text("raise ImportError('not built for this Python')\n")
    program = "import sys; sys.path[:0] = sys.argv[1:4]\n"
    program += "from patchcore_runtime.cli.main import main; sys.exit(main(sys.argv[4:]))"
    command = [sys.executable, "-c", program, str(absent), *SITE]
    done = subprocess.run([*command, "check", fast], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "hnswlib is not installed here; pip install 'patchcore-runtime[hnsw]'" in line
    done = subprocess.run([*command, "check", fast, "--search", "exact"], check=False)
    assert done.returncode == 0


@needs_faiss
@pytest.mark.parametrize("kind", FAISS_KINDS)
@pytest.mark.parametrize("recipe", ["full-frame", "paper"])
def test_each_kind_of_faiss_is_measured_passes_the_check_and_can_be_taken_back(
    kind, recipe, photos, tmp_path, capsys
):
    config = tiny_config(recipe, coreset_ratio=0.9, bank_precision="float16")
    exact = make_artifact(tmp_path / "exact", photos, config)
    made = tmp_path / "made"
    full = ["--nprobe", 16, "--nlist", 16] if kind == "faiss-ivfpq" else []
    assert index(exact, "--kind", kind, *full, "--output", made, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == "index.faiss"
    assert report["index_bytes"] == (made / "index.faiss").stat().st_size
    assert runtime_main(["check", str(made)]) == 0
    manifest = Artifact.open(made).manifest
    assert manifest.index.kind == kind
    assert manifest.index.effort == {"faiss-flat": 0, "faiss-ivfpq": 16}[kind]
    assert manifest.index.recall == report["quality"]["recall"] > 0.99
    stored = manifest.provenance["index"]
    assert stored["faiss"]
    assert stored["mean_score_change"] == report["quality"]["mean_score_change"]
    assert stored["patches"] == report["quality"]["patches"]
    photo = min(photos.iterdir())
    fast, slow = (Detector.load(folder).predict(photo) for folder in (made, exact))
    assert np.array_equal(fast.nearest_rows, slow.nearest_rows)
    assert fast.score == pytest.approx(slow.score, rel=1e-5)  # eq. 7 takes the stored neighbours
    assert index(made, "--kind", kind, *full, "--output", tmp_path / "again") == 0
    assert contents(tmp_path / "again") == contents(made)
    assert index(made, "--kind", "exact", "--output", tmp_path / "back") == 0
    assert contents(tmp_path / "back") == contents(exact)


@needs_faiss
def test_codes_that_move_scores_too_far_are_refused_and_the_way_out_is_named(
    photos, tmp_path, capsys
):
    exact = make_artifact(tmp_path / "exact", photos, tiny_config(coreset_ratio=0.9))
    poor = ["--kind", "faiss-ivfpq", "--nlist", 60, "--nprobe", 1, "--pq-m", 1]
    poor += ["--max-score-change", 0, "--output", tmp_path / "poor"]
    assert index(exact, *poor) == 1
    refusal = capsys.readouterr().err
    assert "expected image scores within 0 of the exact search's, got" in refusal
    assert "raise --nprobe or --pq-m, or use --kind exact; --force accepts it" in refusal
    assert not (tmp_path / "poor").exists()
    assert index(exact, *poor, "--force") == 0
    assert 0 < Artifact.open(tmp_path / "poor").manifest.index.recall < 1


@needs_faiss
def test_without_faiss_one_line_names_the_extra(tiny_artifact, tmp_path):
    made = tmp_path / "made"
    assert index(tiny_artifact, "--kind", "faiss-flat", "--output", made) == 0
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "faiss.py").write_text("raise ImportError('not built for this Python')\n")
    program = "import sys; sys.path[:0] = sys.argv[1:4]\n"
    program += "from patchcore_runtime.cli.main import main; sys.exit(main(sys.argv[4:]))"
    command = [sys.executable, "-c", program, str(absent), *SITE]
    done = subprocess.run([*command, "check", made], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "faiss is not installed here; pip install 'patchcore-runtime[faiss]'" in line
    assert "'patchcore-build[faiss]'" in line
    done = subprocess.run([*command, "check", made, "--search", "exact"], check=False)
    assert done.returncode == 0


@needs_faiss
def test_an_altered_index_is_refused_although_its_sum_fits(tiny_artifact, tmp_path, capsys):
    made = tmp_path / "made"
    assert index(tiny_artifact, "--kind", "faiss-flat", "--output", made) == 0
    content = bytearray((made / "index.faiss").read_bytes())
    content[-1] ^= 1
    (made / "index.faiss").write_bytes(content)
    image = str(made / "selftest.png")
    assert runtime_main(["score", str(made), image]) == 1
    assert "index.faiss: altered" in capsys.readouterr().err
    write_sums(made)
    assert runtime_main(["score", str(made), image]) == 1
    assert "expected the numbers of that row of memory_bank.bin" in capsys.readouterr().err
    assert runtime_main(["score", str(made), image, "--search", "exact"]) == 0


def test_a_damaged_artifact_is_refused_and_nothing_is_made(own_artifact, tmp_path, capsys):
    (own_artifact / "index.onnx").write_bytes(b"x")
    assert index(own_artifact, "--kind", "exact", "--output", tmp_path / "new") == 1
    assert "index.onnx: altered" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_output_that_exists_is_refused(tiny_artifact, tmp_path, capsys):
    assert index(tiny_artifact, "--kind", "exact", "--output", tmp_path) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "exact", "--m", "8"], "--kind exact takes none of --m"),
        (["--kind", "exact", "--force"], "--kind exact takes none of --force"),
        (["--kind", "hnsw", "--m", "1"], "expected 2 or more, got 1"),
        (["--kind", "hnsw", "--m", "1025"], "--m: expected 1024 or less"),
        (["--kind", "hnsw", "--ef", "65537"], "--ef: expected 65536 or less"),
        (["--kind", "hnsw", "--max-score-change", "1.5"], "expected 0 to 1, got '1.5'"),
        (["--kind", "faiss-flat", "--ef", "8"], "--kind faiss-flat takes none of --ef"),
        (["--kind", "hnsw", "--nlist", "8"], "--kind hnsw takes none of --nlist"),
        (["--kind", "faiss-ivfpq", "--m", "8", "--ef", "8"], "takes none of --m, --ef"),
        (["--kind", "faiss-ivfpq", "--nlist", "65537"], "--nlist: expected 65536 or less"),
        (["--kind", "faiss-ivfpq", "--pq-m", "0"], "expected 1 or more, got 0"),
    ],
)
def test_options_out_of_range_end_in_usage(options, message, capsys):
    with pytest.raises(SystemExit) as end:
        index("artifact", "--output", "new", *options)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_made_images_are_seeded_differ_and_keep_the_shape():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    first, again = (list(made_images(pixels, (28, 44, 36, 52), seed=3)) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first[0], pixels)
    assert {image.shape for image in first} == {pixels.shape}
    assert {image.dtype for image in first} == {pixels.dtype}
    assert len({image.tobytes() for image in first}) == 33


def test_given_images_are_taken_as_they_are_and_with_a_drawn_defect():
    given = list(np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), dtype=np.uint8))
    first, again = (list(with_drawn_defects(given, seed=3)) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first[::2], given)
    for plain, marked in zip(first[::2], first[1::2], strict=True):
        differs = (plain != marked).any(axis=2)
        rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
        assert len(rows) > 0
        assert np.ptp(rows) < 64 // 3 + 1  # one box, no side above a third
        assert np.ptp(columns) < 96 // 3 + 1
