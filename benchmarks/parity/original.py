"""The originals of an import: train a small model with its own library, and score images with it.

The module runs in the peers' environment: `python -m benchmarks.parity.original JOB.json`.

A job {"task": "train" or "score", "library", "folder", ...} -> a model's files, or scores.npz with
scores and maps of photographs read by the library itself ("own") and of inputs that the artifact
resized ("given").
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Job = dict[str, Any]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Scored = tuple[float, NDArray[np.float32]]


def main() -> None:
    """Run the job of the file on the command line."""
    job: Job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - patchcore-inspection draws from it
    torch.set_num_threads(2)
    tasks = {
        ("train", "anomalib"): train_anomalib,
        ("score", "anomalib"): score_anomalib,
        ("train", "amazon"): train_amazon,
        ("score", "amazon"): score_amazon,
    }
    tasks[job["task"], job["library"]](job)


def train_anomalib(job: Job) -> None:
    """Train anomalib's PatchCore with given weights; write its .ckpt, and its .pt by its export."""
    from anomalib.data import Folder
    from anomalib.deploy import ExportType
    from anomalib.engine import Engine
    from anomalib.models import Patchcore

    crop = job["crop"]
    pre_processor: Any = True
    if crop:
        sides = {"image_size": (256, 256), "center_crop_size": (crop, crop)}
        pre_processor = Patchcore.configure_pre_processor(**sides)
    model = Patchcore(
        backbone=job["backbone"],
        layers=job["layers"],
        pre_trained=False,
        coreset_sampling_ratio=job["ratio"],
        num_neighbors=job["neighbours"],
        pre_processor=pre_processor,
        visualizer=False,
    )
    if job["weights"]:
        network = model.model.feature_extractor.feature_extractor
        _load(network, job["weights"])
    data = Folder(
        name="bottle",
        root=job["category"],
        normal_dir="train/good",
        abnormal_dir="test/broken_large",
        normal_test_dir="test/good",
        train_batch_size=8,
        eval_batch_size=8,
        num_workers=0,
    )
    folder = Path(job["folder"])
    engine = Engine(default_root_dir=folder, accelerator="cpu", logger=False)
    engine.fit(model, datamodule=data)
    engine.trainer.save_checkpoint(folder / "model.ckpt")
    engine.export(model, ExportType.TORCH, export_root=folder)
    (folder / "weights" / "torch" / "model.pt").rename(folder / "model.pt")


def score_anomalib(job: Job) -> None:
    """Score with the loaded checkpoint or export: pre-processor and model, without normalisation.

    "Own" is what `Engine.predict` does. "Exported" is what the exported model does in anomalib's
    inferencers: the same, but its resize is not antialiased. "Double" is "given" in float64: in
    float32 anomalib's distances |q|² - 2 q·m + |m|² lose digits where they are small. The verdicts
    are those of the post-processor.
    """
    from anomalib.data.utils import read_image
    from anomalib.models import Patchcore

    path = Path(job["model"])
    if path.suffix == ".pt":
        model = torch.load(path, weights_only=False)["model"]
    else:
        model = Patchcore.load_from_checkpoint(path, pre_trained=False, map_location="cpu")
    model.eval()
    verdicts = []

    def score(batch: torch.Tensor) -> Scored:
        with torch.inference_mode():
            found = model.model(batch)
            verdicts.append(bool(model.post_processor(found).pred_label))
        return float(found.pred_score), found.anomaly_map[0, 0].numpy()

    photographs = [read_image(image, as_tensor=True)[None] for image in job["images"]]
    found = {
        "own": [score(model.pre_processor.transform(image)) for image in photographs],
        "given": [score(_normalised(image)) for image in _inputs(job)],
        "exported": [score(model.pre_processor(image)) for image in photographs],
    }
    model.model.double()
    found["double"] = [score(_normalised(image.double())) for image in _inputs(job)]
    _write(job, found, verdicts[: len(photographs)])


def train_amazon(job: Job) -> None:
    """Fit patchcore-inspection's own classes with a random part of the patches as its bank."""
    from PIL import Image

    patchcore = _amazon(job)
    import patchcore.patchcore as code

    network = _torchvision(job)
    network.name = job["name"]
    device = torch.device("cpu")
    model = code.PatchCore(device)
    model.load(
        backbone=network,
        layers_to_extract_from=job["layers"],
        device=device,
        input_shape=(3, 224, 224),
        pretrain_embed_dimension=1024,
        target_embed_dimension=1024,
        patchsize=3,
        featuresampler=patchcore.sampler.RandomSampler(job["ratio"]),
        nn_method=patchcore.common.FaissNN(False, 2),
    )
    pipeline = _pipeline()
    images = sorted((Path(job["category"]) / "train" / "good").iterdir())[::4]
    model.fit([{"image": pipeline(Image.open(path).convert("RGB"))[None]} for path in images])
    model.save_to_path(job["folder"])


def score_amazon(job: Job) -> None:
    """Score with the folder that `train_amazon` saved."""
    from PIL import Image

    patchcore = _amazon(job)
    import patchcore.patchcore as code

    network = _torchvision(job)
    patchcore.backbones.load = lambda _name: network  # it would download ImageNet's weights
    model = code.PatchCore(torch.device("cpu"))
    search = patchcore.common.FaissNN(False, 2)
    model.load_from_path(job["model"], torch.device("cpu"), search)
    pipeline = _pipeline()

    def score(image: torch.Tensor) -> Scored:
        scores, maps = model._predict(image)  # noqa: SLF001 - the loader around it is for MVTec AD
        return float(scores[0]), maps[0]

    photographs = [pipeline(Image.open(image).convert("RGB"))[None] for image in job["images"]]
    found = {
        "own": [score(image) for image in photographs],
        "given": [score(_normalised(image)) for image in _inputs(job)],
    }
    _write(job, found, [])


def _amazon(job: Job) -> Any:
    """Import the package from a copy of its repository."""
    sys.path.insert(0, job["source"])
    import patchcore.backbones
    import patchcore.common
    import patchcore.sampler

    return patchcore


def _torchvision(job: Job) -> Any:
    import torchvision

    network = getattr(torchvision.models, job["backbone"])(weights=None)
    _load(network, job["weights"])
    return network.eval()


def _pipeline() -> Callable[[Any], torch.Tensor]:
    from torchvision import transforms

    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    pipeline: Callable[[Any], torch.Tensor] = transforms.Compose(
        [*steps, transforms.Normalize(MEAN, STD)]
    )
    return pipeline


def _load(network: Any, path: str) -> None:
    """Load weights up to layer3 into a network, all of those that the file has."""
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        weights = torch.load(path, weights_only=True)
    found = network.load_state_dict(weights, strict=False)
    missing = [
        name
        for name in found.missing_keys
        if not name.startswith(("layer4", "fc")) and not name.endswith("num_batches_tracked")
    ]
    if missing:
        raise SystemExit(f"{path}: expected {missing[0]}, which the network needs")


def _normalised(image: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values, dtype=image.dtype)[:, None, None] for values in (MEAN, STD))
    return ((image - mean) / std)[None]


def _inputs(job: Job) -> Iterator[torch.Tensor]:
    """The inputs that the artifact made of the photographs, as float (3, H, W) in [0, 1]."""
    for pixels in np.load(job["inputs"]):
        yield torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _write(job: Job, found: dict[str, list[Scored]], verdicts: list[bool]) -> None:
    arrays = {}
    for name, results in found.items():
        scores, maps = zip(*results, strict=True)
        arrays[f"{name}_scores"], arrays[f"{name}_maps"] = np.array(scores), np.stack(maps)
    np.savez(job["scores"], verdicts=np.array(verdicts), **arrays)


if __name__ == "__main__":
    main()
