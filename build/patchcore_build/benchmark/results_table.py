"""Runs of a benchmark -> results.json, results.csv and results.md, with published figures.

Figures are means over seeds; with several seeds, the standard deviation is given as well. Averages
of our figures and of published ones are over the same categories.
"""

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from patchcore_build.benchmark.benchmark import BenchmarkJob, BenchmarkRuns, Run
from patchcore_build.benchmark.machine import describe_machine
from patchcore_build.benchmark.published import MVTEC_AD, PUBLISHED, Published
from patchcore_runtime.files.whole import write_whole

METRICS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "aupro_030_all_images": "AUPRO 0.30, all images",
    "aupro_005_all_images": "AUPRO 0.05, all images",
    "image_average_precision": "image AP",
    "pixel_average_precision": "pixel AP",
}
AVERAGE = "average"


def write_results(job: BenchmarkJob, result: BenchmarkRuns) -> Path:
    """Write the three files into the output folder, and return the path of results.md."""
    table = results_dict(job, result)
    write_whole(job.output / "results.json", json.dumps(table, indent=2).encode() + b"\n")
    write_whole(job.output / "results.csv", _csv(table).encode())
    path = job.output / "results.md"
    write_whole(path, results_markdown(table).encode())
    return path


def results_dict(job: BenchmarkJob, result: BenchmarkRuns) -> dict[str, Any]:
    """The content of the tables, and every run, as plain data."""
    categories = list(dict.fromkeys(run.category for run in result.runs))
    rows = [_row(c, [r for r in result.runs if r.category == c]) for c in categories]
    measured = [row for row in rows if row["seeds"]]
    known = [row["category"] for row in measured if row["category"] in MVTEC_AD]
    return {
        "settings": {
            "recipe": job.config.recipe,
            "backbone": job.config.backbone,
            "coreset_ratio": job.config.coreset_ratio,
            "weights": Path(job.weights).name if job.weights else None,
            "seeds": list(job.seeds),
            "layout": result.layout,
        },
        "machine": describe_machine(),
        "categories": rows,
        AVERAGE: _average(measured),
        "published": [_published(published, known) for published in PUBLISHED],
        "failed": [asdict(run) for run in result.failed],
        "runs": [asdict(run) for run in result.runs if run.error is None],
    }


def _row(category: str, runs: Sequence[Run]) -> dict[str, Any]:
    """One category: mean and standard deviation of each metric over the finished seeds."""
    done = [run for run in runs if run.error is None]
    row: dict[str, Any] = {"category": category, "seeds": [run.seed for run in done]}
    for metric in METRICS:
        values = [run.figures[metric] for run in done if run.figures.get(metric) is not None]
        row[metric] = _mean_and_deviation(values)
    row["fit_s"] = _mean([sum(run.fit_seconds.values()) for run in done])
    row["fit_stages_s"] = {
        stage: _mean([run.fit_seconds[stage] for run in done])
        for stage in (done[0].fit_seconds if done else ())
    }
    row["ms_per_image"] = _mean([run.ms_per_image for run in done if run.ms_per_image])
    return row


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": _mean(values), "std": deviation}


def _average(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean of each metric over categories, and the number of categories that have it."""
    averages: dict[str, Any] = {"categories": len(rows)}
    for metric in METRICS:
        values = [row[metric]["mean"] for row in rows if row[metric]["mean"] is not None]
        averages[metric] = _mean(values)
        averages[f"{metric}_over"] = len(values)
    return averages


def _published(published: Published, categories: Sequence[str]) -> dict[str, Any]:
    """One published run on the categories of our benchmark."""
    row: dict[str, Any] = {"name": published.name, "source": published.source}
    for metric in ("image_auroc", "pixel_auroc"):
        figures = getattr(published, metric)
        row[metric] = {category: figures.get(category) for category in categories}
        row[f"{metric}_average"] = published.average(metric, categories)
    return row


def _csv(table: dict[str, Any]) -> str:
    file = io.StringIO()
    columns = ["category", "seeds"]
    columns += [f"{metric}_{part}" for metric in METRICS for part in ("mean", "std")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, "fit_s", "ms_per_image"])
    for row in table["categories"]:
        figures = [row[metric][part] for metric in METRICS for part in ("mean", "std")]
        seeds = " ".join(map(str, row["seeds"]))
        writer.writerow([row["category"], seeds, *figures, row["fit_s"], row["ms_per_image"]])
    averages = [figure for metric in METRICS for figure in (table[AVERAGE][metric], None)]
    writer.writerow([AVERAGE, "", *averages, None, None])
    return file.getvalue()


def results_markdown(table: dict[str, Any]) -> str:
    """The tables as Markdown: our figures, then published figures of the same categories."""
    settings, machine = table["settings"], table["machine"]
    seeds = ", ".join(map(str, settings["seeds"]))
    title = f"# {settings['backbone']}, recipe {settings['recipe']}"
    ratio = f"{100 * settings['coreset_ratio']:g} % coreset"
    made = f"Written by `patchcore-build benchmark`, {machine['date']}"
    where = f"{machine['processor']}, {machine['cores']} cores"
    versions = f"MindSpore {machine['mindspore']}, onnxruntime {machine['onnxruntime']}"
    lines = [
        f"{title}, {ratio}",
        "",
        f"{made}; layout {settings['layout']}; weights {settings['weights']}; seeds {seeds}.",
        f"Machine: {where}; {versions}.",
        "",
        *_own_table(table),
    ]
    if any(row["image_auroc"] for row in table["published"]):
        lines += ["", *_published_table(table)]
    if table["failed"]:
        lines += ["", "## Failed", ""]
        lines += [f"- {r['category']}, seed {r['seed']}: {r['error']}" for r in table["failed"]]
    return "\n".join(lines) + "\n"


def _own_table(table: dict[str, Any]) -> list[str]:
    head = ["category", *METRICS.values(), "fit s", "ms per image"]
    lines = [_line(head), "|---|" + "--:|" * (len(head) - 1)]
    for row in table["categories"]:
        cells = [_figure(row[metric]["mean"], row[metric]["std"]) for metric in METRICS]
        times = [_time(row["fit_s"]), _time(row["ms_per_image"])]
        lines.append(_line([row["category"], *cells, *times]))
    averages = [
        _figure(table[AVERAGE][metric], None)
        + ("" if full else f" (over {table[AVERAGE][f'{metric}_over']})")
        for metric in METRICS
        for full in [table[AVERAGE][f"{metric}_over"] == table[AVERAGE]["categories"]]
    ]
    count = table[AVERAGE]["categories"]
    return [*lines, _line([f"**average of {count}**", *averages, "", ""])]


def _published_table(table: dict[str, Any]) -> list[str]:
    rows = table["published"]
    categories = list(rows[0]["image_auroc"])
    ours = {row["category"]: row for row in table["categories"]}
    same = f"over the same {len(categories)} of its categories"
    lines = [
        f"## Published on MVTec AD, {same}: image / pixel AUROC",
        "",
        _line(["category", "here", *(row["name"] for row in rows)]),
        "|---|" + "--:|" * (len(rows) + 1),
    ]
    for category in categories:
        here = [ours[category][metric]["mean"] for metric in ("image_auroc", "pixel_auroc")]
        others = [_pair(r["image_auroc"][category], r["pixel_auroc"][category]) for r in rows]
        lines.append(_line([category, _pair(*here), *others]))
    averages = [_pair(r["image_auroc_average"], r["pixel_auroc_average"]) for r in rows]
    average = _average([ours[category] for category in categories])
    here = [average[metric] for metric in ("image_auroc", "pixel_auroc")]
    lines.append(_line([f"**average of these {len(categories)}**", _pair(*here), *averages]))
    return [*lines, "", *(f"- {row['name']}: {row['source']}" for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "none"
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _time(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _pair(image: float | None, pixel: float | None) -> str:
    return f"{_short(image)} / {_short(pixel)}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
