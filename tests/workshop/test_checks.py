"""Laws of long work: outputs, weights and options are refused before it begins.

The images or artifacts of these calls do not exist, so work that began would be refused for them.
"""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from patchcore_build import FitJob, fit, make_config
from patchcore_build.benchmark.benchmark import BenchmarkJob, run_benchmark
from patchcore_build.cli.main import main
from patchcore_build.errors import DatasetError, OutputError, WeightsError
from patchcore_build.indexes.reindex import IndexJob, change_index
from patchcore_build.indexes.settings import IndexSettings
from patchcore_build.merge import merge
from patchcore_runtime.edit.forget import forget
from patchcore_runtime.edit.learn import learn
from patchcore_runtime.errors import ImageError, PatchCoreError
from patchcore_runtime.files.whole import check_writable

UNWRITABLE = [
    pytest.param("file/out", id="below a file"),
    pytest.param("taken", id="exists"),
    pytest.param("link", id="a link to nothing"),
    pytest.param(
        "/proc/x/out", id="/proc",
        marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc"),
    ),
]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """A folder with a file, a folder and a link where outputs should be."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "taken").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    return tmp_path


def unread(place, **changes):
    config = make_config("full-frame", backbone="scattering")
    given = {"category": "part", "output": place / "out", "config": config, "weights": None}
    return FitJob(**{**given, "images": place / "no images", **changes})


def refuse(error, message, call):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", UNWRITABLE)
def test_an_output_that_cannot_be_made_is_refused_by_every_function(output, place):
    absent, target = place / "no artifact", place / output
    before = sorted(place.rglob("*"))
    exact = IndexSettings(kind="exact")
    for call in (
        lambda: fit(unread(place, output=target)),
        lambda: merge(absent, absent, target),
        lambda: learn(absent, [absent], target),
        lambda: forget(absent, "0", target),
        lambda: change_index(IndexJob(artifact=absent, output=target, settings=exact)),
    ):
        refuse(OutputError, "exists already|cannot be written", call)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"review": "file/x"}, OutputError, "x: cannot be written"),
        ({"review": "taken"}, OutputError, r"suspects\.html: expected a file or nothing"),
        ({"checkpoints": "file/x"}, OutputError, "x: cannot be created"),
        ({"groups": "("}, DatasetError, "expected a regular expression"),
        ({"roi": "no mask.png"}, ImageError, "no mask"),
        ({"roi": "0,0 2,0 1,1"}, ImageError, "expected three or more corners"),
        ({"weights": "no.pth"}, WeightsError, "cannot be read"),
        ({"weights": None}, WeightsError, "expected --weights FILE"),
    ],
)
def test_an_option_of_a_fit_is_refused_before_any_image_is_looked_for(
    changes, error, message, place
):
    (place / "taken" / "suspects.html").mkdir()
    if "weights" in changes:
        changes = {**changes, "config": make_config("full-frame", backbone="resnet18")}
    paths = {
        name: place / value if name in ("review", "checkpoints") else value
        for name, value in changes.items()
    }
    before = sorted(place.rglob("*"))
    refuse(error, message, lambda: fit(unread(place, **paths)))
    assert sorted(place.rglob("*")) == before


def test_the_weights_of_a_fit_are_matched_before_any_image_is_looked_for(place):
    path = place / "other.safetensors"
    safetensors.numpy.save_file({"conv1.weight": np.zeros((1, 2), np.float32)}, path)
    config = make_config("full-frame", backbone="resnet18")
    job = unread(place, config=config, weights=str(path))
    refuse(WeightsError, "does not fit the backbone", lambda: fit(job))


def test_wrong_weights_end_a_benchmark_once_and_leave_its_folder_usable(place):
    for category in ("a", "b"):
        (place / "set" / category / "train" / "good").mkdir(parents=True)
    job = BenchmarkJob(
        dataset=place / "set",
        output=place / "out",
        config=make_config("full-frame", backbone="resnet18"),
        weights=str(place / "no.pth"),
    )
    told = []
    refuse(WeightsError, r"no\.pth", lambda: run_benchmark(job, tell=told.append))
    assert told == []
    assert not (place / "out").exists()


def test_settings_without_a_finished_run_are_replaced(place):
    (place / "set" / "a" / "train" / "good").mkdir(parents=True)
    for ratio in (0.01, 0.02):  # each run fails, because the category has no images
        config = make_config("full-frame", backbone="scattering", coreset_ratio=ratio)
        job = BenchmarkJob(dataset=place / "set", output=place / "out", config=config, weights=None)
        assert len(run_benchmark(job, tell=lambda _: None).failed) == 1


@pytest.mark.parametrize("name", ["report.json", "report.html", "sheet.png"])
def test_an_evaluation_refuses_its_output_before_it_opens_the_artifact(name, place, capfd):
    (place / "out" / name).mkdir(parents=True)
    command = ["evaluate", str(place / "none"), "--dataset", str(place), "--output"]
    for output, message in ((place / "out", name), (place / "file" / "x", "cannot be written")):
        assert main([*command, str(output)]) == 1
        assert message in capfd.readouterr().err


def test_a_conversion_refuses_its_target_before_it_reads_the_weights(place, capfd):
    for target in (place / "file" / "a.ckpt", place / "a.bin"):
        assert main(["convert-weights", str(place / "none.pth"), str(target)]) == 1
        said = capfd.readouterr().err
        assert "none.pth" not in said
        assert said.count("\n") == 1


def test_the_check_of_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PatchCoreError):
        check_writable(Path("/dev/null/x"))
