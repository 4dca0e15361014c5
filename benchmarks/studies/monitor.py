"""How soon does the monitor find a change, and how often is it wrong? -> a report.

    python -m benchmarks.studies.monitor --shared ../shared --output benchmarks/results/monitor.md

Bottle, ResNet-18, default recipe. Each split is fitted on 150 of the 209 good training images; the
other 59 and the 20 good test images are the line's images. Each split is run in several orders:
all 79 images unchanged, and for each change 20 images unchanged, then the others changed.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from patchcore_build.benchmark.machine import describe_machine
from patchcore_build.config import make_config
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_runtime import Detector, Monitor, Result
from patchcore_runtime.image.decode import read_image

SPLITS = (0,)
ORDERS = 10
LEARNED = 150
BEFORE = 20  # good images before a change
CONFIG = make_config("full-frame", backbone="resnet18")
Pixels = NDArray[np.uint8]


def light(share: float) -> Callable[[Image.Image], Pixels]:
    """Change the exposure; values brighter than white stay white."""
    return lambda image: np.clip(np.rint(np.asarray(image) * share), 0, 255).astype(np.uint8)


def moved(down: int, right: int) -> Callable[[Image.Image], Pixels]:
    """Move the camera by some pixels; the new border repeats the edge."""

    def move(image: Image.Image) -> Pixels:
        pixels = np.asarray(image)
        padded = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), mode="edge")
        return np.ascontiguousarray(padded[: pixels.shape[0], : pixels.shape[1]])

    return move


def blurred(image: Image.Image) -> Pixels:
    """Defocus the image."""
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)))


CHANGES: dict[str, tuple[str, Callable[[Image.Image], Pixels]]] = {
    "15 % brighter": ("light changed", light(1.15)),
    "15 % darker": ("light changed", light(0.85)),
    "5 % brighter": ("light changed", light(1.05)),
    "moved 8 px to the right": ("camera moved", moved(0, 8)),
    "moved 8 px down": ("camera moved", moved(8, 0)),
    "moved 4 px to the right": ("camera moved", moved(0, 4)),
    "blurred, sigma 1.5 px": ("focus changed", blurred),
}
PRODUCTS = {
    "magnetic_tile": "mtd/magnetic_tile/test/good",
    "hazelnut": "mvtec_reduced/hazelnut/test/good",
}


def main() -> None:
    """Fit, monitor and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="holds data/ and weights/")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    data = arguments.shared / "data"
    false_alarms, watched = 0, 0
    found: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for seed in SPLITS:
        with tempfile.TemporaryDirectory() as scratch:
            weights = arguments.shared / "weights" / "resnet18-layers123.pth"
            detector, line = _fit(data / "mvtec" / "bottle", weights, Path(scratch), seed)
            good = [detector.predict(path, measure=True) for path in line]
            others = {name: (cause, _changed(detector, line, change))
                      for name, (cause, change) in CHANGES.items()}  # fmt: skip
            for name, folder in PRODUCTS.items():
                paths = sorted((data / folder).iterdir())[: len(line)]
                results = [detector.predict(path, measure=True) for path in paths]
                others[f"another product: {name}"] = ("batch changed", results)
        rng = np.random.default_rng(seed)
        for _ in range(ORDERS):
            order = rng.permutation(len(line))
            watch = Monitor(detector.manifest)
            false_alarms += sum(watch.update(good[i]).began for i in order)
            watched += len(order)
            for name, (cause, results) in others.items():
                found[name].append(_find(detector, good, results, order, cause))
    arguments.output.write_text(_report(false_alarms, watched, found), encoding="utf-8")


def _fit(bottle: Path, weights: Path, scratch: Path, seed: int) -> tuple[Detector, list[Path]]:
    train = sorted((bottle / "train" / "good").iterdir())
    shuffled = [train[place] for place in np.random.default_rng(seed).permutation(len(train))]
    photos = scratch / "photos"
    photos.mkdir()
    for path in shuffled[:LEARNED]:
        (photos / path.name).symlink_to(path.resolve())
    job = FitJob(
        images=photos,
        category="bottle",
        output=scratch / "artifact",
        config=CONFIG,
        weights=str(weights),
    )
    detector = Detector.load(fit(job).artifact)
    return detector, [*shuffled[LEARNED:], *sorted((bottle / "test" / "good").iterdir())]


def _changed(
    detector: Detector, line: list[Path], change: Callable[[Image.Image], Pixels]
) -> list[Result]:
    return [detector.predict(change(read_image(path)), measure=True) for path in line]


def _find(
    detector: Detector,
    good: list[Result],
    changed: list[Result],
    order: NDArray[np.int64],
    cause: str,
) -> tuple[int, bool]:
    """Return the changed images until the alarm (0: never), and whether its cause is right."""
    watch = Monitor(detector.manifest)
    for place in order[:BEFORE]:
        watch.update(good[place])
    for number, place in enumerate(order[BEFORE:], start=1):
        verdict = watch.update(changed[place % len(changed)])
        if verdict.alarm:
            return number, verdict.candidates[0].cause == cause
    return 0, False


def _report(false_alarms: int, watched: int, found: dict[str, list[tuple[int, bool]]]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    lines = [
        "# What the monitor finds, and when",
        "",
        f"{machine}. Written by",
        "",
        "    python -m benchmarks.studies.monitor --shared ../shared \\",
        "        --output benchmarks/results/monitor.md",
        "",
        (
            f"Bottle, ResNet-18, default recipe, {LEARNED} good images learned; 79 others, "
            f"{len(SPLITS)} split(s) in {ORDERS} orders each,"
        ),
        "at the default of 1 false alarm in 1,000 images.",
        "",
        (
            f"False alarms: {false_alarms} in {watched} good images "
            f"({len(SPLITS)} times 79 different ones)."
        ),
        "",
        "Images until the alarm, changed ones alone; right: the first candidate with the alarm.",
        "",
        "| change | found | median | most | right |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, runs in found.items():
        counts = [count for count, _ in runs if count]
        right = sum(good for _, good in runs)
        shown = f"{np.median(counts):g} | {max(counts)}" if counts else "- | -"
        lines.append(
            f"| {name} | {len(counts)} of {len(runs)} | {shown} | {right} of {len(runs)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
