"""`fit --dry-run`: what a fit would read and write, and estimates of its time and memory.

job -> FitPlan. A sample of the images is fitted in a temporary folder, and each stage's time is
scaled by how it grows with the number of images. Nothing remains on the disk, and nothing is
downloaded.
"""

import dataclasses
import math
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from patchcore_build.backbone.whitening import MAX_IMAGES
from patchcore_build.calibration.folds import group_images
from patchcore_build.calibration.suspects import require_images_left
from patchcore_build.coreset.select import coreset_size, projection_size
from patchcore_build.data.dataset import ImageFolder, list_images
from patchcore_build.data.roi import plan_region
from patchcore_build.data.training_inputs import plan_input, read_sizes
from patchcore_build.data.views import ANGLES
from patchcore_build.fitting.checks import check_job
from patchcore_build.fitting.fit import NetworkChooser, fit
from patchcore_build.fitting.job import FitJob, FitReport
from patchcore_build.storage import ROW_BYTES
from patchcore_build.weights.download import cached_weights, user_cache_dir
from patchcore_runtime.artifact.folder import MEMORY_BANK, THUMBNAILS, Artifact
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.tiling import TileGrid

_MOST_IMAGES, _FEWEST_IMAGES = 24, 4  # of a sample
_SAMPLE_PX = _MOST_IMAGES * 512**2  # larger images make a smaller sample
_GIB = 2**30
_FIXED = ("start MindSpore", "weights", "export", "quantize", "write")
# These stages compare patches with rows: their time is n (1 + M / _ROWS_EVEN), n images, M rows.
# With 1 % and 0.1 % kept, 2,000 to 7,200 fit the times of benchmarks/results/scaling.md best.
_COMPARING = ("coreset", "suspects", "calibration")
_ROWS_EVEN = 4000


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """Counts of a fit, exact but for images that cannot be decoded, and estimates."""

    images: int  # that are learned, without the number that --drop-suspects gives
    left_out: str  # a line about files that are no images, or empty
    skipped: tuple[str, ...]  # one line for each image whose header cannot be read
    input_size: tuple[int, int]  # height, width in pixels
    tiles: int  # of an image
    region_share: float  # share of the input's pixels that count
    patches: int  # P of all images, without those outside the region of interest
    rows: int  # M of the memory bank
    sample: int  # images that were fitted for the estimates
    random_weights: bool  # the sample had random ones, since the weights are not downloaded yet
    seconds: dict[str, float]  # of each stage, estimated; without a download
    memory_bytes: int  # peak, estimated
    scratch_bytes: int  # of files in TMPDIR, estimated
    artifact_bytes: int  # of the new folder, estimated

    @property
    def total_seconds(self) -> float:
        """Return the sum of all stages."""
        return sum(self.seconds.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Site:
    """The readable images of a job, in the order of their aspect ratios, and their input."""

    folder: ImageFolder
    good: tuple[Path, ...]
    skipped: tuple[str, ...]
    grid: TileGrid
    input_size: tuple[int, int]
    region: Region | None


def plan_fit(job: FitJob, *, choose_network: NetworkChooser | None = None) -> FitPlan:
    """Check everything that a fit checks before long work, and estimate the rest.

    Args:
        job: The fit; with weights `auto` that are not on this disk the sample has random ones.
            Its test set is not scored.
        choose_network: As in `fit`.

    Raises:
        PatchCoreError: the fit would refuse its job, an image of the sample, or the network.
    """
    check_job(job, own_network=choose_network is None)
    site = _survey(job)
    with scratch_folder() as scratch:
        small = _small_job(job, site, scratch)
        report = fit(small, choose_network=choose_network)
        return _scale(job, site, report, random=small.weights != job.weights)


def _survey(job: FitJob) -> _Site:
    """Read the headers of all images, and plan the input as the fit will."""
    folder = list_images(job.images) if isinstance(job.images, Path) else job.images
    good, sizes, skipped = read_sizes(folder, skip_bad=job.skip_bad)
    settings, grid = plan_input(folder.root, job.config, sizes)
    _, region = plan_region(job.roi, settings, sizes, patch_px=grid.patch_px)
    if job.groups is not None:
        group_images([folder.name(path) for path in good], job.groups)
    if job.drop_suspects != "auto":
        require_images_left(len(good), job.drop_suspects)
    ordered = sorted(zip(sizes, good, strict=True), key=lambda pair: (_aspect(pair[0]), pair[0]))
    return _Site(
        folder=folder,
        good=tuple(path for _, path in ordered),
        skipped=tuple(skipped),
        grid=grid,
        input_size=(settings.height, settings.width),
        region=region,
    )


def _aspect(size: tuple[int, int]) -> float:
    height, width = size
    return width / height


def _sample_of(site: _Site) -> tuple[Path, ...]:
    height, width = site.grid.tile_px
    most = _SAMPLE_PX // (site.grid.tiles * height * width)
    return spread(site.good, min(max(most, _FEWEST_IMAGES), _MOST_IMAGES))


def spread(images: tuple[Path, ...], most: int) -> tuple[Path, ...]:
    """Images at equal steps, `most` of them or fewer; the middle one is that of all images.

    So images in the order of their aspect ratios give a sample with their median ratio.
    """
    step = math.ceil(len(images) / most)
    return images[len(images) // 2 % step :: step]


def _small_job(job: FitJob, site: _Site, scratch: Path) -> FitJob:
    """The fit of the sample: the same work on fewer images, and all its files in `scratch`."""
    images, drop = _sample_of(site), job.drop_suspects
    if drop != "auto" and len(images) < len(site.good):
        drop = min(drop, 1)
    weights = job.weights
    if weights == "auto" and cached_weights(job.config.backbone, cache=user_cache_dir()) is None:
        weights = "random"
    return dataclasses.replace(
        job,
        images=ImageFolder(root=site.folder.root, images=tuple(sorted(images))),
        output=scratch / "artifact",
        weights=weights,
        checkpoints=None,
        test_set=None,
        groups=None,
        review=None if job.review is None else scratch / "review",
        drop_suspects=drop,
        force=False,
    )


def _scale(job: FitJob, site: _Site, report: FitReport, *, random: bool) -> FitPlan:
    """The plan of all images, from the report and the artifact of the sample."""
    artifact = Artifact.open(report.artifact)
    dropped = 0 if job.drop_suspects == "auto" else job.drop_suspects
    images, sampled = len(site.good) - dropped, report.images + len(report.dropped)
    views = len(ANGLES) if job.config.augment == "rotate" else 1
    patches = images * views * _patches_per_image(site)
    rows = coreset_size(patches, job.config.coreset_ratio)
    bank = rows * artifact.path(MEMORY_BANK).stat().st_size // report.rows
    needed = _array_bytes(artifact, len(site.good) * views)
    budget = int(job.memory_budget_gb * _GIB)
    growth = _Growth(before=sampled, after=len(site.good), rows_before=report.rows, rows_after=rows)
    return FitPlan(
        images=images,
        left_out=site.folder.left_out,
        skipped=site.skipped,
        input_size=site.input_size,
        tiles=site.grid.tiles,
        region_share=1.0 if site.region is None else site.region.share,
        patches=patches,
        rows=rows,
        sample=sampled,
        random_weights=random,
        seconds={name: s * growth.of(name) for name, s in report.seconds.items()},
        memory_bytes=_peak_bytes() + min(needed + bank, budget),
        scratch_bytes=max(0, needed - budget) + bank,  # each fold has a bank of its own
        artifact_bytes=_artifact_bytes(artifact, images / report.images, rows / report.rows),
    )


@dataclass(frozen=True, kw_only=True)
class _Growth:
    """Sizes of the sample and of the whole fit."""

    before: int  # images
    after: int
    rows_before: int
    rows_after: int

    def of(self, stage: str) -> float:
        """The factor of a stage's time."""
        if stage in _FIXED:
            return 1.0
        if stage == "whitening":
            return min(self.after, MAX_IMAGES) / min(self.before, MAX_IMAGES)
        factor = self.after / self.before
        if stage in _COMPARING:
            factor *= (_ROWS_EVEN + self.rows_after) / (_ROWS_EVEN + self.rows_before)
        return factor


def _patches_per_image(site: _Site) -> int:
    """The patches of all tiles of an image that count."""
    if site.region is not None:
        return int(site.grid.pieces(site.region.patches).sum())
    (height, width), side = site.grid.tile_px, site.grid.patch_px
    return site.grid.tiles * (height // side) * (width // side)


def _artifact_bytes(artifact: Artifact, images: float, rows: float) -> int:
    """Bytes of all files, if the images and the rows of an artifact grow by these factors."""
    growing = {MEMORY_BANK: rows, THUMBNAILS: images}
    return round(
        sum(p.stat().st_size * growing.get(p.name, 1.0) for p in artifact.folder.iterdir())
    )


def _array_bytes(artifact: Artifact, images: int) -> int:
    """Bytes of inputs, features, projection and coreset of that many images.

    Each layer is stored on its own grid in float32, a projected patch in float32, too.
    """
    manifest = artifact.manifest
    height, width = manifest.grid.tile_px
    pixels = images * manifest.grid.tiles * height * width
    cells = pixels // manifest.features.patch_px**2
    layers = sum(layer.channels / layer.stride**2 for layer in manifest.features.layers)
    floats = layers + projection_size(cells)
    return 3 * pixels + ROW_BYTES * cells + round(4 * floats * cells)


def _peak_bytes() -> int:
    """The most memory that this process has had: MindSpore, the network, and a small fit."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
