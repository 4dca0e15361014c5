"""anomalib's PatchCore beside ours: fit, torch inference, OpenVINO inference, its coreset.

The module runs in out/peers-venv and uses anomalib's own classes. Weights, images and bank are the
same as ours, so the scores must agree. The protocol is that of arena/worker.py.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.worker import Job, Step, nothing, serve

BATCH = 8  # images, as in our fit
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def fit(job: Job) -> Step:
    """Compute features of all images, then `subsample_embedding` at the ratio."""
    import torch

    torch.set_num_threads(job["threads"])
    model = _model(job)
    images = np.load(job["images"], mmap_mode="r")

    def step() -> dict[str, Any]:
        start = time.perf_counter()
        model.train()
        for first in range(0, len(images), BATCH):
            model(torch.from_numpy(_normalised(images[first : first + BATCH])))
        features = time.perf_counter() - start
        start = time.perf_counter()
        model.subsample_embedding(job["ratio"])
        stages = {"features": features, "coreset": time.perf_counter() - start}
        return {"stages": stages, "rows": len(model.memory_bank)}

    return step


def projection(job: Job) -> Step:
    """Time its coreset up to the first pick, to separate this from the cost of the picks."""
    import torch
    from anomalib.models.components import KCenterGreedy

    torch.set_num_threads(job["threads"])
    embedding = torch.rand(job["rows"], job["dim"])

    def step() -> dict[str, Any]:
        sampler = KCenterGreedy(embedding=embedding, sampling_ratio=1.5 / job["rows"])
        return {"picked": len(sampler.sample_coreset())}

    return step


def torch_inference(job: Job) -> Step:
    """Run the model's forward pass: network, search, score and map."""
    import torch

    torch.set_num_threads(job["threads"])
    model = _model(job).eval()
    model.memory_bank = torch.from_numpy(np.load(job["bank"]))
    image = torch.from_numpy(_normalised(np.load(job["image"])))

    def step() -> dict[str, Any]:
        with torch.inference_mode():
            return {"score": float(model(image).pred_score)}

    return step


def export(job: Job) -> Step:
    """Write the OpenVINO model with anomalib's own `to_openvino`, float32, for one image.

    By default anomalib 2.7.0 writes a model that accepts exactly two images; OpenVINO is also
    fastest with a fixed size.
    """
    import torch
    from anomalib.models import Patchcore

    off = dict.fromkeys(("pre_processor", "post_processor", "evaluator", "visualizer"), False)
    module = Patchcore(backbone=job["backbone"], pre_trained=False, **off)
    module.model = _model(job)
    module.model.memory_bank = torch.from_numpy(np.load(job["bank"]))
    size = np.load(job["image"]).shape[1:3]
    module.to_openvino(job["folder"], input_size=size, onnx_kwargs={"dynamic_axes": None})
    return nothing


def openvino_inference(job: Job) -> Step:
    """Run the exported model, compiled for latency; `precision` f32, or None for OpenVINO's."""
    import openvino

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": job["threads"],
    }
    if job["precision"]:
        settings["INFERENCE_PRECISION_HINT"] = job["precision"]
    path = next(iter(Path(job["folder"]).rglob("*.xml")))
    model = openvino.Core().compile_model(path, "CPU", settings)
    used = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    request = model.create_infer_request()
    image = _normalised(np.load(job["image"]))

    def step() -> dict[str, Any]:
        answers = request.infer([image])
        return {"score": float(answers["pred_score"].squeeze()), "precision": used}

    return step


def coreset(job: Job) -> Step:
    """Run its greedy k-centre on given features without projection; at most `steps` picks."""
    import torch
    from anomalib.models.components import KCenterGreedy

    torch.set_num_threads(job["threads"])
    features = torch.from_numpy(np.load(job["features"]))

    def step() -> dict[str, Any]:
        sampler = KCenterGreedy(embedding=features, sampling_ratio=1.0)
        sampler.features = features
        row = torch.tensor(0)
        for _ in range(job["count"] - 1):
            sampler.update_distances(row)
            row = sampler.get_new_idx()
        return {"last": int(row)}

    return step


def torch_loop(job: Job) -> Step:
    """Run the loop of most published code: torch.cdist of all rows to the last pick."""
    import torch

    torch.set_num_threads(job["threads"])
    points = torch.from_numpy(np.load(job["features"]))

    def step() -> dict[str, Any]:
        gaps = torch.full((len(points), 1), float("inf"))
        row = 0
        for _ in range(job["count"] - 1):
            gaps = torch.minimum(gaps, torch.cdist(points, points[row : row + 1]))
            row = int(gaps.argmax())
        return {"last": row}

    return step


def weights(job: Job) -> Step:
    """Write seeded random weights under torchvision's names."""
    import torch
    import torchvision

    torch.manual_seed(0)
    network = getattr(torchvision.models, job["backbone"])(weights=None)
    kept = {n: v for n, v in network.state_dict().items() if not n.startswith(("layer4", "fc"))}
    torch.save(kept, job["weights"])
    return nothing


def imports(_job: Job) -> Step:
    """Only import what fit and torch inference import, to measure its share of memory."""
    from anomalib.models.image.patchcore import torch_model

    return lambda: {"module": torch_model.__name__}


def _model(job: Job) -> Any:
    """Load anomalib's torch model with the shared weights; nothing is downloaded."""
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    model = PatchcoreModel(
        layers=("layer2", "layer3"), backbone=job["backbone"], pre_trained=False, num_neighbors=9
    )
    network = model.feature_extractor.feature_extractor
    loaded = torch.load(job["weights"], weights_only=True)
    missing = network.load_state_dict(loaded, strict=False).missing_keys
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise SystemExit(f"{job['weights']}: lacks {missing[0]}, which timm's network has")
    return model


def _normalised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalise (B, H, W, 3) to (B, 3, H, W), as the network was trained."""
    scaled = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    return np.ascontiguousarray((scaled - MEAN) / STD)


if __name__ == "__main__":
    serve(
        {
            "imports": imports,
            "weights": weights,
            "fit": fit,
            "projection": projection,
            "torch": torch_inference,
            "export": export,
            "openvino": openvino_inference,
            "coreset": coreset,
            "torch loop": torch_loop,
        }
    )
