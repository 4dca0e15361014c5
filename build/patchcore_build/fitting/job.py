"""Settings of a fit, validated when they are made, and its report."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from patchcore_build.backbone.device import Device
from patchcore_build.config import Config
from patchcore_build.data.dataset import Dataset, ImageFolder
from patchcore_build.errors import require
from patchcore_runtime.manifest.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """Images, settings and output of a fit.

    Raises:
        SettingError: a value is out of its range, or would do nothing beside the others.
    """

    # Folder of good images, or the listing that a data set gives.
    images: Path | ImageFolder
    # What the images show; a name for people.
    category: str
    # Artifact folder to create; it must not exist.
    output: Path
    # All settings of the method.
    config: Config
    # File, "auto" (torchvision's, downloaded once), "random" (seeded, for benchmarks), or None
    # for the scattering network.
    weights: str | None
    # The ONNX file that `config.network` describes; None: the backbone.
    network: Path | None = None
    # Device on which MindSpore computes features, and its number if there are several.
    device: Device = "cpu"
    device_id: int = 0
    # Leave out unreadable images and list them, instead of raising an error.
    skip_bad: bool = False
    # Arrays beyond this many GiB are stored in files below TMPDIR.
    memory_budget_gb: float = 8.0
    # Mask image or polygon of the region of interest; see `data.roi.plan_region`.
    roi: str | Path | None = None
    # Folder for unfinished coresets, so that an interrupted fit can continue; its checkpoints are
    # removed at the end.
    checkpoints: Path | None = None
    # Data set (or its folder) whose category is scored before and after quantization, int8 only.
    test_set: Path | Dataset | None = None
    # Accept an int8 network that loses more AUROC than `float32_twin.LARGEST_LOSS`.
    force: bool = False
    # Store small training images in the artifact, for explanations.
    keep_thumbnails: bool = False
    # Regular expression: images whose names agree in its first group show one part and are held
    # out together. None: each image is a group of its own.
    groups: str | None = None
    # Folder for a page with the most suspicious training images.
    review: Path | None = None
    # How many of the most suspicious images to leave out; "auto" finds the number.
    drop_suspects: int | Literal["auto"] = 0
    # PEM file of the ed25519 private key that signs the artifact.
    sign: Path | None = None

    def __post_init__(self) -> None:
        check_network(self.config, self.weights, self.device, self.device_id)
        both = (self.network is None) == (self.config.network is None)
        require(both, "network", "a file and its description, or neither", self.network)
        budget, drop = self.memory_budget_gb, self.drop_suspects
        require(0 <= budget < math.inf, "--memory-budget-gb", "a number, 0 or more", budget)
        counted = isinstance(drop, int) and not isinstance(drop, bool) and drop >= 0
        require(drop == "auto" or counted, "--drop-suspects", "auto, or 0 or more", repr(drop))
        if self.config.augment != "none":
            plain = self.roi is None and self.review is None and drop == 0
            want = "none beside --roi, --review and --drop-suspects"
            require(plain, "--augment", want, self.config.augment)
        quantized = self.config.feature_precision == "int8"
        require(quantized or not self.force, "--force", "--quantize int8 beside it", "float32")


def check_network(config: Config, weights: str | None, device: str, device_id: int) -> None:
    """Refuse weights and devices that the network of a config does not use.

    Raises:
        SettingError: the message names the option.
    """
    devices = get_args(Device)
    require(device in devices, "--device", f"one of {', '.join(devices)}", repr(device))
    require(device_id >= 0, "--device-id", "0 or more", device_id)
    numbered = device != "cpu" or device_id == 0
    require(numbered, "--device-id", "0 on a CPU, or --device ascend or gpu", device_id)
    if config.network is not None:
        require(weights is None, "--weights", "none beside --network, which has its own", weights)
        require(
            device == "cpu", "--device", "cpu beside --network, which ONNX Runtime runs", device
        )
    plain = config.backbone != "scattering" or weights is None
    require(plain, "--weights", "none for --backbone scattering, which has none", weights)


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """Figures of a finished artifact, and the seconds of each stage."""

    artifact: Path
    images: int
    skipped: tuple[str, ...]
    dropped: tuple[str, ...]
    left_out: str  # a line about files that are no images, or empty
    notes: tuple[str, ...]  # one line for each image that is almost black
    white_level: int  # value of white in grey images of 16 bits
    input_size: tuple[int, int]  # height, width in pixels
    tiles: int  # of an image
    region_share: float  # share of the input's pixels that count
    foreground_share: float  # share of the training images' patches that are not masked
    rows: int
    calibration: Calibration
    export_difference: dict[str, float]
    quantization: dict[str, Any] | None = None  # as in the manifest's provenance
    warnings: tuple[str, ...] = ()  # about copies among the images, and thresholds of few images
    seconds: dict[str, float] = field(default_factory=dict)
