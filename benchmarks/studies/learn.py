"""Teach an artifact ten good images that it refused; what does it cost? -> a report.

    python -m benchmarks.studies.learn --shared ../shared --output benchmarks/results/learn.md

    bottle, another lamp: fitted on train/good. Every test image is darkened, so that good images
        are refused. Ten of them are learned; the others and all defects are evaluated.
    magnetic_tile: fitted on a part of train/good for 5 % false alarms (at 1 % too few remain to
        learn). Ten of the other good images that are refused unchanged are learned; the others
        and all defects are evaluated.

ResNet-18, default recipe. The artifacts are kept below --cache. `learn` runs as for a user: in a
separate process, including Python's start and the check of every byte.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.benchmark.machine import describe_machine
from patchcore_build.config import make_config
from patchcore_build.evaluation.metrics import auroc
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.edit.learn import learning_radius
from patchcore_runtime.image.decode import read_image

LEARNED = 10
LAMP = 0.15  # of the brightness; at 0.2 three of twenty bottles are refused
LAMP_SIDE_PX = 640
TILES = 250  # of train/good that are fitted; the others are held out
_COLUMNS = (
    "case", "refused before", "largest score of the learned", "threshold", "radius", "rows",
    "seconds", "AUROC of the rest", "false alarms", "defects found",
)  # fmt: skip
_PROGRAM = "import sys; from patchcore_runtime.cli.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, kw_only=True)
class Case:
    """An artifact, and images that it was not fitted with."""

    name: str
    artifact: Path
    good: tuple[Path, ...]
    bad: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Figures before and after, on the images that were not learned."""

    case: str
    refused: int  # good images, of all that were not fitted
    good: int
    scores: tuple[tuple[float, float], ...]  # of the learned ones
    threshold: float
    radius: float
    rows: tuple[int, int]
    seconds: tuple[float, ...]
    rest: int
    auroc: tuple[float, float]
    false_alarms: tuple[float, float]
    found: tuple[float, float]


def main() -> None:
    """Measure every case and write the report."""
    arguments = _arguments()
    outcomes = []
    for make_case in (_bottle, _tiles):
        outcomes.append(_measure(make_case(arguments), arguments))
        text = report(outcomes, describe_machine())
        arguments.output.write_text(text, encoding="utf-8")
    print(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("out/learn"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def darken(source: Path, target: Path, share: float) -> Path:
    """Draw the same part under a weaker lamp."""
    image = read_image(source)
    image.thumbnail((LAMP_SIDE_PX, LAMP_SIDE_PX))
    pixels = np.rint(np.asarray(image, np.float32) * share).astype(np.uint8)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(target)
    return target


def _bottle(arguments: argparse.Namespace) -> Case:
    source = arguments.shared / "data" / "mvtec" / "bottle"
    artifact = _fitted(arguments, "bottle", sorted((source / "train" / "good").iterdir()))
    images = {"good": [], "bad": []}  # type: dict[str, list[Path]]
    for path in sorted((source / "test").glob("*/*")):
        kind = "good" if path.parent.name == "good" else "bad"
        target = arguments.cache / "lamp" / path.parent.name / f"{path.stem}.png"
        images[kind].append(darken(path, target, LAMP))
    return Case(
        name=f"bottle, brightness times {LAMP}",
        artifact=artifact,
        good=tuple(images["good"]),
        bad=tuple(images["bad"]),
    )


def _tiles(arguments: argparse.Namespace) -> Case:
    source = arguments.shared / "data" / "mtd" / "magnetic_tile"
    train = sorted((source / "train" / "good").iterdir())
    order = np.random.default_rng(0).permutation(len(train))
    fitted = [train[i] for i in np.sort(order[:TILES])]
    held_out = [train[i] for i in np.sort(order[TILES:])]
    tests = sorted((source / "test").glob("*/*"))
    good = [*held_out, *(path for path in tests if path.parent.name == "good")]
    bad = [path for path in tests if path.parent.name != "good"]
    artifact = _fitted(arguments, "magnetic_tile", fitted, target_fpr=0.05)
    return Case(
        name="magnetic_tile, aimed at 5 %", artifact=artifact, good=tuple(good), bad=tuple(bad)
    )


def _fitted(
    arguments: argparse.Namespace, name: str, images: Sequence[Path], *, target_fpr: float = 0.01
) -> Path:
    """Fit an artifact of some images, once."""
    target: Path = arguments.cache / f"{name}-artifact"
    if target.exists():
        return target
    photos = arguments.cache / f"{name}-photos"
    shutil.rmtree(photos, ignore_errors=True)
    photos.mkdir(parents=True)
    for path in images:
        (photos / path.name).symlink_to(path.resolve())
    fit(
        FitJob(
            images=photos,
            category=name,
            output=target,
            config=make_config("full-frame", backbone="resnet18", target_fpr=target_fpr),
            weights=str(arguments.shared / "weights" / "resnet18-layers123.pth"),
        )
    )
    return target


def _measure(case: Case, arguments: argparse.Namespace) -> Outcome:
    before = Detector.load(case.artifact, threads=arguments.threads)
    threshold = before.manifest.calibration.image_threshold
    good, bad = _scores(before, case.good), _scores(before, case.bad)
    refused = np.flatnonzero(good > threshold)
    learned = [case.good[i] for i in refused[:LEARNED]]
    if len(learned) < LEARNED:
        raise SystemExit(f"{case.name}: only {len(learned)} of {len(good)} good ones are refused")
    output = arguments.cache / f"{case.artifact.name}-learned"
    seconds = [_learn(case.artifact, learned, output) for _ in range(arguments.repeats)]
    after = Detector.load(output, threads=arguments.threads)
    rest = np.setdiff1d(np.arange(len(good)), refused[:LEARNED])
    good_after = _scores(after, [case.good[i] for i in rest])
    bad_after = _scores(after, case.bad)
    taught = _scores(after, learned)
    pairs = zip(good[refused[:LEARNED]], taught, strict=True)
    return Outcome(
        case=case.name,
        refused=len(refused),
        good=len(good),
        scores=tuple((float(one), float(other)) for one, other in pairs),
        threshold=threshold,
        radius=learning_radius(before.manifest),
        rows=(Artifact.open(case.artifact).memory_bank.rows, after.manifest.memory_bank.rows),
        seconds=tuple(seconds),
        rest=len(rest) + len(bad),
        auroc=(auroc(good[rest], bad), auroc(good_after, bad_after)),
        false_alarms=(_above(good[rest], threshold), _above(good_after, threshold)),
        found=(_above(bad, threshold), _above(bad_after, threshold)),
    )


def _scores(detector: Detector, images: Sequence[Path]) -> NDArray[np.float64]:
    return np.array([detector.predict(path).score for path in images])


def _above(scores: NDArray[np.float64], threshold: float) -> float:
    return float((scores > threshold).mean())


def _learn(artifact: Path, images: Sequence[Path], output: Path) -> float:
    """Run the command; return the seconds of the whole process."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-c", _PROGRAM, "learn", str(artifact), *map(str, images)]
    start = time.perf_counter()
    subprocess.run([*command, "--output", str(output)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def report(outcomes: Sequence[Outcome], machine: dict[str, str]) -> str:
    """Return the page."""
    repeats = len(outcomes[0].seconds)
    head = f"""# Ten refused good images, learned on the line

{machine["date"]}, {machine["processor"]}, {machine["cores"]} cores. ResNet-18, default recipe,
1 % coreset. Written by

    python -m benchmarks.studies.learn --shared ../shared --output benchmarks/results/learn.md

Learned: the first ten good images that were refused. Rest: the good images that were neither
fitted nor learned, and all defects; before → after. Seconds: the whole command,
median of {repeats}, with Python's start and the check of every byte.
"""
    lines = [head, "| " + " | ".join(_COLUMNS) + " |", "|---" + "|--:" * (len(_COLUMNS) - 1) + "|"]
    for one in outcomes:
        largest = [max(pair[i] for pair in one.scores) for i in (0, 1)]
        lines.append(
            f"| {one.case} | {one.refused} of {one.good} | {largest[0]:.3f} → {largest[1]:.3f} "
            f"| {one.threshold:.3f} | {one.radius:.3f} | {one.rows[0]} → {one.rows[1]} "
            f"| {float(np.median(one.seconds)):.1f} | {one.auroc[0]:.4f} → {one.auroc[1]:.4f} "
            f"| {one.false_alarms[0]:.1%} → {one.false_alarms[1]:.1%} "
            f"| {one.found[0]:.1%} → {one.found[1]:.1%} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
