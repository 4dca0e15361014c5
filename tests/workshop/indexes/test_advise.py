"""Laws of `patchcore-build advise`: all is measured, the least change within limits chosen."""

import dataclasses
import json

import numpy as np
import pytest

from artifact_factory import make_artifact, tiny_config
from faiss_cases import needs_faiss
from hnsw_cases import needs_hnswlib
from masks import write_mask
from patchcore_build.cli.main import main
from patchcore_build.indexes.advise import AdviceJob, Option, choose
from patchcore_build.indexes.entries import first_rows, list_entries
from patchcore_build.indexes.reindex import MAX_SCORE_CHANGE
from patchcore_runtime import Artifact
from patchcore_runtime.bank.memory_bank import MemoryBank

BOX = (20, 10, 60, 100)  # top, left, bottom, right on a photograph of 80 x 120 px
FIELDS = [field.name for field in dataclasses.fields(MemoryBank)]


def option(kind="exact", *, ms=10.0, mb=5.0, change=0.0, rows=100, ratio=None):
    return Option(
        kind=kind, rows=rows, coreset_ratio=ratio, image_ms=ms, search_ms=ms / 2,
        artifact_mb=mb, recall=1.0, largest_score_change=change,
    )  # fmt: skip


def job(**limits):
    return AdviceJob(artifact="artifact", **limits)


def test_without_limits_the_exact_search_of_the_whole_bank_is_chosen():
    exact, smaller = option(), option(ms=1, rows=10, ratio=0.01)
    assert choose(job(), (exact, option("hnsw", ms=1, change=1e-3), smaller)) is exact


def test_of_what_keeps_to_the_limits_the_least_change_is_chosen_then_the_fastest():
    slow, near, far = option(ms=30), option("hnsw", change=1e-4), option("faiss-flat", change=2e-4)
    assert choose(job(target_ms=20), (slow, far, near)) is near
    faster = dataclasses.replace(near, kind="faiss-ivfpq", image_ms=9.0)
    assert choose(job(target_ms=20), (slow, far, near, faster)) is faster
    large = dataclasses.replace(faster, artifact_mb=50)
    assert choose(job(target_ms=20, max_mb=10), (slow, far, near, large)) is near


def test_an_index_that_moves_scores_too_far_is_never_chosen():
    just = option("hnsw", change=MAX_SCORE_CHANGE)
    beyond = option("hnsw", change=MAX_SCORE_CHANGE * 1.001)
    assert choose(job(target_ms=20), (option(ms=30), just)) is just
    assert choose(job(target_ms=20), (option(ms=30), beyond)) is None


def test_a_smaller_bank_is_chosen_only_where_no_index_keeps_to_the_limits_and_then_the_largest():
    half, tenth = option(rows=50, ratio=0.5, change=3), option(rows=10, ratio=0.1, change=9)
    assert choose(job(target_ms=20), (option(ms=30), tenth, half)) is half
    assert choose(job(target_ms=20), (option(ms=20), tenth, half)).rows == 100


def test_the_first_rows_of_a_bank_are_the_bank_of_a_smaller_ratio(photos, tmp_path):
    large, small = (
        Artifact.open(make_artifact(tmp_path / name, photos, tiny_config(coreset_ratio=ratio)))
        for name, ratio in (("large", 0.4), ("small", 0.1))
    )
    fitted = small.memory_bank
    taken = first_rows(large.memory_bank, fitted.rows)
    for name in FIELDS:
        one, other = ([*part] if name == "layers" else [part] for part in (
            getattr(taken, name), getattr(fitted, name)))  # fmt: skip
        assert all(map(np.array_equal, one, other)), name


@pytest.fixture(scope="module")
def larger(tmp_path_factory, photos):
    """A bank of 518 rows, enough for every kind of index."""
    folder = tmp_path_factory.mktemp("larger") / "stripes"
    return make_artifact(folder, photos, tiny_config(coreset_ratio=0.9))


def test_the_size_of_a_smaller_bank_is_that_of_a_fit_with_its_ratio(larger, photos, tmp_path):
    entries, _ = list_entries(Artifact.open(larger), tmp_path)
    half = next(entry for entry in entries if entry.coreset_ratio is not None)
    assert half.coreset_ratio == pytest.approx(0.45)
    config = tiny_config(coreset_ratio=half.coreset_ratio)
    fitted = Artifact.open(make_artifact(tmp_path / "fitted", photos, config))
    assert fitted.memory_bank.rows == half.bank.rows == 259
    size = sum(fitted.path(name).stat().st_size for name in fitted.files) / 1e6
    assert half.artifact_mb == pytest.approx(size, rel=0.01)  # the manifest's numbers differ


@pytest.mark.parametrize(
    ("overrides", "box"),
    [
        ({"tile_px": 64, "tile_overlap_px": 16}, None),  # 1 x 2 tiles, which overlap
        ({}, BOX),
        ({"tile_px": 64, "tile_overlap_px": 16}, BOX),
    ],
)
def test_tiles_and_a_region_leave_a_bank_its_smaller_ones(overrides, box, photos, tmp_path):
    roi = None if box is None else write_mask(tmp_path / "mask.png", box)
    config = tiny_config(coreset_ratio=0.3, **overrides)
    artifact = Artifact.open(make_artifact(tmp_path / "stripes", photos, config, roi=roi))
    assert artifact.manifest.grid.tiles == (2 if overrides else 1)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    entries, left_out = list_entries(artifact, scratch)
    rows = [entry.bank.rows for entry in entries if entry.coreset_ratio is not None]
    assert rows == [round(share * artifact.memory_bank.rows) for share in (0.5, 0.25, 0.1)]
    assert not [line for line in left_out if line.startswith("smaller banks")]


@needs_faiss
@needs_hnswlib
def test_every_kind_and_smaller_banks_are_measured_and_shown(larger, capsys):
    assert main(["advise", str(larger), "--json", "--max-mb", "100"]) == 0
    advice = json.loads(capsys.readouterr().out)
    options = advice["options"]
    kinds = [entry["kind"] for entry in options if entry["coreset_ratio"] is None]
    assert kinds == ["exact", "hnsw", "faiss-flat", "faiss-ivfpq"]
    assert [entry["rows"] for entry in options[4:]] == [259, 130, 52]
    assert advice["left_out"] == []
    assert options[0]["recall"] == 1
    assert options[0]["largest_score_change"] == 0
    assert options[4]["largest_score_change"] > 0
    for entry in options:
        assert 0 < entry["search_ms"] < entry["image_ms"]
        assert 0 < entry["artifact_mb"] < 100
    assert advice["recommended"]["kind"] in kinds
    assert main(["advise", str(larger)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["index", "rows"]
    assert len([line for line in lines if line.split()[1:2] == ["518"]]) == 4
    assert lines[-1].startswith("command: ")


@needs_hnswlib
def test_a_limit_that_nothing_meets_is_said_and_the_exit_code_is_one(tiny_artifact, capsys):
    assert main(["advise", str(tiny_artifact), "--target-ms", "0.0001"]) == 1
    out = capsys.readouterr().out
    assert "No option measured here meets 0.0001 ms an image; the fastest is" in out
    assert "left out: faiss-ivfpq: expected 256 bank rows or more" in out


@needs_faiss
def test_the_kind_that_the_artifact_has_needs_no_command(larger, tmp_path, capsys, photos):
    made = tmp_path / "made"
    command = ["index", str(larger), "--kind", "faiss-flat", "--output", str(made)]
    assert main(command) == 0
    assert main(["advise", str(made), "--images", str(photos), "--json"]) == 0
    advice = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert advice["measured_on"].startswith("the self-test image and 6 given ones")
    if advice["recommended"]["kind"] == "faiss-flat":
        assert advice["command"] == ""
    else:
        assert f"--kind {advice['recommended']['kind']}" in advice["command"]


def test_a_bank_that_is_no_plain_coreset_has_no_smaller_ones(own_artifact, tmp_path):
    path = own_artifact / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["config"]["coreset_ratio"] = 0.5
    path.write_text(json.dumps(document), encoding="utf-8")
    entries, left_out = list_entries(Artifact.open(own_artifact, verify=False), tmp_path)
    assert all(entry.coreset_ratio is None for entry in entries)
    assert left_out[-1] == "smaller banks: this bank's rows are not the coreset of its settings"


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "x"])
def test_limits_are_numbers_above_zero(limit, capsys):
    with pytest.raises(SystemExit) as end:
        main(["advise", "artifact", f"--target-ms={limit}"])
    assert end.value.code == 2
    assert "--target-ms" in capsys.readouterr().err
