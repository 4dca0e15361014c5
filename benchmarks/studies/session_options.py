"""Which onnxruntime session options pay here -> benchmarks/results/session_options.md.

    python -m benchmarks.studies.session_options ARTIFACT [ARTIFACT ...] [--rounds N]

Each variant changes one setting of `patchcore_runtime.engine.session.open_network`. Times are those
of both graphs of the artifact, one after the other as in `Detector.predict`. All variants take
turns in one run, some images at a time. Load time and memory are medians of three new processes
per variant.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.places import RESULTS_FOLDER
from patchcore_build.benchmark.machine import describe_machine
from patchcore_runtime import Artifact
from patchcore_runtime.artifact.folder import FEATURES_ONNX, INDEX_ONNX
from patchcore_runtime.cli.freed_memory import freed_memory_returned
from patchcore_runtime.engine.onnx_model import model_bytes, read_model
from patchcore_runtime.engine.session import session_options

TARGET = RESULTS_FOLDER / "session_options.md"
Level = onnxruntime.GraphOptimizationLevel
_REPACKING = "session.disable_prepacking"
WARM_UP = 3
IMAGES = 3  # of a variant in a round
QUIET = 0.05  # s: threads of the variant before no longer spin
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "graph level basic": {"graph_optimization_level": Level.ORT_ENABLE_BASIC},
    "graph level extended": {"graph_optimization_level": Level.ORT_ENABLE_EXTENDED},
    "saved after optimisation": {"saved": True},
    "files read whole": {"whole": True},
    "spinning never": {"entries": {"session.intra_op.allow_spinning": "0"}},
    "spinning not stopped": {"entries": {"session.force_spinning_stop": "0"}},
    "no arena": {"enable_cpu_mem_arena": False},
    "memory pattern": {"enable_mem_pattern": True},
    "denormals to zero": {"entries": {"session.set_denormal_as_zero": "1"}},
    "x64 quantization precise": {"entries": {"session.x64quantprecision": "1"}},
    "network not repacked": {"entries": {_REPACKING: "1"}},
    "bank repacked too": {"entries": {_REPACKING: "0"}},
}


def main() -> None:
    """Measure all variants and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--load-one", nargs=3, help=argparse.SUPPRESS)
    onnxruntime.set_default_logger_severity(3)  # a variant overwrites settings: it would warn
    arguments = parser.parse_args()
    if arguments.load_one:
        folder, variant, network = arguments.load_one
        print(json.dumps(_load(Path(folder), variant, Path(network))))
        return
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    lines = ["# Session options", "", "Written by `python -m benchmarks.studies.session_options`."]
    lines += [f"{machine}. Machines are shared: trust ratios to the first row.", ""]
    for folder in arguments.artifacts:
        lines += _table(folder, arguments.rounds)
    TARGET.write_text("\n".join(lines), encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"))


def _open(path: Path, variant: dict[str, Any], threads: int) -> Any:
    options = session_options(path, threads=threads, repack=path.name != INDEX_ONNX)
    for name, value in variant.get("entries", {}).items():
        options.add_session_config_entry(name, value)
    for name in ("graph_optimization_level", "enable_cpu_mem_arena", "enable_mem_pattern"):
        setattr(options, name, variant.get(name, getattr(options, name)))
    if "save_to" in variant:
        options.optimized_model_filepath = str(variant["save_to"])
    whole = variant.get("whole") or path.name == INDEX_ONNX
    model = path if whole else model_bytes(read_model(path), path.name)
    with freed_memory_returned():
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _Scorer:
    """Both graphs of an artifact with one set of options."""

    def __init__(self, folder: Path, name: str, network: Path, threads: int) -> None:
        variant = VARIANTS[name]
        plain = variant
        if variant.get("saved"):
            plain = {**variant, "graph_optimization_level": Level.ORT_DISABLE_ALL}
        self._features = _open(network, plain, threads)
        self._index = _open(folder / INDEX_ONNX, variant, threads)

    def __call__(self, pixels: Any) -> Any:
        layer2, layer3 = self._features.run(["layer2", "layer3"], {"images": pixels})
        inputs = {"layer2": layer2, "layer3": layer3}
        return self._index.run(["distances", "rows"], inputs)


def _network(folder: Path, name: str, scratch: Path) -> Path:
    """Return features.onnx, or the graph that onnxruntime optimised and saved."""
    if not VARIANTS[name].get("saved"):
        return folder / FEATURES_ONNX
    path = scratch / "saved.onnx"
    _open(folder / FEATURES_ONNX, {"save_to": path}, 1)
    return path


def _table(folder: Path, rounds: int) -> list[str]:
    manifest = Artifact.open(folder, verify=False).manifest
    size = manifest.preprocess
    title = f"{manifest.features.backbone}, {manifest.features.precision}, {size.height} x"
    shape = (1, size.height, size.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        networks = {name: _network(folder, name, Path(scratch)) for name in VARIANTS}
        times = {n: _times(folder, networks, pixels, rounds, n) for n in (1, 2)}
        loads = {name: _load_apart(folder, name, networks[name]) for name in VARIANTS}
    lines = [f"## {title} {size.width}, {manifest.memory_bank.rows} rows", ""]
    lines += ["| options | 1 thread, ms | ratio | 2 threads, ms | ratio | load, ms | peak, MB |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|"]
    for name in VARIANTS:
        cells = [name]
        for threads in (1, 2):
            median = times[threads][name]
            ratio = median / times[threads]["as shipped"]
            cells += [f"{median:.1f}", f"{ratio:.2f}"]
        cells += [f"{loads[name]['load_ms']:.0f}", f"{loads[name]['peak_mb']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _times(
    folder: Path, networks: dict[str, Path], pixels: Any, rounds: int, threads: int
) -> dict[str, float]:
    """Return the median ms of every variant; they take turns on the same machine."""
    scorers = {name: _Scorer(folder, name, networks[name], threads) for name in VARIANTS}
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds + WARM_UP):
        for name, score in scorers.items():
            time.sleep(QUIET)
            score(pixels)
            for _ in range(IMAGES):
                start = time.perf_counter()
                score(pixels)
                taken[name].append(1e3 * (time.perf_counter() - start))
    first = WARM_UP * IMAGES
    return {name: statistics.median(values[first:]) for name, values in taken.items()}


def _load_apart(folder: Path, name: str, network: Path) -> dict[str, float]:
    command = [sys.executable, "-m", __spec__.name, "--load-one", str(folder), name, str(network)]
    found = []
    for _ in range(3):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def _load(folder: Path, name: str, network: Path) -> dict[str, float]:
    """Load both graphs in this process and score twice."""
    size = Artifact.open(folder, verify=False).manifest.preprocess
    start = time.perf_counter()
    score = _Scorer(folder, name, network, 2)
    load = 1e3 * (time.perf_counter() - start)
    pixels = np.zeros((1, size.height, size.width, 3), np.uint8)
    score(pixels)
    score(pixels)
    return {
        "load_ms": load,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Return this program's peak; getrusage may return that of the forked parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
