"""Laws of `fit --dry-run`: true counts, estimates from a real sample, and nothing on the disk."""

import dataclasses
import math

import pytest

from artifact_factory import tiny_config, write_photos
from patchcore_build.cli.main import main
from patchcore_build.errors import OutputError
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_build.fitting.plan import plan_fit


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = write_photos(tmp_path_factory.mktemp("plan") / "photos", 30)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"junk")
    return folder


@pytest.fixture(scope="module")
def job(photos):
    config = tiny_config(backbone="scattering")
    return FitJob(
        images=photos, category="stripes", config=config, weights=None, skip_bad=True,
        output=photos.parent / "artifact",
    )  # fmt: skip


@pytest.fixture(scope="module")
def plan(job):
    return plan_fit(job)


def test_the_counts_are_those_of_the_fit(job, plan):
    report = fit(job)
    assert (plan.images, plan.input_size, plan.tiles) == (30, report.input_size, report.tiles)
    assert (plan.rows, plan.left_out) == (report.rows, report.left_out)
    assert len(plan.skipped) == len(report.skipped) == 1
    height, width = report.input_size
    assert plan.patches == 30 * (height // 8) * (width // 8)
    assert plan.seconds.keys() == report.seconds.keys()


def test_a_sample_of_the_images_is_fitted_and_nothing_remains(job, plan, photos):
    assert 2 <= plan.sample <= 24
    assert plan.total_seconds == pytest.approx(math.fsum(plan.seconds.values()))
    assert plan.memory_bytes > 10**8
    assert plan.scratch_bytes == 0
    tight = dataclasses.replace(job, memory_budget_gb=0.0, output=photos.parent / "another")
    assert plan_fit(tight).scratch_bytes > 0
    assert not (photos.parent / "another").exists()


def test_it_refuses_what_the_fit_would_refuse(job, photos, capsys):
    taken = dataclasses.replace(job, output=photos)
    with pytest.raises(OutputError):
        plan_fit(taken)
    command = ["fit", "--normal", str(photos), "--output", str(photos / "new"), "--dry-run"]
    assert main([*command, "--weights", "absent.pth"]) == 1
    assert "absent.pth" in capsys.readouterr().err
    assert not (photos / "new").exists()
