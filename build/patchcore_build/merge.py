"""Merge two artifacts of the same network and input -> one artifact with the rows of both banks.

This is for one part that is made on two lines, or that was learned on two: all rows are normal.
Nearest distances only shrink. So the larger of the two thresholds keeps the false-alarm rates of
both kinds of images; but small defects between the two thresholds may pass.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchcore_build._version import __version__
from patchcore_runtime.artifact.folder import (
    FEATURES_MINDIR,
    FEATURES_ONNX,
    ROI,
    Artifact,
    file_digest,
)
from patchcore_runtime.artifact.writing import check_new_folder
from patchcore_runtime.bank.memory_bank import UNKNOWN_ORIGIN, MemoryBank, squared_lengths
from patchcore_runtime.bank.neighbours import nearest_rows
from patchcore_runtime.edit.edit import (
    Edit,
    artifact_digest,
    chained_digest,
    dropped_files,
    edited,
)
from patchcore_runtime.engine.session import thread_count
from patchcore_runtime.errors import EditError
from patchcore_runtime.image.thumbnails import Thumbnail
from patchcore_runtime.manifest.calibration import (
    Calibration,
    Gate,
    HeatmapRange,
    HeldOut,
    without_scores,
)
from patchcore_runtime.manifest.manifest import Training

_SAME = ("preprocess", "region", "tiling", "features", "scoring")  # sections of the manifest


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """Sizes and thresholds of a merged artifact."""

    artifact: Path
    images: tuple[int, int]  # of the first and the second artifact
    rows: tuple[int, int]
    image_threshold: float
    pixel_threshold: float
    dropped: tuple[str, ...]  # files of the first artifact that the new one lacks


def merge(
    first: Path,
    second: Path,
    output: Path,
    *,
    threads: int | None = None,
    public_key: Path | None = None,
) -> MergeReport:
    """Write a new artifact with the rows of both; the two artifacts are only read.

    Args:
        first: Gives the network, the self-test and the first rows.
        second: Gives the other rows.
        output: The folder to create.
        threads: Threads of one operator; `None` takes the cores this process may use.
        public_key: PEM file of an ed25519 key that must have signed both.

    Raises:
        ArtifactError: one of them is corrupt; or, as its kind SignatureError, not signed by
            `public_key`.
        EditError: they are the same, compute or compare features differently, or share names of
            images.
        OutputError: the output exists or cannot be written; no files are left behind.
        SettingError: `threads` is not a number of 1 or more.
    """
    thread_count(threads)
    check_new_folder(output)
    one, other = (Artifact.open_whole(path, public_key=public_key) for path in (first, second))
    _refuse_different(one, other)
    calibration = _larger(one.manifest.calibration, other.manifest.calibration)
    counts = len(one.manifest.training.images), len(other.manifest.training.images)
    edit = Edit(
        bank=_union(one.memory_bank, other.memory_bank, images=counts[0]),
        training=_training(one, other),
        calibration=calibration,
        facts=_facts(one, other),
        thumbnails=_thumbnails(one, other),
    )
    with edited(one, output, edit, threads):
        pass
    return MergeReport(
        artifact=output,
        images=counts,
        rows=(one.memory_bank.rows, other.memory_bank.rows),
        image_threshold=calibration.image_threshold,
        pixel_threshold=calibration.pixel_threshold,
        dropped=tuple(dropped_files(one)),
    )


def _refuse_different(first: Artifact, second: Artifact) -> None:
    if artifact_digest(first) == artifact_digest(second):
        raise EditError(
            f"{second.folder}: expected another artifact than {first.folder}, got the same; a "
            "merge would only double its rows"
        )
    for name in _SAME:
        ours, theirs = (getattr(one.manifest, name) for one in (first, second))
        if ours != theirs:
            fields = (field.name for field in dataclasses.fields(ours))
            other = [field for field in fields if getattr(ours, field) != getattr(theirs, field)]
            raise EditError(
                f"{second.folder}: {name}.{other[0]}: expected {getattr(ours, other[0])}, as in "
                f"{first.folder}, got {getattr(theirs, other[0])}; fit both with the same settings"
            )
    if first.memory_bank.precision != second.memory_bank.precision:
        raise EditError(
            f"{second.folder}: memory_bank.precision: expected {first.memory_bank.precision}, as "
            f"in {first.folder}, got {second.memory_bank.precision}; fit both alike"
        )
    shared = {FEATURES_ONNX: "network", FEATURES_MINDIR: "network", ROI: "region of interest"}
    for name, what in shared.items():
        if name not in first.files:
            continue
        if file_digest(first.path(name)) != file_digest(second.path(name)):
            raise EditError(
                f"{second.path(name)}: expected the bytes of {first.path(name)}, got another "
                f"{what}; fit both alike"
            )


def _union(first: MemoryBank, second: MemoryBank, *, images: int) -> MemoryBank:
    """Rows of the first bank, then of the second, whose image numbers start at `images`."""
    whole = np.concatenate([first.whole_rows(slice(None)), second.whole_rows(slice(None))])
    norms = squared_lengths(whole)
    known = second.origins[:, :1] != UNKNOWN_ORIGIN
    moved = second.origins + np.where(known, np.array([images, 0, 0], np.int32), np.int32(0))
    count = max(first.neighbours.shape[1], second.neighbours.shape[1])
    return MemoryBank(
        layers=tuple(
            np.concatenate(both) for both in zip(first.layers, second.layers, strict=True)
        ),
        norms=norms,
        origins=np.concatenate([first.origins, moved]),
        neighbours=nearest_rows(whole, norms, count),
    )


def _training(first: Artifact, second: Artifact) -> Training:
    ours, theirs = first.manifest.training, second.manifest.training
    shared = sorted(set(ours.images) & set(theirs.images))
    prefix = f"{second.folder.resolve().name}/"
    if shared and not set(ours.images) & {prefix + name for name in theirs.images}:
        names = tuple(prefix + name for name in theirs.images)
    elif shared:
        raise EditError(
            f"{second.folder}: both artifacts have a training image {shared[0]}, and the prefix "
            f"{prefix} is in use as well; rename the second artifact's folder"
        )
    else:
        names = theirs.images
    return dataclasses.replace(
        ours,
        images=(*ours.images, *names),
        skipped=(*ours.skipped, *theirs.skipped),
        digest=chained_digest(ours.digest, [f"{theirs.digest}  merged"]),
    )


def _larger(first: Calibration, second: Calibration) -> Calibration:
    """The larger of each threshold, and held-out scores that are at least those of both.

    A good image of either kind scores at most what it scored with its own bank, so its false-alarm
    rate stays within the target. If one of them has no held-out scores, nor has the result.
    """
    upper, lower = sorted((first, second), key=lambda one: -one.image_threshold)
    strict = max((first, second), key=lambda one: one.pixel_threshold)
    low = max(first.heatmap.low, second.heatmap.low)
    known = first.images > 0 and second.images > 0
    merged = dataclasses.replace(
        upper if known else without_scores(upper),
        method=f"{upper.method}; merged: the larger of both thresholds",
        pixel_threshold=strict.pixel_threshold,
        pixel_interval=strict.pixel_interval,
        heatmap=HeatmapRange(low=low, high=2 * strict.pixel_threshold - low),
        gate=_wider_gate(first.gate, second.gate),
    )
    if not known:
        return merged
    return dataclasses.replace(
        merged,
        target_fpr=max(first.target_fpr, second.target_fpr),
        image_scores=_larger_scores(upper, lower, "image_scores", upper.image_scores),
        map_maxima=_larger_scores(upper, lower, "map_maxima", strict.map_maxima),
    )


def _wider_gate(first: Gate | None, second: Gate | None) -> Gate | None:
    """Limits that let through what one of both does; rows of the other part only add to them."""
    if first is None or second is None:
        return None
    return Gate(
        usual_distance=max(first.usual_distance, second.usual_distance),
        largest_distance=max(first.largest_distance, second.largest_distance),
        usual_rows=min(first.usual_rows, second.usual_rows),
        fewest_rows=min(first.fewest_rows, second.fewest_rows),
    )


def _larger_scores(kept: Calibration, other: Calibration, name: str, far: HeldOut) -> HeldOut:
    """The larger score of both at each stored rank; beyond the ranks, the tail of `far`."""
    ours, theirs = getattr(kept, name), getattr(other, name)
    # For the same rate, rank r of n scores corresponds to rank r·(m + 1)/(n + 1) of m scores.
    wanted = np.ceil(np.array(kept.ranks) * (other.images + 1) / (kept.images + 1) - 1e-9)
    place = np.searchsorted(other.ranks, wanted).clip(max=len(other.ranks) - 1)
    values = np.maximum(ours.values, np.array(theirs.values)[place])
    return dataclasses.replace(far, values=tuple(float(value) for value in values))


def _thumbnails(first: Artifact, second: Artifact) -> list[Thumbnail] | None:
    if not first.thumbnails and not second.thumbnails:
        return None
    images: list[Thumbnail] = []
    for one in (first, second):
        images += one.thumbnails or [Thumbnail()] * len(one.manifest.training.images)
    return images


def _facts(first: Artifact, second: Artifact) -> dict[str, Any]:
    return {
        "what": "merge",
        "with": f"patchcore-build {__version__}",
        "and_of": artifact_digest(second),
        "provenance_of_the_second": second.manifest.provenance,
        "dropped": dropped_files(first),
    }
