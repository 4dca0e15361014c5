"""Results tables: means over seeds, the same categories on both sides, nothing invented."""

import csv
import statistics

import pytest

from patchcore_build.benchmark.benchmark import BenchmarkJob, BenchmarkRuns, Run
from patchcore_build.benchmark.published import MVTEC_AD, PUBLISHED
from patchcore_build.benchmark.results_table import results_dict, results_markdown, write_results
from patchcore_build.config import make_config


def _run(category, seed, image, pixel):
    return Run(
        category=category,
        seed=seed,
        figures={"image_auroc": image, "pixel_auroc": pixel},
        fit_seconds={"features": 2.0, "coreset": 1.0},
        ms_per_image=12.0,
    )


def _job(tmp_path, seeds=(0, 1)):
    return BenchmarkJob(
        dataset=tmp_path, output=tmp_path, config=make_config("paper"), weights=None, seeds=seeds
    )


def _table(tmp_path, *runs):
    return results_dict(_job(tmp_path), BenchmarkRuns(layout="mvtec", runs=runs))


def test_a_row_is_mean_and_deviation_over_seeds(tmp_path):
    table = _table(tmp_path, _run("bottle", 0, 0.9, 0.8), _run("bottle", 1, 1.0, 0.9))
    (row,) = table["categories"]
    assert row["image_auroc"]["mean"] == pytest.approx(0.95)
    assert row["image_auroc"]["std"] == pytest.approx(statistics.stdev([0.9, 1.0]))
    assert row["fit_s"] == 3.0
    assert "0.9500 ± 0.0707" in results_markdown(table)


def test_a_metric_that_does_not_exist_is_left_out_of_the_average_and_said(tmp_path):
    table = _table(tmp_path, _run("bottle", 0, 0.9, None), _run("cable", 0, 0.7, 0.6))
    assert table["average"]["image_auroc"] == pytest.approx(0.8)
    assert table["average"]["pixel_auroc"] == pytest.approx(0.6)
    page = results_markdown(table)
    assert "0.6000 (over 1)" in page
    assert "| bottle | 0.9000 | none |" in page


def test_published_averages_are_over_the_same_categories(tmp_path):
    table = _table(tmp_path, _run("screw", 0, 0.9, 0.9), _run("bottle", 0, 1.0, 0.9))
    ascend = table["published"][0]
    assert ascend["name"] == "MindSpore Models, Ascend 910"
    assert ascend["image_auroc_average"] == pytest.approx((0.9477 + 1.0) / 2)
    paper = next(row for row in table["published"] if row["name"].startswith("paper"))
    assert paper["image_auroc_average"] is None  # only its average over all fifteen is known
    assert "average of these 2" in results_markdown(table)


def test_other_data_sets_have_no_published_columns(tmp_path):
    assert "Published" not in results_markdown(_table(tmp_path, _run("tile7", 0, 1, 1)))


def test_categories_of_other_data_sets_stay_out_of_the_comparison(tmp_path):
    table = _table(tmp_path, _run("bottle", 0, 1.0, 0.9), _run("tile7", 0, 0.5, 0.5))
    assert list(table["published"][0]["image_auroc"]) == ["bottle"]
    page = results_markdown(table)
    assert "| **average of these 1** | 1.000 / 0.900 | 1.000 / 0.981 |" in page


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)
def test_published_averages_are_those_of_their_categories(run):
    for metric, average in (("image_auroc", run.image_average), ("pixel_auroc", run.pixel_average)):
        assert run.average(metric, MVTEC_AD) == pytest.approx(average, abs=6e-4)
        assert all(0.9 < figure <= 1 for figure in getattr(run, metric).values())


def test_the_csv_has_a_row_per_category_and_the_average(tmp_path):
    runs = BenchmarkRuns(layout="mvtec", runs=(_run("bottle", 0, 0.9, 0.8), _run("cable", 0, 1, 1)))
    assert write_results(_job(tmp_path), runs) == tmp_path / "results.md"
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["category"] for row in rows] == ["bottle", "cable", "average"]
    assert float(rows[2]["image_auroc_mean"]) == pytest.approx(0.95)
