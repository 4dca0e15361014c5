"""Laws of `fit --dry-run`: true counts, estimates from a real sample, and nothing on the disk."""

import dataclasses
import math
from pathlib import Path

import pytest

from artifact_factory import tiny_config, write_photos
from patchcore_build.cli.main import main
from patchcore_build.errors import DatasetError, OutputError, SettingError
from patchcore_build.fitting import plan as planning
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_build.fitting.plan import plan_fit
from patchcore_build.weights.download import cached_weights
from patchcore_runtime.errors import ImageError, SignatureError

LEFT_HALF = "0,0 0.5,0 0.5,1 0,1"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = write_photos(tmp_path_factory.mktemp("plan") / "photos", 30)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"junk")
    return folder


@pytest.fixture(scope="module")
def job(photos):
    config = tiny_config(tile_px=64, tile_overlap_px=32)
    return FitJob(
        images=photos, category="stripes", config=config, weights="random",
        skip_bad=True, roi=LEFT_HALF, drop_suspects=2, memory_budget_gb=0.0,
        output=photos.parent / "artifact",
    )  # fmt: skip


@pytest.fixture(scope="module")
def plan(job):
    before = files_in(job.output.parent)
    plan = plan_fit(job)
    assert files_in(job.output.parent) == before
    return plan


def files_in(folder):
    """Every path below a folder."""
    return sorted(folder.rglob("*"))


def test_the_counts_are_those_of_the_fit(job, plan):
    report = fit(job)
    assert plan.tiles > 1
    assert plan.region_share == report.region_share < 1
    assert (plan.images, plan.input_size, plan.tiles) == (28, report.input_size, report.tiles)
    assert (plan.rows, plan.left_out) == (report.rows, report.left_out)
    assert plan.skipped == report.skipped
    assert len(plan.skipped) == 1
    assert plan.seconds.keys() == report.seconds.keys()
    size = sum(path.stat().st_size for path in report.artifact.iterdir())
    assert plan.artifact_bytes == pytest.approx(size, rel=0.1)


def test_a_sample_of_the_images_is_fitted(plan):
    assert planning._FEWEST_IMAGES <= plan.sample <= planning._MOST_IMAGES < plan.images
    assert plan.total_seconds == pytest.approx(math.fsum(plan.seconds.values()))
    assert plan.memory_bytes > 10**8
    layers = plan.patches * 4 * (128 + 256 / 4)  # bytes, on their own grids; no memory holds them
    assert plan.scratch_bytes > layers


@pytest.mark.parametrize("count", [2, 5, 24, 25, 30, 49, 200, 1001])
def test_the_sample_has_the_median_of_all_images(count):
    images = tuple(range(count))
    for most in (4, 7, 24):
        sample = planning.spread(images, most)
        assert len(sample) <= most
        assert sample[len(sample) // 2] == images[count // 2]
        assert len(set(sample)) == len(sample) > min(count, most) // 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"skip_bad": False}, ImageError),
        ({"groups": "(nowhere)"}, DatasetError),
        ({"roi": "0,0 0,0 0,0"}, ImageError),
        ({"roi": "absent.png"}, ImageError),
        ({"config": tiny_config(tile_px=1024)}, SettingError),
        ({"sign": Path("absent.pem")}, SignatureError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_it_refuses_what_the_fit_refuses_and_in_the_same_words(job, change, error):
    job = dataclasses.replace(job, output=job.output.parent / "new", **change)
    said = []
    for command in (plan_fit, fit):
        with pytest.raises(error) as caught:
            command(job)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert not job.output.exists()


def test_it_refuses_to_leave_out_too_many_images_at_once(job):
    greedy = dataclasses.replace(job, drop_suspects=29, output=job.output.parent / "new")
    with pytest.raises(DatasetError, match="the 30 images to remain; drop 28 at most"):
        plan_fit(greedy)


def test_it_refuses_a_folder_that_exists_and_unknown_weights(job, photos, capsys):
    with pytest.raises(OutputError):
        plan_fit(dataclasses.replace(job, output=photos))
    command = ["fit", "--normal", str(photos), "--output", str(photos / "new"), "--dry-run"]
    assert main([*command, "--weights", "absent.pth"]) == 1
    assert "absent.pth" in capsys.readouterr().err
    assert not (photos / "new").exists()


def test_weights_that_are_not_downloaded_are_random_in_the_sample(
    tmp_path, photos, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fake = tmp_path / "cache" / "patchcore" / "weights" / "resnet18-f37072fd.pth"
    fake.parent.mkdir(parents=True)
    fake.write_bytes(b"another file")
    assert cached_weights("resnet18", cache=fake.parent) is None
    command = [
        "fit", "--normal", str(photos), "--output", str(tmp_path / "new"), "--dry-run",
        "--skip-bad", "--backbone", "resnet18", "--weights", "auto", "--resize-px", "64",
    ]  # fmt: skip
    before = files_in(tmp_path)
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "weights: not downloaded yet" in said
    assert said.endswith("nothing was written\n")
    assert files_in(tmp_path) == before
