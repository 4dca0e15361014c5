"""The measured side of `make bench` and of scaling, one process each (protocol: arena/worker.py).

A job names a task, and the task's docstring says what it measures. `artifact` is a folder, `image`
and `images` are files, `threads` is the number of cores of this process.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.worker import Job, Step, nothing, serve
from benchmarks.harness.resident import AnonymousPeak
from patchcore_runtime import Detector
from patchcore_runtime.artifact.folder import FEATURES_ONNX, INDEX_ONNX, MEMORY_BANK, Artifact
from patchcore_runtime.engine.session import open_network
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import fit_to_input
from patchcore_runtime.ordered_work import work_in_order, workers_for
from patchcore_runtime.scoring.patch_scorer import PatchScorer
from patchcore_runtime.search.exact import ExactIndex, NearestIndex
from patchcore_runtime.search.open import open_index

_SIDE = 1024  # of the squares whose product is the yardstick


def fit(job: Job) -> Step:
    """Fit an artifact; return the seconds of each stage, and the memory before and at its peak."""
    from patchcore_build import FitJob, make_config
    from patchcore_build import fit as build

    output = Path(job["output"])
    task = FitJob(
        images=Path(job["images"]),
        category="benchmark",
        output=output,
        config=make_config(**job["config"]),
        weights=job["weights"],
        memory_budget_gb=job.get("memory_budget_gb", 8.0),
    )

    def step() -> dict[str, Any]:
        shutil.rmtree(output, ignore_errors=True)
        with AnonymousPeak() as peak:
            report = build(task)
        return {
            "stages": report.seconds,
            "rows": report.rows,
            "images": report.images,
            "anonymous_mb": peak.mb,
            "bank_mb": (output / MEMORY_BANK).stat().st_size / 2**20,
        }

    return step


def imports(_job: Job) -> Step:
    """Only import what a fit imports, to measure its memory."""
    import mindspore  # noqa: F401

    import patchcore_build  # noqa: F401

    return nothing


class _Found:
    """An index that already has the answer, so that only score and map are timed."""

    def __init__(self, index: NearestIndex, layers: list[NDArray[np.float32]]) -> None:
        self._found = index.nearest(layers)

    def nearest(
        self, _layers: list[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the stored answer."""
        return self._found


def stages(job: Job) -> Step:
    """Time all stages of an image `rounds` times; they take turns on the same machine."""
    folder, threads, source = Path(job["artifact"]), job["threads"], job["image"]
    detector = Detector.load(folder, threads=threads, verify=False)
    manifest, bank = detector.manifest, detector.artifact.memory_bank
    network = open_network(folder / FEATURES_ONNX, threads=threads)
    index = ExactIndex(folder / INDEX_ONNX, bank, manifest.features, threads=threads)
    image = read_image(source)
    pixels, placement = fit_to_input(image, manifest.preprocess)
    layers = network.run(["layer2", "layer3"], {"images": pixels[None]})
    scorer = PatchScorer(bank, _Found(index, layers), manifest.layout, manifest.scoring)
    runs: dict[str, Callable[[], object]] = {
        "decode": lambda: read_image(source),
        "resize": lambda: fit_to_input(image, manifest.preprocess),
        "features": lambda: network.run(["layer2", "layer3"], {"images": pixels[None]}),
        "search": lambda: index.nearest(layers),
        "score + map": lambda: scorer.score(layers),
        "predict without decode and resize": lambda: detector.predict_input(pixels, placement),
        "predict": lambda: detector.predict(source),
    }
    return lambda: {"seconds": _take_turns(runs, job["rounds"], warm_up=job["warm_up"])}


def _take_turns(
    runs: dict[str, Callable[[], object]], rounds: int, *, warm_up: int
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(warm_up + rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: seconds[warm_up:] for name, seconds in taken.items()}


def predict(job: Job) -> Step:
    """Score images, from files to results, in one of two ways that `in_order` selects.

    One after the other with all threads on each, `predict_batch`; or as `patchcore-runtime score`
    does, several at once (ordered_work).
    """
    threads, images = job["threads"], job["images"]
    if not job["in_order"]:
        detector = Detector.load(job["artifact"], threads=threads, verify=False)
        return lambda: {"images": len(detector.predict_batch(images))}
    workers = workers_for(threads, len(images))
    detector = Detector.load(job["artifact"], threads=threads // workers, verify=False)
    return lambda: {"images": len(list(work_in_order(detector.predict, images, workers=workers)))}


def predict_input(job: Job) -> Step:
    """Score one preprocessed image with the search that the job names."""
    detector = Detector.load(
        job["artifact"], threads=job["threads"], verify=False, search=job["search"]
    )
    image = fit_to_input(read_image(job["image"]), detector.manifest.preprocess)
    return lambda: {"score": detector.predict_input(*image).score}


def search(job: Job) -> Step:
    """Find the nearest bank row of each patch of one image from its features."""
    folder, threads = Path(job["artifact"]), job["threads"]
    artifact = Artifact.open(folder)
    index = open_index(artifact, job["search"], threads=threads)
    pixels, _ = fit_to_input(read_image(job["image"]), artifact.manifest.preprocess)
    layers = _layers(folder, pixels, threads)
    return lambda: {"distances": float(index.nearest(layers)[0].sum())}


def features(job: Job) -> Step:
    """Run one preprocessed image through features.onnx."""
    folder, threads = Path(job["artifact"]), job["threads"]
    settings = Detector.load(folder, threads=1, verify=False).manifest.preprocess
    pixels, _ = fit_to_input(read_image(job["image"]), settings)
    network = open_network(folder / FEATURES_ONNX, threads=threads)
    return lambda: {"layers": len(network.run(["layer2", "layer3"], {"images": pixels[None]}))}


def _layers(folder: Path, pixels: NDArray[np.uint8], threads: int) -> list[NDArray[np.float32]]:
    network = open_network(folder / FEATURES_ONNX, threads=threads)
    layers: list[NDArray[np.float32]] = network.run(["layer2", "layer3"], {"images": pixels[None]})
    return layers


def scores(job: Job) -> Step:
    """Return the score of every image."""
    detector = Detector.load(job["artifact"], threads=job["threads"], verify=False)
    return lambda: {"scores": [r.score for r in detector.predict_batch(job["images"])]}


def yardstick(_job: Job) -> Step:
    """Measure GFLOP/s of a float32 product of two squares, the better of NumPy and onnxruntime."""
    square = np.random.default_rng(0).random((_SIDE, _SIDE), np.float32)
    products = {"NumPy": lambda: square @ square, "onnxruntime": _onnx_product(square)}

    def step() -> dict[str, Any]:
        taken = _take_turns(products, 20, warm_up=3)
        return {name: 2e-9 * _SIDE**3 / min(seconds) for name, seconds in taken.items()}

    return step


def _onnx_product(square: NDArray[np.float32]) -> Callable[[], Any]:
    import onnx
    import onnxruntime

    left, right, out = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [_SIDE, _SIDE])
        for name in ("left", "right", "out")
    )
    node = onnx.helper.make_node("MatMul", ["left", "right"], ["out"])
    graph = onnx.helper.make_graph([node], "product", [left, right], [out])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"left": square, "right": square})


if __name__ == "__main__":
    serve(
        {
            "fit": fit,
            "imports": imports,
            "stages": stages,
            "predict": predict,
            "predict input": predict_input,
            "search": search,
            "features": features,
            "scores": scores,
            "yardstick": yardstick,
        }
    )
