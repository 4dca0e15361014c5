"""What does the gate stop? Good images, defects, and images without the part -> a report.

    python -m benchmarks.studies.gate --shared ../shared --output benchmarks/results/gate.md

Each case is an artifact: a set, a backbone, a coreset ratio and a number of training images. Scored
are the good test images (with fewer training images also the others), defective images, and images
that show something else: flat frames, noise, negatives, a dark frame, the station with the part
painted out, and parts of the other sets. The artifacts are kept below --cache.
"""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.tables import table
from patchcore_build.benchmark.machine import describe_machine
from patchcore_build.config import make_config
from patchcore_build.data.dataset import open_dataset
from patchcore_build.data.image_folder import ImageFolder
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob
from patchcore_runtime import Detector
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.scoring.gate import measure_gate

SETS = {
    "bottle": "mvtec",
    "hazelnut": "mvtec_reduced",
    "transistor": "mvtec_reduced",
    "juice_bottle": "loco",
    "commutator": "kolektor",
    "magnetic_tile": "mtd",
}
SMALL = ("bottle", "hazelnut", "transistor")  # a fit of 10 % of all images takes minutes
SEED = 0
MOST_GOOD, MOST_BAD = 150, 60  # images of a case
_SIDE_PX = 640
_COLUMNS = (
    "set", "backbone", "coreset", "images", "good: stopped", "of these below the threshold",
    "good: above the threshold", "defects: stopped", "defects: called good", "odd: stopped",
    "odd: called good", "gate, ms",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """An artifact; `images` 0 takes all training images."""

    name: str
    backbone: str
    ratio: float
    images: int

    @property
    def key(self) -> str:
        """Return the name of its artifact below the cache."""
        return f"{self.name}-{self.backbone}-{self.ratio:g}-{self.images}"


def cases(quick: bool) -> list[Case]:
    """All cases: both backbones, few and all images, 1 % and 10 %; 10 % of all of small sets."""
    counts = (24,) if quick else (24, 0)
    return [
        Case(name=name, backbone=backbone, ratio=ratio, images=images)
        for name in SETS
        for backbone, ratio in (("resnet18", 0.01), ("resnet18", 0.1), ("scattering", 0.01))
        for images in counts
        if not (ratio == 0.1 and images == 0 and name not in SMALL)
    ]


def main() -> None:
    """Measure every case and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("out/gate"))
    parser.add_argument("--quick", action="store_true", help="24 training images only")
    arguments = parser.parse_args()
    outcomes = []
    for case in cases(arguments.quick):
        outcomes.append(measure(case, arguments.shared, arguments.cache))
        text = report(outcomes)
        arguments.output.write_text(text, encoding="utf-8")
        print(" | ".join(outcomes[-1].row), flush=True)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row of the table, and the odd images that were called good."""

    row: tuple[str, ...]
    passed: tuple[str, ...]
    good: tuple[int, int]  # stopped although the score is below the threshold; scored


def measure(case: Case, shared: Path, cache: Path) -> Outcome:
    """Score everything with the artifact of one case."""
    dataset = open_dataset(shared / "data" / SETS[case.name])
    learned, others = _split(dataset.training_images(case.name), case.images)
    detector = Detector.load(_fitted(case, learned, shared, cache))
    tests = dataset.test_images(case.name)
    good = [one.path for one in tests if not one.is_anomalous] + others
    bad = [one.path for one in tests if one.is_anomalous]
    good, bad = _some(good, MOST_GOOD), _some(bad, MOST_BAD)
    odd = dict(odd_images(read_image(good[0]))) | _other_parts(case.name, shared)
    found = {
        kind: [detector.predict(image) for image in images]
        for kind, images in (("good", good), ("bad", bad), ("odd", list(odd.values())))
    }
    stopped = {kind: sum(r.verdict == "not_this_part" for r in found[kind]) for kind in found}
    called_good = {kind: sum(r.verdict == "good" for r in found[kind]) for kind in found}
    above = sum(result.score > result.threshold for result in found["good"])
    further = sum(r.verdict == "not_this_part" and r.score <= r.threshold for r in found["good"])
    one = found["good"][0]
    start = time.perf_counter()
    for _ in range(100):
        measure_gate(one.patch_distances, one.nearest_rows)
    milliseconds = (time.perf_counter() - start) * 10
    passed = tuple(
        name for name, result in zip(odd, found["odd"], strict=True) if result.verdict == "good"
    )
    return Outcome(
        row=(
            case.name,
            case.backbone,
            f"{case.ratio:.0%}",
            str(len(learned.images)),
            f"{stopped['good']} of {len(good)}",
            str(further),
            f"{above} of {len(good)}",
            f"{stopped['bad']} of {len(bad)}",
            f"{called_good['bad']} of {len(bad)}",
            f"{stopped['odd']} of {len(odd)}",
            ", ".join(passed) or "none",
            f"{milliseconds:.2f}",
        ),
        passed=passed,
        good=(further, len(good)),
    )


def odd_images(good: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Yield images of the same camera that do not show the part, by name."""
    good = good.convert("RGB")
    good.thumbnail((_SIDE_PX, _SIDE_PX))
    pixels = np.asarray(good)
    rng = np.random.default_rng(SEED)
    made = {
        "black": np.zeros_like(pixels),
        "white": np.full_like(pixels, 255),
        "grey": np.full_like(pixels, 128),
        "noise": rng.integers(0, 256, pixels.shape, np.uint8),
        "inverted": 255 - pixels,
        "a tenth of the light": (pixels * 0.1).astype(np.uint8),
        "empty": _station(pixels, rng, from_pixels=False),
        "empty, of border pixels": _station(pixels, rng, from_pixels=True),
    }
    for name, array in made.items():
        yield name, Image.fromarray(array)


def _station(
    pixels: NDArray[np.uint8], rng: np.random.Generator, *, from_pixels: bool
) -> NDArray[np.uint8]:
    """The place without the part: the border's colour with camera noise, or its pixels."""
    border = np.concatenate([pixels[:4].reshape(-1, 3), pixels[-4:].reshape(-1, 3)])
    if from_pixels:
        return border[rng.integers(0, len(border), pixels.shape[:2])]
    noisy = np.median(border, axis=0) + rng.normal(0, 2, pixels.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _other_parts(name: str, shared: Path) -> dict[str, Path]:
    """A good image of each other set."""
    return {
        f"{other}": next(
            one.path
            for one in open_dataset(shared / "data" / folder).test_images(other)
            if not one.is_anomalous
        )
        for other, folder in SETS.items()
        if other != name
    }


def _split(folder: ImageFolder, count: int) -> tuple[ImageFolder, list[Path]]:
    images = list(folder.images)
    if not count:
        return folder, []
    random.Random(SEED).shuffle(images)  # noqa: S311 - a seeded choice
    return ImageFolder(root=folder.root, images=tuple(sorted(images[:count]))), images[count:]


def _some(paths: Sequence[Path], most: int) -> list[Path]:
    step = max(1, len(paths) / most)
    return [paths[int(at * step)] for at in range(min(most, len(paths)))]


def _fitted(case: Case, learned: ImageFolder, shared: Path, cache: Path) -> Path:
    target = cache / case.key
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        weights = str(shared / "weights" / "resnet18-layers123.pth")
        fit(
            FitJob(
                images=learned,
                category=case.name,
                output=target,
                config=make_config(
                    "full-frame", backbone=case.backbone, coreset_ratio=case.ratio, seed=SEED
                ),
                weights=None if case.backbone == "scattering" else weights,
            )
        )
    return target


def report(outcomes: Sequence[Outcome]) -> str:
    """Write the page."""
    machine = describe_machine()
    stopped, scored = (sum(one.good[at] for one in outcomes) for at in (0, 1))
    return (
        f"""# The gate: images that do not show the part

{machine["date"]}, {machine["processor"]}, {machine["cores"]} cores. Default recipe, seed {SEED}.
Written by

    python -m benchmarks.studies.gate --shared ../shared --output benchmarks/results/gate.md

Stopped: the verdict is `not_this_part`. Odd images: black, white, grey, noise, the negative, a
tenth of the light, the place without the part (twice), and a part of each other set. Over all cases
{scored} scores of good images that the bank has not seen; the gate stopped {stopped} of them
({stopped / max(1, scored):.2%}) below the threshold. The last column is the gate's own time for one
image.

"""
        + "\n".join(table(_COLUMNS, [one.row for one in outcomes], left=(0, 1, 10)))
        + "\n"
    )


if __name__ == "__main__":
    main()
