"""How cost grows with images, coreset ratio and resolution -> results/scaling.md, .json.

    python -m benchmarks.scaling [--only images,many,ratio,resolution] [--images 50,100]

ResNet-18, paper recipe. Every point is a fit in a separate process and is stored as soon as it is
measured. After an interruption, name the missing points with --images, --many, --ratios or --sides.
The exponent of each cost follows its table, by least squares of the logarithms.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arena.race import Stable
from benchmarks.harness.figures import estimate
from benchmarks.harness.headlines import Record
from benchmarks.harness.stored_sections import (
    add_common_options,
    load,
    machine_line,
    numbers,
    store,
)
from benchmarks.places import RESULTS_FOLDER
from benchmarks.scaling.images import link_first, write_variations
from benchmarks.scaling.page import page
from patchcore_build.data.demo import write_demo_dataset

RESULTS = RESULTS_FOLDER / "scaling.json"
WORKER = "benchmarks.bench.worker"
_RATIO_IMAGES, _RESOLUTION_IMAGES = 200, 20


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Paths and settings of the measurements."""

    stable: Stable
    originals: Path
    image: str  # to score
    backbone: str
    weights: str | None
    threads: int
    rounds: int
    folds: int

    def fit(self, count: int, *, budget_gb: float = 8.0, **config: Any) -> Record:
        """Fit `count` images; return the worker's answer and the figures for the page."""
        made = write_variations(self.originals, self.stable.folder / "images", count)
        images = link_first(made, self.stable.folder / f"first{count}", count)
        settings = {"recipe": "paper", "backbone": self.backbone, "folds": self.folds, **config}
        job = {
            "task": "fit",
            "images": str(images),
            "output": self.artifact,
            "config": settings,
            "weights": self.weights,
            "memory_budget_gb": budget_gb,
        }
        answer = self.stable.once((WORKER, job), self.threads)
        result: Record = answer["result"]
        stages = result["stages"]
        return result | {
            "folds": self.folds,
            "seconds": sum(stages.values()) - stages["start MindSpore"],
            "peak_mb": answer["peak_mb"],
        }

    @property
    def artifact(self) -> str:
        """Return the artifact that was fitted last."""
        return str(self.stable.folder / "artifact")

    def measure(self, task: str, **job: Any) -> float:
        """Return the median seconds of a task on the artifact."""
        job = {"task": task, "artifact": self.artifact, "image": self.image, **job}
        worker = self.stable.start((WORKER, job), self.threads)
        worker.run(2)
        taken = sorted(worker.run(self.rounds)["seconds"])
        worker.close()
        return float(taken[len(taken) // 2])


def images(bench: Bench, options: argparse.Namespace) -> Iterator[Record]:
    """Fit growing numbers of images within one memory budget."""
    yield from _counts(bench, options, options.images, 0.01)


def many(bench: Bench, options: argparse.Namespace) -> Iterator[Record]:
    """Fit growing numbers of images with a tenth of the rows; the coreset costs both."""
    yield from _counts(bench, options, options.many, 0.001)


def _counts(
    bench: Bench, options: argparse.Namespace, counts: list[int], kept: float
) -> Iterator[Record]:
    imports = bench.stable.once((WORKER, {"task": "imports"}), bench.threads)["peak_mb"]
    done: list[Record] = []
    for count in sorted(counts):
        expected = estimate([(one["images"], one["seconds"]) for one in done], count)
        told = f"; about {expected:.0f} s expected" if expected else ""
        print(f"  {count} images{told} …", file=sys.stderr)
        record = bench.fit(count, budget_gb=options.memory_budget_gb, coreset_ratio=kept)
        done.append(record)
        budget = {"budget_gb": options.memory_budget_gb, "imports_mb": imports}
        yield {"at": count} | record | budget


def ratio(bench: Bench, options: argparse.Namespace) -> Iterator[Record]:
    """Keep growing shares of the same images' patches."""
    for percent in sorted(options.ratios):
        print(f"  {percent:g} % …", file=sys.stderr)
        record = bench.fit(options.ratio_images, coreset_ratio=percent / 100)
        yield {"at": percent} | record | {"search_s": bench.measure("search", search="exact")}


def resolution(bench: Bench, options: argparse.Namespace) -> Iterator[Record]:
    """Fit larger and larger inputs."""
    for side in sorted(options.sides):
        print(f"  {side} px …", file=sys.stderr)
        record = bench.fit(_RESOLUTION_IMAGES, resize_px=side, crop_px=side)
        predict = bench.measure("predict input", search="exact")
        search = bench.measure("search", search="exact")
        yield {"at": side} | record | {"predict_s": predict, "search_s": search}


SECTIONS = {"images": images, "many": many, "ratio": ratio, "resolution": resolution}


def main() -> None:
    """Measure the requested points and write both files after each."""
    options = _options()
    path = options.output.resolve()
    with tempfile.TemporaryDirectory(prefix="patchcore-scaling-") as scratch:
        bench = _open(options, Path(scratch))
        for name in options.only:
            print(f"{name} …", file=sys.stderr)
            for record in SECTIONS[name](bench, options):
                _store_point(path, name, {"measured": machine_line()} | record)
    print(path.with_suffix(".md").read_text(encoding="utf-8"))


def _store_point(path: Path, name: str, record: Record) -> None:
    """Store a point in place of its former value."""
    old = load(path)["sections"].get(name, {"records": []})["records"]
    kept = [one for one in old if one["at"] != record["at"]]
    records = sorted([*kept, record], key=lambda one: float(one["at"]))
    store(path, name, {"records": records}, page)


def _open(options: argparse.Namespace, folder: Path) -> Bench:
    (folder / "log.txt").write_text("")
    bottle = options.shared.resolve() / "data" / "mvtec" / "bottle"
    weights = options.shared.resolve() / "weights" / "resnet18-layers123.pth"
    real = bottle.is_dir() and weights.is_file()
    category = bottle if real else write_demo_dataset(folder)
    image = folder / f"image{min((category / 'test').rglob('000.*')).suffix}"
    shutil.copyfile(min((category / "test").rglob("000.*")), image)
    return Bench(
        stable=Stable(folder=folder),
        originals=category / "train" / "good",
        image=str(image),
        backbone="resnet18" if real else "scattering",
        weights=str(weights) if real else None,
        threads=options.threads,
        rounds=options.rounds,
        folds=options.folds,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser, SECTIONS)
    parser.add_argument("--images", type=numbers, default=[50, 100, 200, 500, 1000, 2000])
    parser.add_argument("--many", type=numbers, default=[500, 1000, 2000, 5000])
    parser.add_argument("--ratios", type=_percents, default=[0.1, 0.5, 1, 5, 10, 25])
    parser.add_argument("--sides", type=numbers, default=[224, 320, 448, 640, 1024])
    parser.add_argument(
        "--memory-budget-gb", type=float, default=2.0, help="of `images` and `many` (2)"
    )
    parser.add_argument("--folds", type=int, default=2, help="of every calibration (2)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="of each scoring (20)")
    parser.add_argument("--ratio-images", type=int, default=_RATIO_IMAGES)
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE.json")
    return parser.parse_args()


def _percents(text: str) -> list[float]:
    return [float(percent) for percent in text.split(",")]


if __name__ == "__main__":
    main()
