"""Measure fitting and scoring on this machine -> benchmarks/results.md and results.json.

    python benchmarks/run.py [--shared DIR]

Fit: seconds per stage and peak memory, each case in a process of its own. Score: every stage of
`Detector.predict` against the bare onnxruntime time of features.onnx, interleaved in one run, as a
ratio. Without --shared (real pictures and weights) the demo's pictures stand in.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patchcore_build.demo import write_demo_dataset
from patchcore_build.machine import describe_machine
from patchcore_runtime import Detector
from patchcore_runtime.artifact import FEATURES_ONNX
from patchcore_runtime.preprocess import fit_to_input, read_image
from patchcore_runtime.session import open_session

RESULTS = Path(__file__).parent / "results"
ROUNDS = 60


def main() -> None:
    """Run all cases and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--fit-one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit_one:
        print(json.dumps(_fit_one(json.loads(arguments.fit_one))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fits, scores = [], []
        for case in _cases(arguments.shared, folder):
            print(f"fit: {case['name']} …", file=sys.stderr)
            fits.append({"name": case["name"], **_fit_in_process(case)})
            print(f"score: {case['name']} …", file=sys.stderr)
            scores.append({"name": case["name"], **_score(case)})
    results = {"machine": describe_machine(), "fit": fits, "score": scores}
    RESULTS.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    RESULTS.with_suffix(".md").write_text(_markdown(results))
    print(RESULTS.with_suffix(".md").read_text())


def _cases(shared: Path, folder: Path) -> list[dict[str, str]]:
    bottle = shared / "data" / "mvtec" / "bottle"
    if not bottle.is_dir():
        plate = write_demo_dataset(folder)
        return [_case(folder, plate, "scattering", "", "full-frame")]
    weights = str(shared / "weights" / "resnet18-layers123.pth")
    return [
        _case(folder, bottle, "resnet18", weights, "paper"),
        _case(folder, bottle, "wide_resnet50_2", "random", "paper"),
        _case(folder, bottle, "scattering", "", "paper"),
    ]


def _case(folder: Path, category: Path, backbone: str, weights: str, recipe: str) -> dict[str, str]:
    count = len(list((category / "train" / "good").iterdir()))
    return {
        "name": f"{category.name} ({count} pictures), {backbone}, {recipe}, 1 %",
        "images": str(category / "train" / "good"),
        "test_image": str(next(iter(sorted((category / "test").rglob("000.*"))))),
        "backbone": backbone,
        "weights": weights,
        "recipe": recipe,
        "output": str(folder / f"{category.name}-{backbone}"),
    }


def _fit_in_process(case: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--fit-one", json.dumps(case)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _fit_one(case: dict[str, str]) -> dict[str, Any]:
    from patchcore_build import FitJob, fit, make_config

    start = time.perf_counter()
    report = fit(
        FitJob(
            images=Path(case["images"]),
            category="benchmark",
            output=Path(case["output"]),
            config=make_config(case["recipe"], backbone=case["backbone"]),
            weights=case["weights"] or None,
        )
    )
    total = time.perf_counter() - start
    return {
        "seconds": report.seconds,
        "total_after_import_s": total - report.seconds["start MindSpore"],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": report.rows,
    }


def _score(case: dict[str, str]) -> dict[str, Any]:
    """Median ms of each stage; the stages take turns, so that all see the same machine."""
    detector = Detector.load(case["output"])
    session = open_session(Path(case["output"]) / FEATURES_ONNX)  # a bare InferenceSession
    settings = detector.manifest.preprocess
    image = read_image(case["test_image"])
    pixels, placement = fit_to_input(image, settings)
    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: read_image(case["test_image"]),
        "resize": lambda: fit_to_input(image, settings),
        "features.onnx alone": lambda: session.run(None, {"images": pixels[None]}),
        "predict without decode and resize": lambda: detector.predict_input(pixels, placement),
        "predict": lambda: detector.predict(case["test_image"]),
    }
    taken: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(ROUNDS):
        for name, run in stages.items():
            start = time.perf_counter()
            run()
            taken[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: statistics.median(times[5:]) for name, times in taken.items()}
    ratio = medians["predict without decode and resize"] / medians["features.onnx alone"]
    return {"median_ms": medians, "ratio_to_bare_features": ratio}


def _markdown(results: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        "# Measured on this machine",
        "",
        f"Written by `make bench`. {machine}. Machines are shared: trust ratios before times.",
        "",
        "## Fit: seconds per stage",
        "",
    ]
    stages = list(results["fit"][0]["seconds"])
    lines.append("| case | " + " | ".join(stages) + " | total after import | peak MB |")
    lines.append("|---|" + "--:|" * (len(stages) + 2))
    for row in results["fit"]:
        cells = [f"{row['seconds'].get(stage, 0):.1f}" for stage in stages]
        total = f"{row['total_after_import_s']:.1f}"
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | {total} | {row['peak_memory_mb']:.0f} |"
        )
    lines += ["", "## Score one picture: median ms", ""]
    parts = list(results["score"][0]["median_ms"])
    lines.append("| case | " + " | ".join(parts) + " | ratio to bare features.onnx |")
    lines.append("|---|" + "--:|" * (len(parts) + 1))
    for row in results["score"]:
        cells = [f"{row['median_ms'][part]:.1f}" for part in parts]
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | {row['ratio_to_bare_features']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
