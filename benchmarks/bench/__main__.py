"""Measure fitting and scoring on this machine -> benchmarks/results/results.md and results.json.

    python -m benchmarks.bench [--only fit,score,searches,int8,float16,coldstart] [--shared DIR]

Sections that are not measured keep their former figures. If all sections are measured, artifacts
are fitted again; otherwise those below out/bench are reused. Without --shared (real images and
weights) the demo's images are used.
"""

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.bench.arena import open_arena
from benchmarks.bench.page import page
from benchmarks.bench.sections import SECTIONS
from benchmarks.harness.stored_sections import add_common_options, machine_line, numbers, store
from benchmarks.places import RESULTS_FOLDER

RESULTS = RESULTS_FOLDER / "results.json"


def main() -> None:
    """Measure the requested sections and write both files."""
    options = _options()
    folder = Path("out/bench-quick" if options.quick else "out/bench").resolve()
    path = folder / "results.json" if options.quick else RESULTS
    if set(options.only) == set(SECTIONS):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_text("")
    arena = open_arena(
        options.shared,
        folder,
        images=12 if options.quick else None,
        threads=options.threads,
        rounds=3 if options.quick else options.rounds,
        starts=2 if options.quick else options.starts,
    )
    for name in options.only:
        print(f"{name} …", file=sys.stderr)
        measured = machine_line()
        store(path, name, {"measured": measured, "records": SECTIONS[name](arena)}, page)
    print(path.with_suffix(".md").read_text(encoding="utf-8"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser, SECTIONS)
    parser.add_argument("--threads", type=numbers, default=[2, 1])
    parser.add_argument("--rounds", type=int, default=100, help="of each stage (100: for a p99)")
    parser.add_argument("--starts", type=int, default=10, help="of the command (10)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="try it: 12 training images, few rounds; writes below out/bench-quick",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
