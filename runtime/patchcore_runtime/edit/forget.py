"""Take a training image out of an artifact again: all rows that came from it, and its name.

artifact + image -> a new artifact, without the workshop. Distances to what only these rows
covered grow; the report says by how much at most.
"""

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime._version import __version__
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.neighbours import without_rows
from patchcore_runtime.edit.edit import (
    Edit,
    chained_digest,
    dropped_files,
    edited,
    kept_thresholds,
)
from patchcore_runtime.errors import EditError

_KEPT = "kept by forget: fewer rows raise scores, so false alarms may be more"
_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class ForgetReport:
    """What `forget` took out."""

    artifact: Path
    image: str
    rows_before: int
    rows_after: int
    largest_rise: float  # no patch distance grows by more, Euclidean
    dropped: tuple[str, ...]  # files of the old artifact that the new one has not


def forget(
    artifact: Path,
    image: str,
    output: Path,
    *,
    threads: int | None = None,
    public_key: Path | None = None,
) -> ForgetReport:
    """Write a new artifact without the rows of one training image; the old one is only read.

    Args:
        artifact: The artifact.
        image: A name in its `training.images`, or the number of one, from 0.
        output: The folder to make.
        threads: Threads of one operator; `None` takes the cores this process may use.
        public_key: PEM file of the ed25519 key that must have signed the artifact.

    Raises:
        ArtifactError: the artifact is damaged, or not signed by that key.
        EditError: no such image, it has no row, or no row would be left.
        OutputError: the output exists or cannot be written; nothing is left behind.
    """
    source = Artifact.open_whole(artifact, public_key=public_key)
    number = find_image(source, image)
    name = source.manifest.training.images[number]
    bank = source.memory_bank
    gone = bank.origins[:, 0] == number
    if not gone.any() or gone.all():
        why = "it has no row in the bank" if not gone.any() else "no row would be left"
        raise EditError(f"{artifact}: {name} cannot be forgotten: {why}")
    kept = np.flatnonzero(~gone)
    rise = _largest_gap(bank, np.flatnonzero(gone), kept)
    shorter = _without(bank, kept, number)
    edit = _edit(source, shorter, number)
    with edited(source, output, edit, threads):
        pass
    return ForgetReport(
        artifact=output,
        image=name,
        rows_before=bank.rows,
        rows_after=shorter.rows,
        largest_rise=rise,
        dropped=tuple(dropped_files(source)),
    )


def find_image(source: Artifact, image: str) -> int:
    """Number of a training image, by its name or by the number itself.

    Raises:
        EditError: there is none; names the nearest.
    """
    names = source.manifest.training.images
    if image in names:
        return names.index(image)
    if image.isascii() and image.isdigit() and int(image) < len(names):
        return int(image)
    near = difflib.get_close_matches(image, names, n=3, cutoff=0.4)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise EditError(
        f"{source.folder}: training.images: expected a name there or a number below "
        f"{len(names)}, got {image}{hint}"
    )


def _largest_gap(bank: MemoryBank, gone: NDArray[np.int64], kept: NDArray[np.int64]) -> float:
    """The largest distance of a removed row to its nearest kept one.

    By the triangle inequality no patch's nearest distance grows by more.
    """
    others, norms = bank.whole_rows(kept), bank.norms[kept]
    largest = 0.0
    for start in range(0, len(gone), _BLOCK):
        own = bank.whole_rows(gone[start : start + _BLOCK])
        nearest = (norms - 2 * (own @ others.T)).argmin(axis=1)
        largest = max(largest, float(np.linalg.norm(own - others[nearest], axis=1).max()))
    return largest


def _without(bank: MemoryBank, kept: NDArray[np.int64], number: int) -> MemoryBank:
    origins = bank.origins[kept]
    origins[:, 0] -= origins[:, 0] > number  # images behind it move up
    norms = bank.norms[kept]
    return MemoryBank(
        layer2=bank.layer2[kept],
        layer3=bank.layer3[kept],
        norms=norms,
        origins=origins,
        neighbours=without_rows(bank.whole_rows(kept), norms, bank.neighbours, kept),
    )


def _edit(source: Artifact, bank: MemoryBank, number: int) -> Edit:
    manifest = source.manifest
    names = list(manifest.training.images)
    name = names.pop(number)
    thumbnails = None
    if manifest.training.thumbnails == "jpeg":
        thumbnails = [one for i, one in enumerate(source.thumbnails) if i != number]
    return Edit(
        bank=bank,
        training=dataclasses.replace(
            manifest.training,
            images=tuple(names),
            digest=chained_digest(manifest.training.digest, [f"forgotten  {name}"]),
        ),
        calibration=kept_thresholds(manifest.calibration, _KEPT),
        facts={
            "what": "forget",
            "with": f"patchcore-runtime {__version__}",
            "image": name,
            "rows_removed": source.memory_bank.rows - bank.rows,
            "dropped": dropped_files(source),
        },
        thumbnails=thumbnails,
    )
