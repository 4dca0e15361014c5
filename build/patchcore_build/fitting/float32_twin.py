"""Compare an int8 detector with its float32 twin: error of the layers, difference of AUROC.

features.onnx in float32 -> the same file in int8, and `facts` for the manifest's provenance.
AUROC needs a test set. Its labels only decide whether an int8 artifact is made at all; no threshold
and no setting depends on them. Without a test set the manifest records the error of the layers on
good images and no AUROC, and no artifact is rejected.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.network import Network, onnx_network
from patchcore_build.config import Config, plan_layout
from patchcore_build.data.dataset import Dataset, open_dataset
from patchcore_build.data.roi import write_region
from patchcore_build.data.training_inputs import Inputs
from patchcore_build.errors import AccuracyError
from patchcore_build.evaluation.evaluate import evaluate
from patchcore_build.features.store import BATCH_IMAGES
from patchcore_build.fitting.artifact_writer import ArtifactFacts, plan_manifest
from patchcore_build.progress import progress_bar
from patchcore_runtime.artifact.folder import FEATURES_ONNX, Artifact
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.detector import Detector
from patchcore_runtime.manifest.calibration import Calibration, HeatmapRange, HeldOut, Tail
from patchcore_runtime.manifest.monitoring import (
    LEVELS,
    THUMBNAIL_SIDE,
    ChannelGroups,
    Monitoring,
    Quantiles,
)
from patchcore_runtime.search.exact_graph import write_bank

LARGEST_LOSS = 0.005  # of image and pixel AUROC, compared with float32
NOT_MEASURED = "not measured: no test set"
_COMPARED_IMAGES = 16
_ONE_SCORE = HeldOut(bias=1.0, values=(1.0,), tail=Tail(level=1.0, share=1.0, scale=1.0, shape=0.0))
_NO_CALIBRATION_YET = Calibration(
    method="none",
    images=1,
    groups=1,
    folds=1,
    target_fpr=0.01,
    image_threshold=1.0,
    image_interval=(1.0, 1.0),
    pixel_threshold=1.0,
    pixel_interval=(1.0, 1.0),
    heatmap=HeatmapRange(low=0.0, high=2.0),
    ranks=(1,),
    image_scores=_ONE_SCORE,
    map_maxima=_ONE_SCORE,
)
_ALL_EQUAL = ChannelGroups(means=(0.0,), spreads=(1.0,))


def _no_monitoring_yet(layers: int) -> Monitoring:
    flat = (0.0,) * LEVELS
    statistics = {field.name: flat for field in fields(Quantiles) if field.name != "layers"}
    return Monitoring(
        images=2,
        thumbnail=(0.0,) * THUMBNAIL_SIDE**2,
        layers=(_ALL_EQUAL,) * layers,
        quantiles=Quantiles(layers=(flat,) * layers, **statistics),
    )


@dataclass(frozen=True, kw_only=True)
class Auroc:
    """AUROC of one detector; None if the test set lacks a class, or usable masks."""

    image: float | None
    pixel: float | None


class Float32Twin:
    """The float32 detector that an int8 detector is compared with; it is not kept.

    Args:
        staging: Folder of the artifact that is being made.
        folder: Folder for the float32 detector; it must not exist.
        inputs: The training images.
        config: Settings of the int8 detector.

    Attributes:
        facts: Results for the manifest's provenance.
    """

    def __init__(self, staging: Path, folder: Path, inputs: Inputs, config: Config) -> None:
        self.facts: dict[str, Any] = {}
        self._staging = staging
        self._folder = folder
        self._inputs = inputs
        self._config = config
        self._float32 = replace(config, feature_precision="float32")

    def quantize(self, bank: MemoryBank) -> Network:
        """Move the float32 network to the twin's folder, write its bank, and stage int8.

        Raises:
            ExportError: the network cannot be quantized.
        """
        from patchcore_build.export.quantization import quantize_features

        self._folder.mkdir()
        size = self._inputs.preprocessing
        write_bank(self._folder, bank, plan_layout(self._float32, size, bank.channels))
        source, target = self._folder / FEATURES_ONNX, self._staging / FEATURES_ONNX
        shutil.move(target, source)
        pixels = self._inputs.pixels
        self.facts = quantize_features(source, target, pixels, seed=self._config.seed)
        network = onnx_network(target)
        chosen = unseen_images(len(pixels), self.facts["calibration_images"])
        names = self._config.plan.names
        errors = layer_errors(onnx_network(source), network, pixels[chosen], names)
        self.facts["layer_errors"] = {"images": chosen.tolist(), **errors}
        self.facts["auroc"] = NOT_MEASURED
        return network

    def compare(self, category: str, test_set: Path | Dataset, *, force: bool) -> None:
        """Score the test set with both detectors, whose banks have the same patches.

        Raises:
            AccuracyError: int8 loses more than `LARGEST_LOSS`, and `force` is false.
        """
        dataset = open_dataset(test_set) if isinstance(test_set, Path) else test_set
        float32 = self._measure(self._folder, self._float32, category, dataset)
        int8 = self._measure(self._staging, self._config, category, dataset)
        self.facts["auroc"] = compare_auroc(float32, int8)
        if not force:
            require_small_loss(float32, int8, where=f"{dataset.root}: {category}")

    def _measure(self, folder: Path, config: Config, category: str, dataset: Dataset) -> Auroc:
        monitoring = _no_monitoring_yet(len(config.plan.names))
        facts = ArtifactFacts(
            category=category, config=config, monitoring=monitoring, provenance={}
        )
        write_region(folder, self._inputs.roi)
        manifest = plan_manifest(folder, self._inputs, _NO_CALIBRATION_YET, facts)
        detector = Detector(Artifact(folder, manifest))
        with progress_bar(f"{config.feature_precision}: scoring", "image") as progress:
            found = evaluate(detector, dataset, category, progress=progress)
        return Auroc(image=found.image_auroc, pixel=found.pixel_auroc)


def compare_auroc(float32: Auroc, int8: Auroc) -> dict[str, dict[str, float | None]]:
    """AUROC of both detectors, and int8 - float32 of each figure that both have."""
    difference = {name: -loss for name, loss in _losses(float32, int8).items()}
    return {"float32": asdict(float32), "int8": asdict(int8), "difference": dict(difference)}


def require_small_loss(float32: Auroc, int8: Auroc, *, where: str) -> None:
    """Check that an int8 detector is not clearly worse than float32; it may be better.

    Raises:
        AccuracyError: image or pixel AUROC falls by more than `LARGEST_LOSS`.
    """
    for name, loss in _losses(float32, int8).items():
        if loss > LARGEST_LOSS:
            before, after = getattr(float32, name), getattr(int8, name)
            raise AccuracyError(
                f"{where}: --quantize int8: expected {name} AUROC at most {LARGEST_LOSS} below "
                f"float32's {before:.4f}, got {after:.4f}; leave --quantize out, or take it "
                "with --force"
            )


def _losses(float32: Auroc, int8: Auroc) -> dict[str, float]:
    pairs = {"image": (float32.image, int8.image), "pixel": (float32.pixel, int8.pixel)}
    return {
        name: before - after
        for name, (before, after) in pairs.items()
        if before is not None and after is not None
    }


def unseen_images(count: int, seen: list[int]) -> NDArray[np.int64]:
    """Up to 16 image numbers, spread over the images not in `seen`; over all if all are seen."""
    rest = np.setdiff1d(np.arange(count), seen)
    rest = rest if len(rest) else np.arange(count)
    picks = np.linspace(0, len(rest) - 1, min(_COMPARED_IMAGES, len(rest)))
    return rest[np.rint(picks).astype(np.int64)].astype(np.int64)


def layer_errors(
    float32: Network, int8: Network, images: NDArray[np.uint8], names: Sequence[str]
) -> dict[str, float]:
    """Compute |int8 - float32| / |float32| of each layer, as Euclidean norms over all images.

    Args:
        float32: The exported network.
        int8: The quantized network.
        images: uint8 (N, H, W, 3), N >= 1; preferably not those that determined the ranges.
        names: Names of the layers.
    """
    squares = np.zeros((len(names), 2))  # layer; error and size
    for start in range(0, len(images), BATCH_IMAGES):
        batch = images[start : start + BATCH_IMAGES]
        for layer, (true, near) in enumerate(zip(float32(batch), int8(batch), strict=True)):
            squares[layer] += np.square(near - true).sum(), np.square(true).sum()
    return {
        name: float(np.sqrt(error / max(size, np.finfo(np.float64).tiny)))
        for name, (error, size) in zip(names, squares, strict=True)
    }
