"""Shared files of all contestants of `make bench-peers`: images, weights, artifacts, banks.

Each file in out/peers is made at its first use, so that any section can run alone.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arena.race import Contestant, Record, Stable
from benchmarks.peers.targets import SHARES

OURS = "benchmarks.peers.ours"
ANOMALIB = "benchmarks.peers.anomalib_model"
AMAZON = "benchmarks.peers.amazon"
SEARCH = "benchmarks.peers.search"
PATCHES = 784  # 28 x 28 in an image of 224 px
BACKBONES = ("wide_resnet50_2", "resnet18")


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Paths and settings of the measurements."""

    stable: Stable
    category: Path
    resnet18: Path
    backbones: list[str]
    threads: list[int]
    rounds: int  # turns of every contestant in the short races
    laps: int  # images scored in one turn
    full: bool
    images_used: int | None = None

    def check(self) -> None:
        """Fail at once on errors that would otherwise appear after ten minutes."""
        for path in (self.category, self.resnet18):
            if not path.exists():
                raise SystemExit(f"{path}: not there; point --shared to the folder that has it")
        if self.stable.peers_python is None or not self.stable.peers_python.is_file():
            raise SystemExit(f"{self.stable.peers_python}: not there; run `make bench-peers`")

    def training_images(self) -> list[str]:
        """Return the good images, in the order of our own listing."""
        good = sorted((self.category / "train" / "good").iterdir())
        return [str(path) for path in good[: self.images_used]]

    def patches(self) -> int:
        """Return N·P, the patches of all images."""
        return len(self.training_images()) * PATCHES

    def rows(self, share: str) -> int:
        """Return the rows of a bank, rounded down as anomalib does."""
        return int(self.patches() * SHARES[share])

    def images(self, name: str = "train.npy") -> str:
        """Write all training images, or test.npy with one defect, uint8 (N, 224, 224, 3)."""
        path = self.stable.folder / name
        if not path.is_file():
            test = min(str(path) for path in (self.category / "test").glob("broken*/000.*"))
            self._share(
                "share images",
                train=self.training_images(),
                test=[test],
                folder=str(self.stable.folder),
            )
        return str(path)

    def weights(self, backbone: str) -> str:
        """Return trained weights of resnet18, seeded random ones of others: speed is the same."""
        if backbone == "resnet18":
            return str(self.resnet18)
        path = self.stable.folder / f"{backbone}.pth"
        if not path.is_file():
            job = {"task": "weights", "backbone": backbone, "weights": str(path)}
            self.stable.once((ANOMALIB, job), max(self.threads))
        return str(path)

    def fit_job(self, backbone: str, rows: int, quantize: str | None = None) -> Contestant:
        """Describe our fit from images to artifact."""
        return OURS, {
            "task": "fit",
            "normal": self._good(),
            "output": self._artifact(backbone, rows, quantize),
            "backbone": backbone,
            "weights": self.weights(backbone),
            "coreset-ratio": rows / self.patches(),
            "quantize": quantize,
        }

    def artifact(self, backbone: str, rows: int, quantize: str | None = None) -> str:
        """Return a fitted artifact."""
        path = self._artifact(backbone, rows, quantize)
        if not Path(path).is_dir():
            print(f"  fitting {Path(path).name} …", file=sys.stderr)
            self.stable.once(self.fit_job(backbone, rows, quantize), max(self.threads))
        return path

    def bank(self, backbone: str, rows: int) -> dict[str, str]:
        """Write our bank (M, D), with queries (P, D) of the test image, as .npy files."""
        folder = self.stable.folder
        job = {
            "bank": str(folder / f"bank-{backbone}-{rows}.npy"),
            "queries": str(folder / f"queries-{backbone}.npy"),
        }
        artifact, image = self.artifact(backbone, rows), self.images("test.npy")
        # Written again each time, because the bank must be that of the artifact beside it.
        self._share("share bank", artifact=artifact, image=image, **job)
        return job

    def features(self) -> str:
        """Write projected real features of all images, float32 (N·P, 296)."""
        path = self.stable.folder / "features.npy"
        if not path.is_file():
            self._share(
                "share features",
                artifact=self.artifact("resnet18", self.rows("1 %")),
                images=self.images(),
                features=str(path),
            )
        return str(path)

    def can_quantize(self) -> bool:
        """Return whether our `fit` has --quantize."""
        code = "from patchcore_build.cli.main import main; main(['fit', '--help'])"
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        return "--quantize" in told.stdout

    def _good(self) -> str:
        """Return a folder with the images used."""
        folder = self.stable.folder / "good"
        folder.mkdir(exist_ok=True)
        for source in map(Path, self.training_images()):
            if not (folder / source.name).exists():
                shutil.copyfile(source, folder / source.name)
        return str(folder)

    def _artifact(self, backbone: str, rows: int, quantize: str | None) -> str:
        name = "-".join(["ours", backbone, str(rows), quantize or "fp32"])
        return str(self.stable.folder / name)

    def _share(self, task: str, **job: Any) -> Record:
        return self.stable.once((OURS, {"task": task, **job}), max(self.threads))
