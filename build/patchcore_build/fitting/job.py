"""What a fit is asked for, and what it reports."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from patchcore_build.backbone.device import Device
from patchcore_build.config import Config
from patchcore_build.data.dataset import Dataset, ImageFolder
from patchcore_runtime.manifest.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """What to build, from which images, where to, and how carefully."""

    # Folder of good images, or the listing that a data set gives.
    images: Path | ImageFolder
    # What the images show; a name for people.
    category: str
    # Artifact folder to make; it must not exist.
    output: Path
    # All settings of the method.
    config: Config
    # File, "auto" (torchvision's, downloaded once), "random" (seeded, for benchmarks), or None
    # for the scattering network.
    weights: str | None
    # Where MindSpore computes features, and which of several devices.
    device: Device = "cpu"
    device_id: int = 0
    # Leave out images that cannot be read, and list them, instead of refusing them.
    skip_bad: bool = False
    # Arrays beyond this many GiB go to files below TMPDIR.
    memory_budget_gb: float = 8.0
    # Mask image or polygon of what counts; see `data.roi.plan_region`.
    roi: str | Path | None = None
    # Folder where unfinished coresets are kept, so that an interrupted fit can continue; it is
    # emptied at the end.
    checkpoints: Path | None = None
    # Data set (or its folder) whose category is scored before and after quantization, int8 only.
    test_set: Path | Dataset | None = None
    # Accept an int8 network that loses more AUROC than `float32_twin.LARGEST_LOSS`.
    force: bool = False
    # Store small training images in the artifact, for explanations.
    keep_thumbnails: bool = False
    # Regular expression: images whose names agree in its first group show one part and are held
    # out together. None: each image stands for itself.
    groups: str | None = None
    # Folder for a page of the most suspicious training images.
    review: Path | None = None
    # How many of the most suspicious images to leave out; "auto" finds the number.
    drop_suspects: int | Literal["auto"] = 0
    # PEM file of the ed25519 private key that signs the artifact.
    sign: Path | None = None


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What was built and how long each stage took."""

    artifact: Path
    images: int
    skipped: tuple[str, ...]
    dropped: tuple[str, ...]
    strays: int
    input_size: tuple[int, int]
    tiles: int  # of an image
    region_share: float  # of the input's pixels, those that count
    rows: int
    calibration: Calibration
    export_difference: dict[str, float]
    quantization: dict[str, Any] | None = None  # as in the manifest's provenance
    seconds: dict[str, float] = field(default_factory=dict)
