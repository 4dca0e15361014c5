"""Images, weights and artifacts of the sections of `make bench`.

Artifacts lie below out/bench and are fitted if missing; `fit` always fits those that it measures.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arena.race import Contestant, Record, Stable
from patchcore_build.data.demo import write_demo_dataset

WORKER = "benchmarks.bench.worker"
WIDE = "wide_resnet50_2"
SHARES = {"1 %": 0.01, "10 %": 0.1}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to fit the images."""

    backbone: str
    share: str = "1 %"
    bank_precision: str = "float32"
    feature_precision: str = "float32"

    @property
    def name(self) -> str:
        """Return the name of the artifact's folder."""
        parts = [self.backbone, self.share.replace(" %", ""), self.bank_precision]
        return "-".join([*parts, self.feature_precision])


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Paths and settings of the measurements."""

    stable: Stable
    category: Path  # train/good and test
    recipe: str
    weights: dict[str, str | None]  # of each backbone there is
    threads: list[int]
    rounds: int
    starts: int  # of the command, for the cold start

    @property
    def backbones(self) -> list[str]:
        """Return the backbones whose scoring is measured."""
        there = [name for name in self.weights if name != "scattering"]
        return there or list(self.weights)

    def image(self) -> str:
        """Return one image, the same for all contestants; with bottle it shows a defect."""
        return str(min((self.category / "test").rglob("000.*")))

    def test_images(self) -> tuple[list[str], list[bool]]:
        """Return all test images, and whether each shows a defect."""
        paths = sorted(path for path in (self.category / "test").rglob("*.*") if path.is_file())
        return [str(path) for path in paths], [path.parent.name != "good" for path in paths]

    def fit(self, kind: Kind, *, folds: int) -> Record:
        """Fit the artifact again, in a separate process on all measured cores."""
        print(f"  fitting {kind.name} …", file=sys.stderr)
        return self.stable.once(self._fit_job(kind, folds), max(self.threads))

    def artifact(self, kind: Kind) -> str:
        """Return an artifact, perhaps an earlier one; its two folds do not affect speed."""
        path = self.stable.folder / kind.name
        if not path.is_dir():
            self.fit(kind, folds=2)
        return str(path)

    def _fit_job(self, kind: Kind, folds: int) -> Contestant:
        config = {
            "recipe": self.recipe,
            "backbone": kind.backbone,
            "coreset_ratio": SHARES[kind.share],
            "bank_precision": kind.bank_precision,
            "feature_precision": kind.feature_precision,
            "folds": folds,
        }
        return WORKER, {
            "task": "fit",
            "images": str(self.category / "train" / "good"),
            "output": str(self.stable.folder / kind.name),
            "config": config,
            "weights": self.weights[kind.backbone],
        }


def open_arena(shared: Path, folder: Path, *, images: int | None, **lengths: Any) -> Arena:
    """Find real images and weights, or make the demo's; limit them to `images` if given."""
    stable = Stable(folder=folder)
    bottle = shared.resolve() / "data" / "mvtec" / "bottle"
    if not bottle.is_dir():
        if not (folder / "brushed_plate").is_dir():
            write_demo_dataset(folder)
        made = folder / "brushed_plate"
        return Arena(
            stable=stable,
            category=made,
            recipe="full-frame",
            weights={"scattering": None},
            **lengths,
        )
    folder_of = shared.resolve() / "weights"
    weights = {
        "resnet18": str(folder_of / "resnet18-layers123.pth"),
        # As many numbers for a patch as the wide network, D = 1536, with trained weights.
        "resnet50": str(folder_of / "resnet50-layers123.safetensors"),
        WIDE: "random",
        "scattering": None,
    }
    category = bottle if images is None else _first(bottle, folder / "bottle", images)
    return Arena(stable=stable, category=category, recipe="paper", weights=weights, **lengths)


def _first(category: Path, target: Path, count: int) -> Path:
    """Copy the first `count` training images."""
    if not target.is_dir():
        shutil.copytree(category / "test", target / "test")
        (target / "train" / "good").mkdir(parents=True)
        for source in sorted((category / "train" / "good").iterdir())[:count]:
            shutil.copyfile(source, target / "train" / "good" / source.name)
    return target
