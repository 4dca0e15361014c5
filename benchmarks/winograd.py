"""What Winograd's convolutions give and cost -> benchmarks/winograd.md.

    python benchmarks/winograd.py [--backbones NAME,NAME] [--rounds N]

features.onnx with and without `patchcore_build.export.winograd`, same seeded random parameters, at
224 px: their runs take turns, so that both see the same machine. Load time and memory are those of
a process of its own (median of three); errors are relative to what MindSpore computes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from figures import graph_gflop
from patchcore_build.backbone.device import open_device
from patchcore_build.benchmark.machine import describe_machine
from patchcore_runtime.engine.session import open_session
from peer_worker import peak_mb
from tables import table

TARGET = Path(__file__).with_suffix(".md")
SIDE = 224
WARM_UP = 3
FORMS = {"plain": False, "Winograd": True}
HEAD = (
    *("backbone", "convolutions", "GFLOP", "MB", "1 thread, ms", "ratio"),
    *("2 threads, ms", "ratio", "load, ms", "peak MB", "kept MB", "error"),
)


def main() -> None:
    """Export, race, load, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", default="resnet18,wide_resnet50_2")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--load-one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load_one:
        print(json.dumps(_load(arguments.load_one)))
        return
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    open_device()
    rows: list[list[str]] = []
    for backbone in arguments.backbones.split(","):
        rows += _rows(backbone, arguments.rounds)
    lines = ["# Winograd's convolutions", "", "Written by `python benchmarks/winograd.py`."]
    lines += [f"{machine}.", "A ratio is a time over that of the plain graph beside it.", ""]
    TARGET.write_text("\n".join([*lines, *table(HEAD, rows, left=(0, 1)), ""]), encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"))


def _rows(backbone: str, rounds: int) -> Iterator[list[str]]:
    from patchcore_build.backbone.extractor import make_extractor, random_weights
    from patchcore_build.export.graphs import compare_onnx, export_onnx
    from patchcore_build.features.store import mindspore_network

    weights = random_weights(backbone, seed=0)
    make_cell = partial(make_extractor, backbone, weights, height=SIDE, width=SIDE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    expected = mindspore_network(make_cell())(pixels)
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: Path(scratch, f"{name}.onnx") for name in FORMS}
        for name, winograd in FORMS.items():
            export_onnx(make_cell, paths[name], height=SIDE, width=SIDE, winograd=winograd)
        times = {threads: _times(paths, pixels[:1], rounds, threads) for threads in (1, 2)}
        for name, path in paths.items():
            cells = [backbone, name, f"{graph_gflop(path):.1f}"]
            cells.append(f"{path.stat().st_size / 2**20:.0f}")
            for taken in times.values():
                cells += [f"{taken[name]:.1f}", f"{taken[name] / taken['plain']:.2f}"]
            load = _load_apart(path)
            cells += [f"{load[key]:.0f}" for key in ("load_ms", "peak_mb", "kept_mb")]
            yield [*cells, f"{compare_onnx(path, pixels, expected, tolerance=1e-4):.0e}"]


def _times(paths: dict[str, Path], pixels: Any, rounds: int, threads: int) -> dict[str, float]:
    """Median ms of a picture for each graph."""
    sessions = {name: open_session(path, threads=threads) for name, path in paths.items()}
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds + WARM_UP):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(["layer2", "layer3"], {"images": pixels})
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[WARM_UP:]) for name, values in taken.items()}


def _load_apart(path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--load-one", str(path)]
    found = []
    for _ in range(3):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def _load(path: Path) -> dict[str, float]:
    """Load one graph in this process and run it; what is kept is counted afterwards."""
    start = time.perf_counter()
    session = open_session(path, threads=2)
    load_ms = 1e3 * (time.perf_counter() - start)
    for _ in range(3):
        session.run(None, {"images": np.zeros((1, SIDE, SIDE, 3), np.uint8)})
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kept_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return {"load_ms": load_ms, "peak_mb": peak_mb(), "kept_mb": kept_mb}


if __name__ == "__main__":
    main()
