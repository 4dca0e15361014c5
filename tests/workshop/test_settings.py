"""Laws of settings: an option that would do nothing is refused, by the API as by the command."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config
from patchcore_build import FitJob, evaluate, make_config
from patchcore_build.benchmark.benchmark import BenchmarkJob
from patchcore_build.cli.main import main
from patchcore_build.errors import SettingError
from patchcore_build.indexes.advise import AdviceJob
from patchcore_build.indexes.reindex import IndexJob
from patchcore_build.indexes.settings import IndexSettings
from patchcore_build.merge import merge
from patchcore_runtime import Detector, PatchCoreError


def job(**settings):
    """Return a job for images that nothing reads."""
    config = settings.pop("config", None) or make_config("full-frame", backbone="resnet18")
    whole = {"images": Path("in"), "category": "part", "output": Path("out"), "weights": None}
    return FitJob(**{**whole, "config": config, **settings})


def scattering():
    return make_config("full-frame", backbone="scattering")


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        (["--device-id", "3"], {"device_id": 3}, "--device-id: expected 0 on a CPU"),
        (
            ["--backbone", "scattering", "--weights", "F"],
            {"config": scattering(), "weights": "F"},
            "--weights: expected none for --backbone scattering",
        ),
        (["--force"], {"force": True}, "--force: expected --quantize int8 beside it"),
        ([], {"device": "tpu"}, "--device: expected one of cpu, ascend, gpu, got 'tpu'"),
        ([], {"drop_suspects": -1}, "--drop-suspects: expected auto, or 0 or more"),
        ([], {"drop_suspects": "all"}, "--drop-suspects: expected auto, or 0 or more"),
        ([], {"memory_budget_gb": float("nan")}, "--memory-budget-gb: expected a number"),
    ],
)
def test_a_fit_refuses_what_would_do_nothing(options, settings, message, capfd):
    with pytest.raises(SettingError) as caught:
        job(**settings)
    assert str(caught.value).startswith(message)
    if options:
        with pytest.raises(SystemExit) as left:
            main(["fit", "--normal", "in", "--output", "out", *options])
        assert left.value.code == 2
        assert message in capfd.readouterr().err.splitlines()[-1]


def test_a_benchmark_refuses_what_a_fit_refuses(tmp_path):
    whole = {"dataset": tmp_path, "output": tmp_path / "out"}
    for settings, message in (
        ({"config": scattering(), "weights": "F"}, "--weights"),
        ({"config": scattering(), "weights": None, "device_id": 3}, "--device-id"),
        ({"config": scattering(), "weights": None, "seeds": ()}, "--seeds"),
    ):
        with pytest.raises(SettingError, match=message):
            BenchmarkJob(**whole, **settings)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("full-frame", {"tile_overlap_px": 64}, "--overlap: expected --tile N beside it"),
        ("full-frame", {"tile_px": 0, "tile_overlap_px": 32}, "--overlap: expected --tile N"),
        ("paper", {"tile_px": 256}, "--tile: expected at most the longer side of the input"),
        (
            "paper",
            {"image_score": "mean"},
            "image_score: expected one of max, map, paper, modelzoo",
        ),
        ("paper", {"precision": "fp8"}, "precision: expected one of fp32, fp16"),
        ("paper", {"folds": 2.5}, "folds: expected a whole number, got 2.5"),
    ],
)
def test_a_config_refuses_what_would_do_nothing(recipe, settings, message):
    with pytest.raises(SettingError) as caught:
        make_config(recipe, **settings)
    assert str(caught.value).startswith(message)


def test_a_tile_larger_than_the_input_is_refused_when_the_images_are_known(tmp_path, photos):
    with pytest.raises(PatchCoreError, match=r"--tile: .* 64 x 96 px, or a larger --resize-px"):
        make_artifact(tmp_path / "out", photos, tiny_config(tile_px=128))


@pytest.mark.parametrize(
    "settings",
    [{"kind": "fast"}, {"kind": "exact", "links": 8}, {"kind": "hnsw", "cells": 4},
     {"kind": "faiss-flat", "effort": 9}, {"kind": "hnsw", "effort": 0}],
)  # fmt: skip
def test_an_index_refuses_settings_of_another_kind(settings):
    with pytest.raises(SettingError):
        IndexSettings(**settings)


def test_every_function_with_threads_refuses_none(tmp_path):
    exact = IndexSettings(kind="exact")
    for call in (
        lambda: AdviceJob(artifact=tmp_path, threads=0),
        lambda: IndexJob(artifact=tmp_path, output=tmp_path / "o", settings=exact, threads=0),
        lambda: merge(tmp_path, tmp_path, tmp_path / "o", threads=0),
    ):
        with pytest.raises(SettingError, match=r"^threads: "):
            call()


def test_an_artifact_is_not_merged_with_itself(tiny_artifact, tmp_path):
    with pytest.raises(PatchCoreError, match="expected another artifact than"):
        merge(tiny_artifact, tiny_artifact, tmp_path / "out")


@pytest.fixture
def two_categories(tmp_path):
    for category in ("stripes", "dots"):
        for kind in ("good", "dent"):
            folder = tmp_path / "set" / category / "test" / kind
            folder.mkdir(parents=True)
            Image.fromarray(np.ascontiguousarray(striped_photo(5))).save(folder / "000.png")
    return tmp_path / "set"


def test_an_artifact_of_one_category_is_evaluated_on_another_only_on_request(
    tiny_artifact, two_categories, capfd
):
    command = ["evaluate", str(tiny_artifact), "--dataset", str(two_categories)]
    assert main([*command, "--category", "dots"]) == 1
    said = capfd.readouterr().err
    assert "--category dots: expected stripes, on which the artifact was trained" in said
    with pytest.raises(SettingError):
        evaluate(Detector.load(tiny_artifact, threads=1), two_categories, "dots")
    assert main([*command, "--category", "dots", "--other-category"]) == 0
    assert "note: the artifact was trained on 'stripes'" in capfd.readouterr().out
    assert main([*command, "--category", "stripes"]) == 0
    assert "the artifact was trained on" not in capfd.readouterr().out
