"""The C++ runner beside the Python runtime on one folder -> results/cpp_runner.md, .json.

    python -m benchmarks.studies.cpp_runner ARTIFACT… --images FOLDER [--rounds N] [--binary FILE]

Both programs score the same images and take turns round by round, under the same conditions.
Seconds are those of the whole process, from its start to its end; memory is its peak.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness.tables import table
from benchmarks.places import RESULTS_FOLDER, ROOT
from patchcore_build.benchmark.machine import describe_machine
from patchcore_runtime.artifact.folder import Artifact

RESULTS = RESULTS_FOLDER / "cpp_runner"
PYTHON = "import sys; from patchcore_runtime.cli.main import main; sys.exit(main())"
MEASURES = ("seconds", "cpu_seconds", "peak_memory_mib")


def main() -> None:
    """Measure every artifact and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--binary", type=Path, default=ROOT / "out/host/patchcore_infer")
    parser.add_argument("--run-one", help=argparse.SUPPRESS)
    if "--run-one" in sys.argv:
        print(json.dumps(_run_here(json.loads(sys.argv[sys.argv.index("--run-one") + 1]))))
        return
    arguments = parser.parse_args()
    cases = [
        _measure(path, arguments.images, arguments.binary, arguments.rounds)
        for path in arguments.artifacts
    ]
    results = {"machine": describe_machine(), "rounds": arguments.rounds, "cases": cases}
    RESULTS.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    RESULTS.with_suffix(".md").write_text(_markdown(results))
    print(RESULTS.with_suffix(".md").read_text())


def _programs(artifact: Path, images: Path, binary: Path) -> dict[str, list[str]]:
    native = [str(binary), str(artifact), str(images)]
    return {
        "Python runtime": [sys.executable, "-c", PYTHON, "score", str(artifact), str(images)],
        "C++, engine's search": [*native, "--search", "engine"],
        "C++, portable search": [*native, "--search", "portable"],
        "C++, batch 4": [*native, "--batch", "4"],
    }


def _measure(artifact: Path, images: Path, binary: Path, rounds: int) -> dict[str, Any]:
    programs = _programs(artifact, images, binary)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, command in programs.items():
            print(f"{artifact.name}: round {number}: {name} …", file=sys.stderr)
            run = _run_in_process(command)
            if number > 0:  # the first round only fills the caches
                taken[name].append(run)
    manifest = Artifact.open(artifact, verify=False).manifest
    return {
        "artifact": artifact.name,
        "input_px": [manifest.preprocess.height, manifest.preprocess.width],
        "rows": manifest.memory_bank.rows,
        "images": int(taken["Python runtime"][0]["images"]),
        "runs": taken,
        "median": {
            name: {measure: statistics.median(run[measure] for run in runs) for measure in MEASURES}
            for name, runs in taken.items()
        },
        "median_speed_ratio": {
            name: statistics.median(
                python["seconds"] / run["seconds"]
                for python, run in zip(taken["Python runtime"], runs, strict=True)
            )
            for name, runs in taken.items()
        },
    }


def _run_in_process(command: list[str]) -> dict[str, float]:
    """Run in a separate process: a parent sees only the peak memory of all its children."""
    outer = [sys.executable, "-m", __spec__.name, "--run-one", json.dumps(command)]
    done = subprocess.run(outer, check=True, capture_output=True, text=True)
    run: dict[str, float] = json.loads(done.stdout)
    return run


def _run_here(command: list[str]) -> dict[str, float]:
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_mib": used.ru_maxrss / 1024,
        "images": len(done.stdout.splitlines()),
    }


def _markdown(results: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        "# The C++ runner beside the Python runtime",
        "",
        f"Written by `python -m benchmarks.studies.cpp_runner`. {machine}.",
        f"Whole processes with their start, taking turns; medians of {results['rounds']} rounds.",
        "The machine is shared: trust the ratios, taken round by round, before the times.",
    ]
    head = ["program", "images/s", "speed / Python", "CPU ms an image", "peak MiB", "to Python"]
    for case in results["cases"]:
        lines += ["", _title(case), "", *table(head, _rows(case))]
    return "\n".join(lines) + "\n"


def _rows(case: dict[str, Any]) -> Iterator[list[str]]:
    python = case["median"]["Python runtime"]
    for name, of in case["median"].items():
        yield [
            name,
            f"{case['images'] / of['seconds']:.1f}",
            f"{case['median_speed_ratio'][name]:.2f}",
            f"{1e3 * of['cpu_seconds'] / case['images']:.1f}",
            f"{of['peak_memory_mib']:.0f}",
            f"{of['peak_memory_mib'] / python['peak_memory_mib']:.2f}",
        ]


def _title(case: dict[str, Any]) -> str:
    height, width = case["input_px"]
    size = f"{case['images']} images, input {height} x {width} px, M = {case['rows']}"
    return f"## {case['artifact']}: {size}"


if __name__ == "__main__":
    main()
