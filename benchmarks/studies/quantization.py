r"""Speed and accuracy of int8 against float32 -> benchmarks/results/quantization.md.

    python -m benchmarks.studies.quantization [--pair FLOAT32 INT8]... [--fitted INT8]... \
        [--rounds N]

Pairs are artifacts of the same images and settings, with and without `--quantize int8`. Their
features.onnx and `Detector.predict_input` take turns in one run. `--fitted` names int8 artifacts
that `fit` compared with float32 on a test set; their manifests contain the figures.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.places import RESULTS_FOLDER
from patchcore_build.benchmark.machine import describe_machine
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.artifact.folder import FEATURES_ONNX
from patchcore_runtime.engine.session import open_network
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import fit_to_input

TARGET = RESULTS_FOLDER / "quantization.md"
WARM_UP = 3
NOTES = """
## What was tried

ResNet-18, `paper` recipe's geometry (224), 1 %, maximum as score; change of image / pixel AUROC
against float32 with the same seed. Measured once, by hand, on the graphs as they were then.

| int8 variant | magnetic_tile, seed 0 | seed 1 | bottle |
|---|--:|--:|--:|
| shipped: first convolution float32, 7 bits | -.0018 / -.0012 | +.0010 / -.0005 | .0000 / +.0001 |
| first convolution float32, 8 bits | -.0030 / -.0004 | -.0011 / +.0010 | .0000 / -.0004 |
| all convolutions, 8-bit weights | -.0042 / -.0012 | -.0013 / +.0001 | |
| the same, rows picked anew by int8 | -.0134 / -.0080 | | .0000 / -.0001 |
| all convolutions, 7-bit weights | -.0062 / -.0055 | -.0050 / -.0053 | |
| the same, rows picked anew by int8 | -.0101 / -.0020 | | .0000 / .0000 |
| for comparison: float32, seed 1 instead of 0 | | -.0076 / -.0041 | |

Rows are those that float32 picks, except where said, and always for bottle, where each network
picked its own. Another draw of rows moves AUROC more than int8 does: that is why the rows are kept.

Error of layer2 / layer3 relative to float32 (bottle; ranges from 32 images): minimum and maximum
.0442 / .0386, 99.999 % .0426 / .0379, entropy .0436 / .0376; with the first convolution in float32
.0378 / .0331 and .0351 / .0316 (99.999 %), with 7-bit weights .0555 / .0486. Without
`Relu` among the operators to quantize: .077 / .065, and a float detour between layers. The
scattering network: .36 / .30, three times slower; it is refused.
"""


def main() -> None:
    """Measure the pairs, collect the figures and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", nargs=2, type=Path, action="append", default=[])
    parser.add_argument("--fitted", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    lines = [
        "# int8 against float32",
        "",
        "Written by `python -m benchmarks.studies.quantization`.",
    ]
    lines += [f"{machine}. Machines are shared: trust ratios before times.", ""]
    lines += ["| network, threads | part | float32, ms | int8, ms | times faster |"]
    lines += ["|---|---|--:|--:|--:|"]
    for float32, int8 in arguments.pair:
        for threads in (1, 2):
            lines += _speed_rows(float32, int8, threads, arguments.rounds)
    lines += ["", "| int8 artifact | figure | float32 | int8 | difference |"]
    lines += ["|---|---|--:|--:|--:|"]
    for folder in arguments.fitted:
        lines += _accuracy_rows(folder)
    TARGET.write_text("\n".join([*lines, NOTES]), encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"))


def _speed_rows(float32: Path, int8: Path, threads: int, rounds: int) -> list[str]:
    runs: dict[str, Callable[[], Any]] = {}
    for name, folder in (("float32", float32), ("int8", int8)):
        detector = Detector.load(folder, threads=threads)
        image = read_image(detector.artifact.path("selftest.png"))
        runs[f"predict_input {name}"] = _predict(detector, image)
        runs[f"features.onnx {name}"] = _features(detector, image, threads)
    medians = _take_turns(runs, rounds)
    features = Artifact.open(float32, verify=False).manifest.features
    rows = []
    for part in ("features.onnx", "predict_input"):
        before, after = medians[f"{part} float32"], medians[f"{part} int8"]
        rows.append(
            f"| {features.backbone}, {threads} | {part} | {before:.1f} | {after:.1f} "
            f"| {before / after:.2f} |"
        )
    return rows


def _predict(detector: Detector, image: Any) -> Callable[[], Any]:
    pixels, placement = fit_to_input(image, detector.manifest.preprocess)
    return lambda: detector.predict_input(pixels, placement)


def _features(detector: Detector, image: Any, threads: int) -> Callable[[], Any]:
    pixels, _ = fit_to_input(image, detector.manifest.preprocess)
    batch = np.ascontiguousarray(pixels[None])
    session = open_network(detector.artifact.path(FEATURES_ONNX), threads=threads)
    return lambda: session.run(None, {"images": batch})


def _take_turns(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median ms of each; they take turns on the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + WARM_UP):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[WARM_UP:]) for name, values in taken.items()}


def _accuracy_rows(folder: Path) -> list[str]:
    manifest = Artifact.open(folder, verify=False).manifest
    auroc = manifest.provenance["quantization"]["auroc"]
    title = f"{manifest.training.category}, {manifest.config['recipe']}, "
    title += f"{manifest.features.backbone}, {manifest.config['coreset_ratio']:.0%}"
    return [
        f"| {title} | {name} AUROC | {auroc['float32'][name]:.4f} | {auroc['int8'][name]:.4f} "
        f"| {change:+.4f} |"
        for name, change in auroc["difference"].items()
    ]


if __name__ == "__main__":
    main()
