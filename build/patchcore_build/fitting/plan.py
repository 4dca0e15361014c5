"""`fit --dry-run`: what a fit would read and write, and estimates of its time and memory.

job -> FitPlan. A sample of the images is fitted in a temporary folder, and each stage's time is
scaled by how it grows with the number of images. Nothing remains on the disk.
"""

import dataclasses
import math
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from patchcore_build.coreset.select import coreset_size, projection_size
from patchcore_build.data.dataset import ImageFolder, list_images
from patchcore_build.data.training_inputs import read_sizes
from patchcore_build.fitting.checks import check_job
from patchcore_build.fitting.fit import NetworkChooser, fit
from patchcore_build.fitting.job import FitJob
from patchcore_build.storage import ROW_BYTES
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.manifest.tiling import CELL_PX

_SAMPLE = 24  # images
_GIB = 2**30
_FIXED = ("start MindSpore", "weights", "export")
# The exponents of coreset and calibration over 50 to 5,000 images are 1.23 to 1.38
# (benchmarks/results/scaling.md): most rows are never compared with most patches.
_STEEPER = ("coreset", "memory bank", "calibration")
_STEEPER_POWER = 1.3


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """Counts of a fit, exact but for images that cannot be decoded, and estimates."""

    images: int
    left_out: str  # a line about files that are no images, or empty
    skipped: tuple[str, ...]  # one line for each image whose header cannot be read
    input_size: tuple[int, int]  # height, width in pixels
    tiles: int  # of an image
    patches: int  # P of all images, without those outside the region of interest
    rows: int  # M of the memory bank
    sample: int  # images that were fitted for the estimates
    seconds: dict[str, float]  # of each stage, estimated
    memory_bytes: int  # peak, estimated
    scratch_bytes: int  # of files in TMPDIR, estimated

    @property
    def total_seconds(self) -> float:
        """Return the sum of all stages."""
        return sum(self.seconds.values())


def plan_fit(job: FitJob, *, choose_network: NetworkChooser | None = None) -> FitPlan:
    """Check everything that a fit checks before long work, and estimate the rest.

    Args:
        job: The fit; with weights `auto` the sample has random ones, and nothing is downloaded.
        choose_network: As in `fit`.

    Raises:
        PatchCoreError: the fit would refuse its job, an image of the sample, or the network.
    """
    check_job(job, own_network=choose_network is None)
    folder = list_images(job.images) if isinstance(job.images, Path) else job.images
    good, _, skipped = read_sizes(folder, skip_bad=job.skip_bad)
    step = max(1, math.ceil(len(good) / _SAMPLE))
    sample = ImageFolder(root=folder.root, images=tuple(good[::step]))
    with scratch_folder() as scratch:
        small = dataclasses.replace(
            job,
            images=sample,
            output=scratch / "artifact",
            weights="random" if job.weights == "auto" else job.weights,
            checkpoints=None,
            test_set=None,
            groups=None,
            review=None,
            drop_suspects=0,
            sign=None,
            force=False,
        )
        report = fit(small, choose_network=choose_network)
        artifact = Artifact.open(report.artifact)
    patches = len(good) * _patches_per_image(artifact)
    needed = _array_bytes(artifact, len(good))
    budget = int(job.memory_budget_gb * _GIB)
    growth = len(good) / report.images
    return FitPlan(
        images=len(good),
        left_out=folder.left_out,
        skipped=tuple(skipped),
        input_size=report.input_size,
        tiles=report.tiles,
        patches=patches,
        rows=coreset_size(patches, job.config.coreset_ratio),
        sample=report.images,
        seconds={name: s * growth ** _power(name) for name, s in report.seconds.items()},
        memory_bytes=_peak_bytes() + min(needed, budget),
        scratch_bytes=max(0, needed - budget),
    )


def _power(stage: str) -> float:
    """The power of the number of images with which a stage's time grows."""
    if stage in _FIXED:
        return 0.0
    return _STEEPER_POWER if stage in _STEEPER else 1.0


def _patches_per_image(artifact: Artifact) -> int:
    """The patches of all tiles of an image that count."""
    grid, region = artifact.manifest.grid, artifact.region
    if region is not None:
        return int(grid.pieces(region.patches).sum())
    height, width = grid.tile_px
    return grid.tiles * (height // CELL_PX) * (width // CELL_PX)


def _array_bytes(artifact: Artifact, images: int) -> int:
    """Bytes of inputs, features, projection and coreset of that many images.

    Each layer is stored on its own grid in float32, a projected patch in float32, too.
    """
    manifest = artifact.manifest
    height, width = manifest.grid.tile_px
    pixels = images * manifest.grid.tiles * height * width
    cells = pixels // CELL_PX**2
    layers = manifest.features.layer2.channels + manifest.features.layer3.channels / 4
    floats = layers + projection_size(cells)
    return 3 * pixels + ROW_BYTES * cells + round(4 * floats * cells)


def _peak_bytes() -> int:
    """The most memory that this process has had: MindSpore, the network, and a small fit."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
