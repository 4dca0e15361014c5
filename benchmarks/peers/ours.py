"""Our side of `make bench-peers`, and the files that all contestants share.

The module runs in the project's environment. Fits use the command line like a user; all else uses
the runtime's API. The protocol is that of arena/worker.py.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.worker import Job, Step, nothing, peak_mb, serve

CLI = "import sys; from patchcore_build.cli.main import main; sys.exit(main())"
PROJECTED = 296  # dimensions by Johnson and Lindenstrauss for 163,856 patches at eps 0.9


def fit(job: Job) -> Step:
    """Fit an artifact; return the seconds of each stage and the child's peak memory."""
    command = [sys.executable, "-c", CLI, "fit", "--json", "--recipe", "paper"]
    for option in ("normal", "output", "backbone", "weights", "coreset-ratio", "quantize"):
        if job.get(option) is not None:
            command += [f"--{option}", str(job[option])]

    def step() -> dict[str, Any]:
        shutil.rmtree(job["output"], ignore_errors=True)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report = json.loads(done.stdout.splitlines()[-1])
        peak = peak_mb(resource.RUSAGE_CHILDREN)
        return {"stages": report["seconds"], "peak_mb": peak, "rows": report["rows"]}

    return step


def inference(job: Job) -> Step:
    """Score one preprocessed image: network, search, score and map."""
    from patchcore_runtime import Detector
    from patchcore_runtime.image.placement import Placement

    detector = Detector.load(job["artifact"], threads=job["threads"], verify=False)
    pixels = np.load(job["image"])[0]
    height, width = pixels.shape[:2]
    placement = Placement(
        photo_height=height,
        photo_width=width,
        resized_height=height,
        resized_width=width,
        top=0,
        left=0,
    )
    return lambda: {"score": float(detector.predict_input(pixels, placement).score)}


def search(job: Job) -> Step:
    """Find the nearest bank row of each patch of one image from its features."""
    from patchcore_runtime.artifact.folder import Artifact
    from patchcore_runtime.search.open import open_index

    artifact = Artifact.open(Path(job["artifact"]))
    index = open_index(artifact, job["search"], threads=job["threads"])
    layer2, layer3 = _network(job["artifact"])(np.load(job["image"]))
    return lambda: {"rows": index.nearest((layer2, layer3))[1].ravel().tolist()}


def coreset(job: Job) -> Step:
    """Run our exact greedy k-centre on given features."""
    from patchcore_build.coreset.select import select_coreset

    features = np.load(job["features"])
    return lambda: {"picked": len(select_coreset(features, job["count"], seed=0))}


def numpy_loop(job: Job) -> Step:
    """Pick with one float32 matrix-vector product per pick."""
    from benchmarks.studies.coreset import select_coreset_plain

    features = np.load(job["features"])
    return lambda: {"picked": len(select_coreset_plain(features, job["count"], 0, np.float32))}


def share_images(job: Job) -> Step:
    """Write all training images and one test image as the network's inputs, uint8."""
    from patchcore_build.config import make_config, plan_preprocessing
    from patchcore_runtime.image.preprocess import preprocess

    settings = plan_preprocessing(make_config("paper"), [])
    for source, target in ((job["train"], "train.npy"), (job["test"], "test.npy")):
        images = [preprocess(path, settings)[0] for path in source]
        np.save(Path(job["folder"]) / target, np.stack(images))
    return nothing


def share_bank(job: Job) -> Step:
    """Write an artifact's bank (M, D) and one image's patches (P, D) for the searches."""
    from patchcore_runtime.artifact.folder import Artifact

    bank = Artifact.open(job["artifact"], verify=False).memory_bank
    np.save(job["bank"], np.concatenate([bank.layers[0], bank.layers[1]], axis=1))
    np.save(job["queries"], _patches(*_network(job["artifact"])(np.load(job["image"]))))
    return nothing


def share_features(job: Job) -> Step:
    """Write the projected patches of all training images, (N·P, 296)."""
    from patchcore_build.coreset.select import random_projection

    network = _network(job["artifact"])
    patches = [_patches(*network(image[None])) for image in np.load(job["images"])]
    matrix = random_projection(patches[0].shape[1], PROJECTED, seed=0)
    np.save(job["features"], np.concatenate([rows @ matrix for rows in patches]))
    return nothing


def _network(artifact: str) -> Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Return an artifact's features.onnx as a function of images (B, H, W, 3)."""
    from patchcore_runtime.artifact.folder import FEATURES_ONNX
    from patchcore_runtime.engine.session import open_network

    session = open_network(Path(artifact) / FEATURES_ONNX)
    return lambda images: session.run(["layer2", "layer3"], {"images": images})


def _patches(layer2: NDArray[np.float32], layer3: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute patch vectors (P, D) of one image, with layer3 upsampled to layer2's grid."""
    from patchcore_runtime.bank.patches import upsampling_matrix

    fine, coarse = layer2[0], layer3[0]
    rows = upsampling_matrix(fine.shape[1], coarse.shape[1], "bilinear")
    columns = upsampling_matrix(fine.shape[2], coarse.shape[2], "bilinear")
    whole = np.concatenate([fine, rows @ coarse @ columns.T])  # (D, h, w)
    return np.ascontiguousarray(whole.reshape(len(whole), -1).T, dtype=np.float32)


if __name__ == "__main__":
    serve(
        {
            "fit": fit,
            "inference": inference,
            "search": search,
            "coreset": coreset,
            "numpy loop": numpy_loop,
            "share images": share_images,
            "share bank": share_bank,
            "share features": share_features,
        }
    )
