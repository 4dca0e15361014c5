"""Remove a training image from an artifact: its name, and all bank rows that came from it.

artifact + image -> a new artifact, without the workshop. Distances grow where only the removed rows
were near; the report gives an upper bound.
"""

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime._version import __version__
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.artifact.writing import check_new_folder
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.neighbours import distances_to_nearest, without_rows
from patchcore_runtime.edit.edit import (
    Edit,
    chained_digest,
    dropped_files,
    edited,
    kept_thresholds,
)
from patchcore_runtime.engine.session import thread_count
from patchcore_runtime.errors import EditError
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.manifest.manifest import Manifest

_KEPT = "kept by forget: fewer rows raise scores, so false alarms may be more"


@dataclass(frozen=True, kw_only=True)
class ForgetReport:
    """The result of `forget`."""

    artifact: Path
    image: str
    rows_before: int
    rows_after: int
    largest_rise: float  # upper bound of the growth of a patch distance, Euclidean
    dropped: tuple[str, ...]  # files of the old artifact that the new one lacks


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
        output: The folder to create.
        threads: Threads of one operator; `None` uses all available cores.
        public_key: PEM file of the ed25519 key that must have signed the artifact.

    Raises:
        ArtifactError: the artifact is damaged, or not signed by that key.
        EditError: the image is unknown or has no row, or no row would remain.
        OutputError: the output exists or cannot be written; nothing remains on the disk.
        SettingError: `threads` is not a number of 1 or more.
    """
    thread_count(threads)
    check_new_folder(output)
    source = Artifact.open_whole(artifact, public_key=public_key)
    number = find_image(source, image)
    name = source.manifest.training.images[number]
    bank = source.memory_bank
    gone = bank.origins[:, 0] == number
    if not gone.any() or gone.all():
        why = "it has no row in the memory bank" if not gone.any() else "no row would remain"
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
    """Return the number of a training image, given its name or the number itself.

    Raises:
        EditError: no image has this name or number; the message lists similar names.
    """
    names = source.manifest.training.images
    if image in names:
        return names.index(image)
    if image.isascii() and image.isdigit() and int(image) < len(names):
        return int(image)
    near = difflib.get_close_matches(image, names, n=3, cutoff=0.4)
    hint = f"; similar names: {', '.join(near)}" if near else ""
    raise EditError(
        f"{source.folder}: training.images: expected a name of this list or a number below "
        f"{len(names)}, got {image}{hint}"
    )


def _largest_gap(bank: MemoryBank, gone: NDArray[np.int64], kept: NDArray[np.int64]) -> float:
    """Compute the largest distance of a removed row to its nearest kept row.

    By the triangle inequality, no patch's nearest distance grows by more.
    """
    found = distances_to_nearest(bank.whole_rows(gone), bank.whole_rows(kept), bank.norms[kept])
    return float(found.max())


def _without(bank: MemoryBank, kept: NDArray[np.int64], number: int) -> MemoryBank:
    origins = bank.origins[kept]
    origins[:, 0] -= origins[:, 0] > number  # later images move up by one
    norms = bank.norms[kept]
    return MemoryBank(
        layers=tuple(layer[kept] for layer in bank.layers),
        norms=norms,
        origins=origins,
        neighbours=without_rows(bank.whole_rows(kept), norms, bank.neighbours, kept),
    )


def _scaled_gate(manifest: Manifest, rows: int) -> Calibration:
    """The calibration, whose gate expects as large a share of the rows as before."""
    calibration, gate = manifest.calibration, manifest.calibration.gate
    if gate is None:
        return calibration
    share = rows / manifest.memory_bank.rows
    fewer = dataclasses.replace(
        gate,
        usual_rows=max(1, round(gate.usual_rows * share)),
        fewest_rows=int(gate.fewest_rows * share),
    )
    return dataclasses.replace(calibration, gate=fewer)


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
        calibration=kept_thresholds(_scaled_gate(manifest, bank.rows), _KEPT),
        facts={
            "what": "forget",
            "with": f"patchcore-runtime {__version__}",
            "image": name,
            "rows_removed": source.memory_bank.rows - bank.rows,
            "dropped": dropped_files(source),
        },
        thumbnails=thumbnails,
    )
