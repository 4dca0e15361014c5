"""Exported detectors in other engines, beside the artifact's own detector.

    python -m benchmarks.parity.exports [--only full-frame,...] [--shared DIR]

-> results/exports.json and exports.md. Fits bottle with ResNet-18 by each recipe (kept in
out/exports), exports it with and without the resize, and scores ten test images in onnxruntime, in
OpenVINO (`pip install openvino`) and in Chromium (`npm ci --prefix tests/web`). An engine that is
not installed is left out by name.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.stored_sections import add_common_options, machine_line, store
from benchmarks.harness.tables import table
from benchmarks.parity.browser import WebJob, missing, score_in_browser
from benchmarks.parity.imports import test_images
from benchmarks.places import RESULTS_FOLDER
from patchcore_build.deploy.one_file import OneFile, export_one_file
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.detector import Detector
from patchcore_runtime.image.placement import place_input
from patchcore_runtime.image.preprocess import fit_to_input

RESULTS = RESULTS_FOLDER / "exports.json"
RECIPES = ("full-frame", "paper", "modelzoo")
WEIGHTS = "resnet18-layers123.pth"
ROUNDS = 7
WEB_ROUNDS = 3
_ABOUT = """\
# Exported detectors in other engines

`python -m benchmarks.parity.exports` writes this page. ResNet-18 with trained weights on bottle;
ten test images are scored by the artifact's detector and by its export.

- *Score*: the largest relative difference of any image. *Map*: the largest difference relative to
  the largest value of that map. *Verdicts*: images with the same one.
- *Export*: `input` takes the resized input; `photograph` takes the photograph of 640 x 640 px and
  resizes it inside.
- *ms*: an image, the median of ten; each is the best of seven rounds in which detector and engine
  take turns (browser: the best of three, one thread, after the others).
- In the rows of onnxruntime the export's threads spin after each run and disturb the detector.
  Compare its time with the detector's in the rows of OpenVINO.
- OpenVINO's own choice of precision is bfloat16 on CPUs that compute it; *f32* sets
  `INFERENCE_PRECISION_HINT`.

<!-- table -->
"""

Images = list[NDArray[np.uint8]]
Outputs = tuple[float, bool, NDArray[np.float32]]  # score, verdict, map
Engine = Callable[[NDArray[np.uint8]], Outputs]


def main() -> None:
    """Fit, export, score and compare the requested recipes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser, RECIPES)
    options = parser.parse_args()
    for recipe in options.only:
        print(f"{recipe} …", file=sys.stderr)
        measured, records = machine_line(), measure(recipe, options.shared.resolve())
        section = {"about": recipe, "measured": measured + _versions(), "records": records}
        store(RESULTS, recipe, section, page)
    print(RESULTS.with_suffix(".md").read_text(encoding="utf-8"))


def measure(recipe: str, shared: Path) -> list[dict[str, Any]]:
    """Compare both exports of one recipe in every engine."""
    folder = Path("out/exports").resolve() / recipe
    category = shared / "data" / "mvtec" / "bottle"
    if not folder.exists():
        command = [sys.executable, "-m", "patchcore_build", "fit", "--dataset", category.parent]
        command += ["--category", "bottle", "--backbone", "resnet18", "--recipe", recipe]
        command += ["--weights", shared / "weights" / WEIGHTS, "--output", folder]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    artifact = Artifact.open(folder)
    photographs = [np.asarray(Image.open(path).convert("RGB")) for path in test_images(category)]
    records = []
    with tempfile.TemporaryDirectory() as scratch:
        for form in ("input", "photograph"):
            records += _compare(artifact, form, photographs, Path(scratch) / form)
    return records


def _compare(artifact: Artifact, form: str, photos: Images, scratch: Path) -> list[dict[str, Any]]:
    settings = artifact.manifest.preprocess
    detector = Detector(artifact)
    if form == "photograph":
        images, size = photos, photos[0].shape[:2]
    else:
        images, size = [fit_to_input(Image.fromarray(photo), settings)[0] for photo in photos], None
    target = scratch / "detector.onnx"
    export_one_file(artifact, target, OneFile(photo_size=size))
    place = place_input(photos[0].shape[0], photos[0].shape[1], settings)

    def own(image: NDArray[np.uint8]) -> Outputs:
        scored = detector.predict(image) if size else detector.predict_input(image, place)
        return scored.score, scored.is_anomalous, scored.anomaly_map

    facts = {"export": form, "input": list(images[0].shape[:2]), "bytes": target.stat().st_size}
    records = []
    for name, make in _ENGINES.items():
        if name.startswith("openvino") and importlib.util.find_spec("openvino") is None:
            print("openvino: left out, because it is not installed", file=sys.stderr)
            continue
        records.append({**facts, "engine": name, **_turns(own, make(target), images)})
    reason = missing()
    if reason is None:
        browsed = _browsed(target, images, scratch)
        seconds = [one["milliseconds"] / 1e3 for one in browsed]
        shaped = [np.reshape(one["map"], (one["height"], one["width"])) for one in browsed]
        got = [
            (one["score"], one["isAnomalous"], heat.astype(np.float32))
            for one, heat in zip(browsed, shaped, strict=True)
        ]
        gaps = _gaps(got, [own(image) for image in images])
        web = {"ms": 1e3 * median(seconds), "detector_ms": None}
        records.append({**facts, "engine": "onnxruntime-web", **gaps, **web})
    else:
        print(f"onnxruntime-web: left out, {reason}", file=sys.stderr)
    return records


def _browsed(target: Path, images: Images, scratch: Path) -> list[dict[str, Any]]:
    paths = [scratch / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    job = WebJob(model=target, images=paths, rounds=WEB_ROUNDS)
    return score_in_browser([job], scratch / "profile")


def _turns(own: Engine, engine: Engine, images: Images) -> dict[str, Any]:
    """Score all images by both, in turns; the best time of each image counts."""
    expected, got = [own(image) for image in images], [engine(image) for image in images]
    best = np.full((2, len(images)), np.inf)
    for _ in range(ROUNDS):
        for at, image in enumerate(images):
            for who, run in enumerate((own, engine)):
                start = time.perf_counter()
                run(image)
                best[who, at] = min(best[who, at], time.perf_counter() - start)
    detector_ms, engine_ms = (1e3 * float(np.median(row)) for row in best)
    return {**_gaps(got, expected), "ms": engine_ms, "detector_ms": detector_ms}


def _gaps(got: Sequence[Outputs], expected: Sequence[Outputs]) -> dict[str, Any]:
    pairs = list(zip(got, expected, strict=True))
    return {
        "images": len(pairs),
        "score": max(abs(a[0] - b[0]) / b[0] for a, b in pairs),
        "map": max(float(np.abs(a[2] - b[2]).max() / b[2].max()) for a, b in pairs),
        "verdicts": sum(a[1] == b[1] for a, b in pairs),
    }


def _onnxruntime(target: Path) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    names = ["score", "is_anomalous", "anomaly_map"]

    def run(image: NDArray[np.uint8]) -> Outputs:
        score, verdict, heat = session.run(names, {"image": image[None]})
        return float(score[0]), bool(verdict[0]), heat[0]

    return run


def _openvino(settings: Mapping[str, str]) -> Callable[[Path], Engine]:
    def make(target: Path) -> Engine:
        import openvino

        compiled = openvino.Core().compile_model(str(target), "CPU", dict(settings))

        def run(image: NDArray[np.uint8]) -> Outputs:
            found = compiled({"image": image[None]})
            verdict = bool(found["is_anomalous"][0])
            return float(found["score"][0]), verdict, found["anomaly_map"][0].copy()

        return run

    return make


_ENGINES: dict[str, Callable[[Path], Engine]] = {
    "onnxruntime": _onnxruntime,
    "openvino, f32": _openvino({"INFERENCE_PRECISION_HINT": "f32"}),
    "openvino, its own precision": _openvino({}),
}


def _versions() -> str:
    """The engines that were there, for the line about the machine."""
    found = []
    if importlib.util.find_spec("openvino") is not None:
        import openvino

        found.append(f"openvino {openvino.__version__}")
    if missing() is None:
        found.append("onnxruntime-web of tests/web/package.json")
    return "".join(f", {one}" for one in found)


def page(results: Mapping[str, Any]) -> str:
    """The Markdown page of the results."""
    rows = [
        [
            recipe,
            one["export"],
            f"{one['bytes'] / 1e6:.1f}",
            one["engine"],
            f"{one['score']:.1e}",
            f"{one['map']:.1e}",
            f"{one['verdicts']} of {one['images']}",
            f"{one['ms']:.1f}",
            "" if one["detector_ms"] is None else f"{one['detector_ms']:.1f}",
        ]
        for recipe, section in results["sections"].items()
        for one in section["records"]
    ]
    head = ["recipe", "export", "MB", "engine", "score", "map", "verdicts", "ms", "detector, ms"]
    measured = [
        f"- {name}: {section['measured']}." for name, section in results["sections"].items()
    ]
    return "\n".join([_ABOUT, *table(head, rows, left=(0, 1, 3)), "", *measured, ""])


if __name__ == "__main__":
    main()
