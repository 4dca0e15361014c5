"""Compare our code with anomalib, amazon's method, faiss, scikit-learn and the usual torch loop.

    python -m benchmarks.peers [--only fit,inference,search,coreset] [--threads 2,1] [--shared DIR]

-> results/peers.md and peers.json; sections that are not measured keep their former figures. `fit`
builds the artifacts of the other sections. They are built again only by `fit` or if missing
(out/peers). The peers are installed in out/peers-venv, which `make bench-peers` makes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.arena.race import Stable
from benchmarks.harness.stored_sections import (
    add_common_options,
    machine_line,
    names_among,
    numbers,
    store,
)
from benchmarks.peers.arena import BACKBONES, Arena
from benchmarks.peers.sections import ABOUT, SECTIONS
from benchmarks.peers.table import page
from benchmarks.peers.targets import TARGETS
from benchmarks.places import RESULTS_FOLDER

RESULTS = RESULTS_FOLDER / "peers.json"
PEERS = ("anomalib", "torch", "torchvision", "timm", "openvino", "faiss-cpu", "scikit-learn")


def main() -> None:
    """Measure the requested sections and write both files."""
    options = _options()
    folder = Path(f"out/peers-{options.images}" if options.images else "out/peers").resolve()
    path = folder / "peers.json" if options.images else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_text("")
    arena = Arena(
        stable=Stable(peers_python=Path("out/peers-venv/bin/python").absolute(), folder=folder),
        category=options.shared.resolve() / "data" / "mvtec" / "bottle",
        resnet18=options.shared.resolve() / "weights" / "resnet18-layers123.pth",
        backbones=options.backbones,
        threads=options.threads,
        rounds=options.rounds,
        laps=options.laps,
        images_used=options.images,
        full=options.full,
    )
    arena.check()
    for name in options.only:
        print(f"{name} …", file=sys.stderr)
        section = {"about": ABOUT[name], "measured": _now(arena)}
        section["records"] = SECTIONS[name](arena)
        store(path, name, section, lambda results: page(results, TARGETS))
    print(path.with_suffix(".md").read_text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser, SECTIONS)
    parser.add_argument("--threads", type=numbers, default=[2, 1])
    parser.add_argument(
        "--images", type=int, help="try it with the first N >= 20 only; writes below out/"
    )
    parser.add_argument("--backbones", type=names_among(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--laps", type=int, default=8, help="images scored in one turn (8)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of the short races (8)")
    parser.add_argument(
        "--full", action="store_true", help="run the 10 %% loops of others to their end too"
    )
    return parser.parse_args()


def _now(arena: Arena) -> str:
    """Describe date, machine, load and versions."""
    code = f"import importlib.metadata as m; print(*map(m.version, {PEERS!r}))"
    told = subprocess.run(
        [str(arena.stable.peers_python), "-c", code], check=True, capture_output=True, text=True
    )
    peers = ", ".join(f"{n} {v}" for n, v in zip(PEERS, told.stdout.split(), strict=True))
    return f"{machine_line()}; peers {peers}"


if __name__ == "__main__":
    main()
