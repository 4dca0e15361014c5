"""Settings of a fit, and its report."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from patchcore_build.backbone.device import Device
from patchcore_build.config import Config
from patchcore_build.data.dataset import Dataset, ImageFolder
from patchcore_runtime.manifest.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """Images, settings and output of a fit."""

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
    rows: int
    calibration: Calibration
    export_difference: dict[str, float]
    quantization: dict[str, Any] | None = None  # as in the manifest's provenance
    seconds: dict[str, float] = field(default_factory=dict)
