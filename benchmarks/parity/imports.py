"""Import models of anomalib and patchcore-inspection, and compare their scores with the originals'.

    python -m benchmarks.parity.imports [--amazon DIR] [--only r18,...] [--shared DIR]

-> results/imports.json and imports.md. The peers train small models on bottle (out/peers-venv,
`make bench-peers` makes it); `patchcore-build import` imports them; ten test images are scored by
both. --amazon names the folder `src` of a copy of patchcore-inspection, which is in no registry.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.stored_sections import add_common_options, machine_line, store
from benchmarks.harness.tables import table
from benchmarks.places import RESULTS_FOLDER, ROOT
from patchcore_runtime.detector import Detector
from patchcore_runtime.image.preprocess import fit_to_input

RESULTS = RESULTS_FOLDER / "imports.json"
IMAGES = 10
LAYERS23 = ("layer2", "layer3")
_ABOUT = """\
# Imported detectors beside their originals

`python -m benchmarks.parity.imports --amazon DIR` writes this page. Ten test images of bottle are
scored by both; the table has the largest difference of any.

- *Score*: relative difference. *Map*: difference relative to the range of the map.
- *Same input*: both score the pixels that the artifact resized. *Photograph*: each reads and
  resizes the photograph itself. anomalib resizes in floating point; an artifact rounds the resized
  image to 8 bits, as patchcore-inspection does.
- *float64*: anomalib in double precision. In float32 its distances |q|² - 2 q·m + |m|² lose digits
  where they are small, as with random weights.
- *Its export*: the exported model of anomalib, as its inferencers run it, beside its own
  `Engine.predict`. Its resize is not antialiased; an artifact follows `Engine.predict`, with which
  the bank and the thresholds were made.
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model of a library."""

    library: str
    backbone: str
    weights: str | None  # below weights/ of the shared folder; None: random
    layers: tuple[str, ...] = LAYERS23
    neighbours: int = 9
    crop: int = 0
    ratio: float = 0.01
    file: str = "model.ckpt"


CASES = {
    "r18": Case(library="anomalib", backbone="resnet18", weights="resnet18-layers123.pth"),
    "r18-pt": Case(
        library="anomalib",
        backbone="resnet18",
        weights="resnet18-layers123.pth",
        file="model.pt",
    ),
    "r18-three": Case(
        library="anomalib",
        backbone="resnet18",
        weights="resnet18-layers123.pth",
        layers=("layer1", *LAYERS23),
        neighbours=1,
        ratio=0.0005,
    ),
    "r50-crop": Case(
        library="anomalib",
        backbone="resnet50",
        weights="resnet50-layers123.safetensors",
        neighbours=5,
        crop=224,
        ratio=0.004,
    ),
    "wide-random": Case(library="anomalib", backbone="wide_resnet50_2", weights=None, ratio=0.002),
    "amazon": Case(
        library="amazon",
        backbone="resnet50",
        weights="resnet50-layers123.safetensors",
        ratio=0.05,
        crop=224,
        file="",
    ),
}


def main() -> None:
    """Train, import, score and compare the requested cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser, CASES)
    parser.add_argument("--amazon", type=Path, help="folder src of patchcore-inspection")
    parser.add_argument("--peers-python", type=Path, default=Path("out/peers-venv/bin/python"))
    options = parser.parse_args()
    for name in options.only:
        case = CASES[name]
        if case.library == "amazon" and options.amazon is None:
            print(f"{name}: left out, because --amazon names no source", file=sys.stderr)
            continue
        print(f"{name} …", file=sys.stderr)
        record = measure(case, options, Path("out/parity").resolve() / name)
        about = f"{case.library}: {case.backbone}, {' '.join(case.layers)}"
        section = {"about": about, "measured": machine_line(), "records": [record]}
        store(RESULTS, name, section, page)
    print(RESULTS.with_suffix(".md").read_text(encoding="utf-8"))


def measure(case: Case, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train and import one model, if that is not done yet, and compare it with its artifact.

    Args:
        case: The model.
        options: `shared`, `peers_python` and `amazon` of the command.
        folder: For the model, the artifact and the scores of both.
    """
    category = options.shared.resolve() / "data" / "mvtec" / "bottle"
    weights = case.weights and str(options.shared.resolve() / "weights" / case.weights)
    job = {
        **asdict(case),
        "folder": str(folder),
        "model": str(folder / case.file),
        "category": str(category),
        "weights": weights,
        "source": options.amazon and str(options.amazon.resolve()),
        "name": case.backbone.replace("wide_resnet50_2", "wideresnet50"),
    }
    python = options.peers_python.absolute()
    if not folder.exists():
        folder.mkdir(parents=True)
        _run(python, folder, {**job, "task": "train"})
    if not (folder / "artifact").exists():
        _import(case, job, folder, category)
    images = test_images(category)
    detector = Detector.load(folder / "artifact")
    settings = detector.manifest.preprocess
    photographs = [Image.open(path) for path in images]
    inputs = np.stack([fit_to_input(photo, settings)[0] for photo in photographs])
    np.save(folder / "inputs.npy", inputs)
    paths = {"images": [str(path) for path in images], "inputs": str(folder / "inputs.npy")}
    _run(python, folder, {**job, **paths, "task": "score", "scores": str(folder / "scores.npz")})
    results = [detector.predict(path) for path in images]
    found = np.load(folder / "scores.npz")
    scores = np.array([result.score for result in results])
    maps = np.stack([result.anomaly_map for result in results])
    verdicts = [result.is_anomalous for result in results]
    exported = "exported_scores" in found
    exact = "double" if exported else "given"
    return {
        "library": case.library,
        "file": case.file or "folder",
        "network": case.backbone + (" (random weights)" if weights is None else ""),
        "layers": list(case.layers),
        "neighbours": detector.manifest.memory_bank.neighbours,
        "rows": detector.manifest.memory_bank.rows,
        "input": [settings.height, settings.width],
        "images": len(images),
        "score_given": _score_gap(scores, found["given_scores"]),
        "map_given": _map_gap(maps, found["given_maps"]),
        "map_double": _map_gap(maps, found[f"{exact}_maps"]),
        "score_own": _score_gap(scores, found["own_scores"]),
        "map_own": _map_gap(maps, found["own_maps"]),
        "score_export": exported and _score_gap(found["exported_scores"], found["own_scores"]),
        "map_export": exported and _map_gap(found["exported_maps"], found["own_maps"]),
        "same_verdicts": int(np.sum(found["verdicts"] == verdicts)) if case.file else None,
    }


def _score_gap(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """The largest difference of a score, relative to the original's."""
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def _map_gap(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The largest difference of a map, relative to the range of the original's map."""
    ranges = np.ptp(theirs.reshape(len(theirs), -1), axis=1)
    gaps = np.abs(ours - theirs).reshape(len(theirs), -1).max(axis=1)
    return float(np.max(gaps / ranges))


def _import(case: Case, job: Mapping[str, Any], folder: Path, category: Path) -> None:
    good = folder / "good"
    good.mkdir(exist_ok=True)
    for path in sorted((category / "train" / "good").iterdir())[::40]:
        (good / path.name).unlink(missing_ok=True)
        (good / path.name).symlink_to(path)
    command = [sys.executable, "-m", "patchcore_build", "import", case.library, job["model"]]
    command += ["--images", str(good), "--output", str(folder / "artifact")]
    if case.library == "amazon":
        command += ["--weights", job["weights"], "--resize-px", "256"]
        command += ["--threshold", "1000", "--pixel-threshold", "1000"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _run(python: Path, folder: Path, job: Mapping[str, Any]) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    log = folder / f"{job['task']}.log"
    with log.open("w") as output:
        command = [str(python), "-m", "benchmarks.parity.original", str(path)]
        done = subprocess.run(command, stdout=output, stderr=output, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{log}: the peer failed, read this file")


def test_images(category: Path) -> list[Path]:
    """Ten test images, two good ones and defects of each kind."""
    kinds = sorted((category / "test").iterdir())
    found = [path for kind in kinds for path in sorted(kind.iterdir())[:3]]
    return found[:IMAGES]


def page(results: Mapping[str, Any]) -> str:
    """The Markdown page of the results."""
    rows = []
    for section in results["sections"].values():
        one = section["records"][0]
        verdicts = one["same_verdicts"]
        rows.append(
            [
                f"{one['library']} {one['file']}",
                f"{one['network']}, {' '.join(one['layers'])}",
                f"{one['input'][0]} x {one['input'][1]}",
                str(one["rows"]),
                *(
                    f"{one[name]:.1e}"
                    for name in ("score_given", "map_given", "map_double", "score_own", "map_own")
                ),
                "" if verdicts is None else f"{verdicts} of {one['images']}",
                f"{one['score_export']:.1e}" if one["score_export"] else "",
                f"{one['map_export']:.1e}" if one["map_export"] else "",
            ]
        )
    head = [
        "original", "network", "input", "rows", "score, same input", "map, same input",
        "map, same input, float64",
        "score, photograph", "map, photograph", "same verdict", "its export: score",
        "its export: map",
    ]  # fmt: skip
    measured = next(iter(results["sections"].values()))["measured"]
    return "\n".join([_ABOUT, *table(head, rows, left=(0, 1)), "", f"Machine: {measured}.", ""])


if __name__ == "__main__":
    main()
