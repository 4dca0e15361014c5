"""The benchmark runs every category once, goes on where it was ended, and survives a bad one."""

import json
import shutil

import pytest

from patchcore_build.benchmark.benchmark import BenchmarkJob, run_benchmark
from patchcore_build.benchmark.results_table import write_results
from patchcore_build.cli.main import main as cli
from patchcore_build.config import make_config
from patchcore_build.data.demo import write_demo_dataset
from patchcore_build.errors import DatasetError, OutputError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two small good categories and one whose training images cannot be read."""
    root = tmp_path_factory.mktemp("data")
    for seed, category in enumerate(("nut", "plate")):
        write_demo_dataset(
            root, seed=seed, train=6, test_good=2, per_defect=1, size_px=64, category=category
        )
    shutil.copytree(root / "nut", root / "broken")
    for image in (root / "broken" / "train" / "good").iterdir():
        image.write_bytes(b"no image")
    return root


def _job(dataset, output, **changes):
    settings = {
        "dataset": dataset,
        "output": output,
        "config": make_config("full-frame", backbone="resnet18", resize_px=64),
        "weights": "random",
    }
    return BenchmarkJob(**{**settings, **changes})


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A whole run: job, result and the lines it told."""
    job = _job(dataset, tmp_path_factory.mktemp("out") / "all", seeds=(0, 1))
    told = []
    result = run_benchmark(job, tell=told.append)
    write_results(job, result)
    return job, result, told


def test_a_failing_category_is_named_and_stops_no_other(finished):
    job, result, told = finished
    assert [(run.category, run.seed) for run in result.failed] == [("broken", 0), ("broken", 1)]
    assert "not a readable image" in result.failed[0].error
    assert any("broken, seed 0: FAILED" in line for line in told)
    table = json.loads((job.output / "results.json").read_text())
    assert [row["category"] for row in table["categories"]] == ["broken", "nut", "plate"]
    assert table["categories"][0]["image_auroc"] == {"mean": None, "std": None}
    assert [row["seeds"] for row in table["categories"]] == [[], [0, 1], [0, 1]]
    assert table["average"]["categories"] == 2


def test_a_second_run_does_only_what_is_missing(finished):
    job, _, _ = finished
    (job.output / "runs" / "plate" / "seed-1.json").unlink()
    kept = {path: path.read_bytes() for path in (job.output / "runs").rglob("*.json")}
    told = []
    result = run_benchmark(
        _job(job.dataset, job.output, seeds=(0, 1), categories=("nut", "plate")), tell=told.append
    )
    assert told == ["plate, seed 1 …"]
    assert not result.failed
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert (job.output / "runs" / "plate" / "seed-1.json").is_file()


def test_a_half_made_artifact_of_an_ended_run_is_made_again(dataset, tmp_path):
    job = _job(dataset, tmp_path / "out", categories=("nut",), keep_artifacts=True)
    artifact = tmp_path / "out" / "artifacts" / "nut-seed-0"
    artifact.mkdir(parents=True)
    (artifact / "rubbish").touch()
    assert not run_benchmark(job, tell=print).failed
    assert not (artifact / "rubbish").exists()
    assert (artifact / "manifest.json").is_file()


def test_artifacts_are_removed_and_reports_kept(finished):
    job, _, _ = finished
    assert not list((job.output / "artifacts").iterdir())
    assert (job.output / "reports" / "nut" / "report.html").is_file()


def test_results_of_other_settings_are_not_mixed_in(finished):
    job, _, _ = finished
    other = _job(job.dataset, job.output, config=make_config("paper", backbone="resnet18"))
    with pytest.raises(OutputError, match=r"settings.json: recipe: .*'full-frame'.*'paper'"):
        run_benchmark(other, tell=print)


def test_an_unknown_category_is_refused_with_those_there_are(dataset, tmp_path):
    job = _job(dataset, tmp_path / "out", categories=("nut", "bolt"))
    with pytest.raises(DatasetError, match="no category bolt; it has broken, nut, plate"):
        run_benchmark(job, tell=print)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_table_and_fails_for_a_failed_category(finished, capsys):
    job, _, _ = finished
    code = cli(
        [
            *("benchmark", "--dataset", str(job.dataset), "--output", str(job.output)),
            *("--backbone", "resnet18", "--weights", "random", "--resize-px", "64"),
        ]
    )
    captured = capsys.readouterr()
    assert code == 1
    assert "| nut |" in captured.out
    assert "| broken | none |" in captured.out
    assert "patchcore-build: broken, seed 0:" in captured.err
