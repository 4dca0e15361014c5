"""Measure us beside anomalib, amazon's method, faiss, scikit-learn and the usual torch loop.

    python benchmarks/peers.py [--only fit,inference,search,coreset] [--threads 2,1] [--shared DIR]

-> benchmarks/peers.md and peers.json; sections not measured keep their former figures. `fit`
builds the artifacts that the others use; they are built again only by `fit` or where they lack
(out/peers). The peers live in out/peers-venv, which `make bench-peers` makes.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from patchcore_build.machine import describe_machine
from peers_arena import BACKBONES, Arena
from peers_race import Stable
from peers_sections import ABOUT, SECTIONS
from peers_table import merged, page
from peers_targets import TARGETS

RESULTS = Path(__file__).resolve().parent / "peers.json"
PEERS = ("anomalib", "torch", "torchvision", "timm", "openvino", "faiss-cpu", "scikit-learn")


def main() -> None:
    """Measure the sections asked for and write both files."""
    options = _options()
    folder = Path(f"out/peers-{options.pictures}" if options.pictures else "out/peers").resolve()
    path = folder / "peers.json" if options.pictures else RESULTS
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
        pictures_used=options.pictures,
        full=options.full,
    )
    arena.check()
    for name in options.only:
        print(f"{name} …", file=sys.stderr)
        section = {"about": ABOUT[name], "measured": _now(arena)}
        _store(path, name, section | {"records": SECTIONS[name](arena)})
    print(path.with_suffix(".md").read_text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SECTIONS))
    parser.add_argument(
        "--threads", type=lambda text: [int(n) for n in text.split(",")], default=[2, 1]
    )
    parser.add_argument(
        "--pictures", type=int, help="try it with the first N >= 20 only; writes below out/"
    )
    parser.add_argument("--backbones", type=lambda text: text.split(","), default=list(BACKBONES))
    parser.add_argument("--laps", type=int, default=8, help="pictures scored in one turn (8)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of the short races (8)")
    parser.add_argument(
        "--full", action="store_true", help="run the 10 %% loops of others to their end too"
    )
    options = parser.parse_args()
    unknown = set(options.only) - set(SECTIONS)
    if unknown:
        parser.error(f"--only: expected some of {', '.join(SECTIONS)}, got {', '.join(unknown)}")
    return options


def _store(path: Path, name: str, section: dict[str, object]) -> None:
    """Put one section into both files at once, so that a later failure loses nothing."""
    old = json.loads(path.read_text()) if path.is_file() else {}
    results = merged(old, {"sections": {name: section}})
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(page(results, TARGETS))


def _now(arena: Arena) -> str:
    """When, on what, how busy it already was, and with which versions."""
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    code = f"import importlib.metadata as m; print(*map(m.version, {PEERS!r}))"
    told = subprocess.run(
        [str(arena.stable.peers_python), "-c", code], check=True, capture_output=True, text=True
    )
    peers = ", ".join(f"{n} {v}" for n, v in zip(PEERS, told.stdout.split(), strict=True))
    load = f"load average at the start {os.getloadavg()[0]:.1f}"
    return f"{machine}; {load}; peers {peers}"


if __name__ == "__main__":
    main()
