"""Time the coreset against the loops it replaces and against the machine's own limit.

    python -m benchmarks.studies.coreset [--torch-python PATH] [--loop-picks 100] [--output DIR]

real projected patch features (synthetic ones without --shared) -> coreset.md and coreset.json:
median seconds of each way to pick 1 % and 10 %, their ratios, a comparison of the rows with those
of the plain float64 loop, and the cost over the ratio with its exponent. All ways take turns in one
run, so the ratios are valid on a busy machine, too. All picks of a loop cost the same, so by
default only some are timed and the total is extrapolated. The exit code is 1 if rows differ.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.patch_features import real_features, synthetic_features
from benchmarks.places import RESULTS_FOLDER, ROOT
from patchcore_build.benchmark.machine import describe_machine
from patchcore_build.coreset.select import coreset_size, select_coreset

CURVE = (0.001, 0.003, 0.01, 0.03, 0.1, 0.25)
OURS, GEMM, NUMPY, TORCH = "ours", "one GEMM at peak", "NumPy gemv loop", "torch cdist loop"
Features = NDArray[np.float32]


def select_coreset_plain(
    features: Features, count: int, first: int, dtype: type = np.float64
) -> NDArray[np.int64]:
    """Pick one row at a time: one matrix-vector product over all rows for each pick."""
    points = (features - features.mean(axis=0, dtype=np.float64)).astype(dtype)
    norms = np.einsum("ij,ij->i", points, points)
    gaps = np.full(len(points), np.inf).astype(dtype)
    picked = np.empty(count, dtype=np.int64)
    picked[0] = first
    for step in range(1, count):
        last = picked[step - 1]
        distances = points @ points[last]
        distances *= -2
        distances += norms
        distances += norms[last]
        np.minimum(gaps, distances, out=gaps)
        gaps[last] = -1.0
        picked[step] = gaps.argmax()
    return picked


def gemm_flops() -> float:
    """Measure this machine's best current rate of sgemm, in operations per second."""
    size = 1536
    a, b = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        np.matmul(a, b)
        seconds.append(time.perf_counter() - start)
    return float(2 * size**3 / min(seconds))


def seconds_of(run: Callable[[], object]) -> float:
    """Measure the wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Race:
    """All ways to pick `count` rows, taking turns."""

    def __init__(self, features: Features, count: int, loop_picks: int, torch: Path | None) -> None:
        self.features, self.count, self.torch = features, count, torch
        self.loop_picks = min(count, loop_picks or count)
        self.first = int(select_coreset(features, 1, seed=0)[0])
        self.seconds: dict[str, list[float]] = {}
        self.differs: list[str] = []
        self.picked = select_coreset(features, count, seed=0)  # also a warm-up

    def run(self, rounds: int, scratch: Path) -> dict[str, Any]:
        """Return the median seconds of each way, and its ratio to ours."""
        if self.torch:
            np.save(scratch / "features.npy", self.features)
        for _ in range(rounds):
            rows, dim = self.features.shape
            self._add(OURS, seconds_of(lambda: select_coreset(self.features, self.count, seed=0)))
            self._add(GEMM, 2.0 * rows * dim * self.count / gemm_flops())
            self._add(NUMPY, self._numpy_loop())
            if self.torch:
                self._add(TORCH, self._torch_loop(scratch / "features.npy"))
        medians = {name: statistics.median(times) for name, times in self.seconds.items()}
        ratios = {
            name: statistics.median(np.divide(times, self.seconds[OURS]))
            for name, times in self.seconds.items()
        }
        return {
            "rows": rows, "dim": dim, "count": self.count, "loop_picks": self.loop_picks,
            "rounds": rounds, "seconds": medians, "ratios": ratios, "differs": self.differs,
        }  # fmt: skip

    def _add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)
        print(f"{name:18} {seconds:8.2f} s", file=sys.stderr)

    def _numpy_loop(self) -> float:
        """Extrapolate from the first picks, because every pick costs the same."""
        start = time.perf_counter()
        select_coreset_plain(self.features, self.loop_picks, self.first, np.float32)
        return (time.perf_counter() - start) * self.count / self.loop_picks

    def _torch_loop(self, path: Path) -> float:
        command = [
            str(self.torch), str(ROOT / "benchmarks/peers/torch_loop.py"), str(path),
            str(self.loop_picks), str(self.first),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        record = json.loads(done.stdout)
        if record["picked"] != self.picked[: self.loop_picks].tolist():
            self.differs.append(TORCH)
        return float(record["seconds"] * self.count / self.loop_picks)


def cost_curve(features: Features, ratios: tuple[float, ...]) -> dict[str, Any]:
    """Measure seconds over the ratio, and fit the exponent (least squares of logarithms)."""
    seconds = []
    for ratio in ratios:
        count = coreset_size(len(features), ratio)
        seconds.append(seconds_of(lambda n=count: select_coreset(features, n, seed=0)))  # type: ignore[misc]
        print(f"{ratio:8.2%} {seconds[-1]:8.2f} s", file=sys.stderr)
    exponent = float(np.polyfit(np.log(ratios), np.log(seconds), 1)[0])
    return {"ratios": list(ratios), "seconds": seconds, "exponent": exponent}


def markdown(results: dict[str, Any]) -> str:
    """Format the results as a page."""
    lines = ["# Coreset", "", f"Written by `{results['command']}`.", ""]
    lines += [", ".join(f"{name} {value}" for name, value in results["machine"].items()), ""]
    for race in results["races"]:
        lines += [
            f"## {race['count']:,} of {race['rows']:,} x {race['dim']} ({results['features']})", "",
            (f"Median of {race['rounds']} rounds; the loops' times are reckoned from their first "
            f"{race['loop_picks']:,} picks."), "",
            "| way | seconds | times ours |", "|---|---|---|",
        ]  # fmt: skip
        lines += [
            f"| {name} | {race['seconds'][name]:.2f} | {race['ratios'][name]:.2f} |"
            for name in race["seconds"]
        ]
        lines.append("")
    curve = results["curve"]
    lines += ["## Cost over the ratio", "", "| ratio | seconds |", "|---|---|"]
    lines += [
        f"| {ratio:.1%} | {seconds:.2f} |"
        for ratio, seconds in zip(curve["ratios"], curve["seconds"], strict=True)
    ]
    lines += ["", f"Exponent: {curve['exponent']:.2f}.", ""]
    lines.append(f"Rows of the plain float64 loop: {'the same' if results['same'] else 'OTHERS'}.")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Read the options, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--cache", type=Path, default=Path("out/bottle-resnet18-paper.npy"))
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--loop-picks", type=int, default=100, help="timed of a loop; 0: all")
    parser.add_argument("--torch-python", type=Path, help="an interpreter that has torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS_FOLDER)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]  # a loop limited by memory suffers most from a busy machine
    features = real_features(arguments.shared, arguments.cache)
    source = "bottle, resnet18, paper recipe, projected" if features is not None else "drawn"
    if features is None:
        features = synthetic_features(163_856, 296, 0)
    check = 300  # a loop in float64 is slow; the laws in tests/ compare whole selections
    plain = select_coreset_plain(features, check, int(select_coreset(features, 1, seed=0)[0]))
    same = bool((plain == select_coreset(features, check, seed=0)).all())
    races = []
    with tempfile.TemporaryDirectory() as scratch:
        for ratio in arguments.ratios:
            count = coreset_size(len(features), ratio)
            race = Race(features, count, arguments.loop_picks, arguments.torch_python)
            races.append(race.run(arguments.rounds, Path(scratch)))
    results = {
        "command": "python -m benchmarks.studies.coreset " + " ".join(sys.argv[1:]),
        "machine": describe_machine() | {"load before": f"{load:.1f}"},
        "features": source, "races": races, "same": same,
        "curve": cost_curve(features, CURVE),
    }  # fmt: skip
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "coreset.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.output / "coreset.md").write_text(markdown(results))
    print(markdown(results))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
