"""Add good images that an artifact refused to its memory bank, by greedy k-centre selection.

artifact + images -> a new artifact, in seconds, without the workshop. A patch of the images
becomes a row if it is farther from the bank than the radius. The farthest patch is added first,
until none lies beyond the radius.

The radius is the median held-out image score, as a distance. An image score is at most the largest
distance of its patches, or its square. Afterwards each image therefore scores like the better half
of the good images: below the threshold, with a margin for similar images. With the threshold itself
as radius, the next images of their kind would still be refused.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime._version import __version__
from patchcore_runtime.artifact.folder import Artifact, file_digest
from patchcore_runtime.artifact.writing import check_new_folder
from patchcore_runtime.bank.memory_bank import MemoryBank, squared_lengths
from patchcore_runtime.bank.neighbours import with_new_rows
from patchcore_runtime.bank.patches import upsamplers, whole_patches
from patchcore_runtime.detector import Detector
from patchcore_runtime.edit.cover import extend_cover
from patchcore_runtime.edit.edit import (
    Edit,
    chained_digest,
    dropped_files,
    edited,
    kept_thresholds,
)
from patchcore_runtime.engine.session import thread_count
from patchcore_runtime.errors import EditError, SettingError
from patchcore_runtime.files.names import shown_path
from patchcore_runtime.image.preprocess import fit_to_input, read_photograph
from patchcore_runtime.image.thumbnails import Thumbnail, make_thumbnail
from patchcore_runtime.manifest.manifest import Manifest
from patchcore_runtime.scoring.gate import measure_gate, widened
from patchcore_runtime.scoring.thresholds import threshold_at

_KEPT = "kept by learn: more rows only lower patch distances"
_PREFIX = "learned/"  # begins the name of a learned image among the training images


@dataclass(frozen=True, kw_only=True)
class LearnedImage:
    """One learned image, with its scores before and after."""

    image: str
    score_before: float
    score_after: float
    rows: int  # bank rows that came from it


@dataclass(frozen=True, kw_only=True)
class LearnReport:
    """The result of `learn`."""

    artifact: Path
    images: tuple[LearnedImage, ...]
    threshold: float
    radius: float  # Euclidean
    rows_before: int
    rows_after: int
    dropped: tuple[str, ...]  # files of the old artifact that the new one lacks


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidates:
    """The patches beyond the radius, of all tiles of one image."""

    score: float
    stopped: bool  # by the gate, as not showing the part
    patches: NDArray[np.float32]  # (N, D)
    distances: NDArray[np.float32]  # (N,)
    places: NDArray[np.int32]  # (N, 2): y, x on the patch grid of the whole input
    thumbnail: Thumbnail | None


def learn(
    artifact: Path,
    images: Sequence[Path],
    output: Path,
    *,
    threads: int | None = None,
    public_key: Path | None = None,
) -> LearnReport:
    """Write a new artifact that accepts the given images; the old one is only read.

    Args:
        artifact: The artifact that refused the images.
        images: Good images; everything they show will count as normal.
        output: The folder to create.
        threads: Threads of one operator; `None` uses all available cores.
        public_key: PEM file of the ed25519 key that must have signed the artifact.

    Raises:
        ArtifactError: the artifact is damaged, or not signed by that key.
        ImageError: an image cannot be read.
        EditError: a name is taken, no patch is beyond the radius, or an image is still refused.
        OutputError: the output exists or cannot be written; nothing remains on the disk.
        SettingError: no image is given, or `threads` is not a number of 1 or more.
    """
    thread_count(threads)
    check_new_folder(output)
    source = Artifact.open_whole(artifact, public_key=public_key)
    names = _new_names(source, images)
    radius = learning_radius(source.manifest)
    detector = Detector(source, threads=threads, search="exact")
    found = [_candidates(detector, path, radius) for path in images]
    patches = np.concatenate([one.patches for one in found])
    picks = extend_cover(patches, np.concatenate([one.distances for one in found]), radius)
    if not len(picks) and not any(one.stopped for one in found):
        raise EditError(
            f"{output}: expected patches farther than {radius:.4g} from the memory bank, got none; "
            "the bank covers these images already, so nothing was written"
        )
    origins = _origins(found, first=len(source.manifest.training.images))[picks]
    bank = source.memory_bank
    if len(picks):
        bank = _extended(bank, patches[picks], origins)
    edit = _edit(source, bank, names, images, found)
    with edited(source, output, edit, threads) as improved:
        results = [improved.detector.predict(path) for path in images]
        after = [result.score for result in results]
        _refuse_refused(after, images, source.manifest)
        counts = None if source.region is None else source.region.patches
        shown = [measure_gate(one.patch_distances, one.nearest_rows, counts) for one in results]
        gate = widened(improved.calibration.gate, shown)
        improved.calibration = dataclasses.replace(improved.calibration, gate=gate)
    per_image = np.bincount(origins[:, 0], minlength=len(edit.training.images))[-len(images) :]
    return LearnReport(
        artifact=output,
        images=tuple(
            LearnedImage(image=str(path), score_before=one.score, score_after=score, rows=int(rows))
            for path, one, score, rows in zip(images, found, after, per_image, strict=True)
        ),
        threshold=source.manifest.calibration.image_threshold,
        radius=radius,
        rows_before=source.memory_bank.rows,
        rows_after=bank.rows,
        dropped=tuple(dropped_files(source)),
    )


def learning_radius(manifest: Manifest) -> float:
    """Compute the largest Euclidean distance of a learned image's patches from the bank.

    It is the median held-out image score, and at most the threshold; the threshold, if no such
    scores are known.
    """
    calibration = manifest.calibration
    if calibration.images == 0:
        return manifest.scoring.euclidean(calibration.image_threshold)
    median = threshold_at(calibration, calibration.image_scores, 0.5)
    score = min(median, calibration.image_threshold)
    return manifest.scoring.euclidean(score)


def _new_names(source: Artifact, images: Sequence[Path]) -> list[str]:
    """Return names for `training.images`; `forget` needs them to be unique.

    An image has its file's name, or, beside others of the same name, its path below the deepest
    folder that has all of them in it.
    """
    if not images:
        raise SettingError("images: expected one or more, got none")
    places = [Path(os.path.abspath(path)) for path in images]  # noqa: PTH100 - keeps links
    same: dict[str, list[str]] = {}
    for place in places:
        same.setdefault(place.name, []).append(str(place.parent))
    names = [
        f"{_PREFIX}{shown_path(place.relative_to(os.path.commonpath(same[place.name])))}"
        for place in places
    ]
    learned = set(source.manifest.training.images)
    taken: set[str] = set()
    for name, path in zip(names, images, strict=True):
        if name in learned:
            raise EditError(
                f"{path}: the artifact has a training image {name} already; "
                "rename the new image, or forget the old one first"
            )
        if name in taken:
            raise EditError(
                f"{path}: the artifact has a training image {name} already when this image comes "
                "again; name each image once"
            )
        taken.add(name)
    return names


def _candidates(detector: Detector, path: Path, radius: float) -> _Candidates:
    manifest = detector.manifest
    image = read_photograph(path, manifest.preprocess)
    pixels, placement = fit_to_input(image, manifest.preprocess)
    layers = detector.features(pixels)
    result = detector.score_features(layers, placement)
    distances = detector.tile_distances(layers)
    numbers = np.flatnonzero(distances > radius)
    tiles, y, x = np.unravel_index(numbers, distances.shape)
    corners = np.array(detector.grid.corners_px)[tiles] // detector.grid.patch_px
    keeps = manifest.training.thumbnails == "jpeg"
    return _Candidates(
        score=result.score,
        stopped=bool(result.strangeness),
        patches=whole_patches(layers, upsamplers(manifest.layout))[numbers],
        distances=distances.ravel()[numbers],
        places=(corners + np.column_stack([y, x])).astype(np.int32),
        thumbnail=make_thumbnail(image) if keeps else None,
    )


def _origins(found: Sequence[_Candidates], *, first: int) -> NDArray[np.int32]:
    """Return (image number, y, x) of every candidate, (N, 3)."""
    numbers = [np.full(len(one.places), first + i, np.int32) for i, one in enumerate(found)]
    places = np.concatenate([one.places for one in found])
    return np.column_stack([np.concatenate(numbers), places]).astype(np.int32)


def _extended(
    bank: MemoryBank, patches: NDArray[np.float32], origins: NDArray[np.int32]
) -> MemoryBank:
    """Return the bank with new rows at its end, in the bank's own precision."""
    added = np.split(patches, np.cumsum(bank.channels)[:-1], axis=1)
    layers = tuple(
        np.concatenate([layer, rows.astype(layer.dtype)])
        for layer, rows in zip(bank.layers, added, strict=True)
    )
    stored = [layer[bank.rows :] for layer in layers]
    new = np.concatenate(stored, axis=1).astype(np.float32, copy=False)
    norms = np.concatenate([bank.norms, squared_lengths(new)])
    whole = np.concatenate([bank.whole_rows(slice(None)), new])
    return MemoryBank(
        layers=layers,
        norms=norms,
        origins=np.concatenate([bank.origins, origins]),
        neighbours=with_new_rows(whole, norms, bank.neighbours),
    )


def _edit(
    source: Artifact,
    bank: MemoryBank,
    names: Sequence[str],
    images: Sequence[Path],
    found: Sequence[_Candidates],
) -> Edit:
    manifest = source.manifest
    digests = [file_digest(path) for path in images]
    lines = [f"{digest}  {name}" for digest, name in zip(digests, names, strict=True)]
    training = dataclasses.replace(
        manifest.training,
        images=(*manifest.training.images, *names),
        digest=chained_digest(manifest.training.digest, lines),
    )
    thumbnails = None
    if manifest.training.thumbnails == "jpeg":
        thumbnails = [*source.thumbnails, *(one.thumbnail or Thumbnail() for one in found)]
    return Edit(
        bank=bank,
        training=training,
        calibration=kept_thresholds(manifest.calibration, _KEPT),
        facts={
            "what": "learn",
            "with": f"patchcore-runtime {__version__}",
            "images": dict(zip(names, digests, strict=True)),
            "rows_added": bank.rows - source.memory_bank.rows,
            "radius": learning_radius(manifest),
            "dropped": dropped_files(source),
        },
        thumbnails=thumbnails,
    )


def _refuse_refused(scores: Sequence[float], images: Sequence[Path], manifest: Manifest) -> None:
    threshold = manifest.calibration.image_threshold
    refused = [pair for pair in zip(images, scores, strict=True) if pair[1] > threshold]
    if refused:
        path, score = refused[0]
        raise EditError(
            f"{path}: expected a score up to {threshold:.4g} after learning, got "
            f"{score:.4g} ({len(refused)} refused); nothing was written"
        )
