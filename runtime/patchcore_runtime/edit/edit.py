"""Put an edited memory bank into a new artifact: artifact + rows, names, facts -> a new folder.

`learn`, `forget` and `patchcore-build merge` share this module. The network is unchanged;
memory_bank.bin, index.onnx and the self-test's map are written again. Only the workshop can make an
approximate index and index.mindir. They are left out, so the new artifact uses exact search.
"""

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore_runtime.artifact.folder import (
    INDEX_ONNX,
    MANIFEST,
    MEMORY_BANK,
    SELFTEST_MAP,
    SHA256SUMS,
    THUMBNAILS,
    Artifact,
    file_digest,
    files_of,
)
from patchcore_runtime.artifact.writing import EXACT_INDEX, new_folder, seal
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.detector import Detector
from patchcore_runtime.image.thumbnails import Thumbnail, write_thumbnails
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.manifest.manifest import Bank, Manifest, Training
from patchcore_runtime.search.exact_graph import write_bank
from patchcore_runtime.selftest import rescore_selftest

_REMADE = (MANIFEST, INDEX_ONNX, MEMORY_BANK, SELFTEST_MAP, THUMBNAILS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """The parts of the new artifact that replace the old ones."""

    bank: MemoryBank
    training: Training
    calibration: Calibration
    facts: dict[str, Any]  # provenance of the edit: the operation and its inputs
    thumbnails: Sequence[Thumbnail] | None = None  # one per training image; None: no such file


@dataclass(kw_only=True, eq=False)
class Edited:
    """The new detector, and the calibration that its artifact will get."""

    detector: Detector
    calibration: Calibration


@contextmanager
def edited(source: Artifact, output: Path, edit: Edit, threads: int | None) -> Iterator[Edited]:
    """Write the new artifact; if the block raises, nothing remains on the disk.

    Yields:
        The new detector, before its folder is renamed into place; the block may replace the
        calibration.

    Raises:
        OutputError: the output exists already or cannot be written.
    """
    manifest = _edited_manifest(source, edit)
    with new_folder(output) as staging:
        for name in files_of(manifest):
            if name not in _REMADE:
                shutil.copyfile(source.path(name), staging / name)
        write_bank(staging, edit.bank, manifest.layout)
        if edit.thumbnails is not None:
            write_thumbnails(staging / THUMBNAILS, edit.thumbnails)
        detector = Detector(Artifact(staging, manifest), threads=threads)
        found = Edited(detector=detector, calibration=edit.calibration)
        yield found
        selftest = rescore_selftest(staging, detector)
        whole = dataclasses.replace(manifest, calibration=found.calibration, selftest=selftest)
        seal(staging, whole)


def _edited_manifest(source: Artifact, edit: Edit) -> Manifest:
    bank, known = edit.bank, source.manifest.provenance
    done = known.get("edits", [])
    entry = {"of": artifact_digest(source), **edit.facts}
    return dataclasses.replace(
        source.manifest,
        memory_bank=Bank(
            rows=bank.rows, neighbours=bank.neighbours.shape[1], precision=bank.precision
        ),
        index=EXACT_INDEX,
        calibration=edit.calibration,
        training=dataclasses.replace(
            edit.training, thumbnails="none" if edit.thumbnails is None else "jpeg"
        ),
        # No reader decides by provenance, so `edits` may be something other than a list.
        provenance={
            **{key: value for key, value in known.items() if key not in ("index", "edits")},
            "edits": [*(done if isinstance(done, list) else [done]), entry],
        },
    )


def artifact_digest(artifact: Artifact) -> str:
    """Compute an artifact's digest: the SHA-256 of SHA256SUMS, which covers every file."""
    return file_digest(artifact.path(SHA256SUMS))


def chained_digest(before: str, lines: Sequence[str]) -> str:
    """Compute `training.digest` after an edit: over the former digest and a line per change."""
    text = "".join(f"{line}\n" for line in (f"{before}  before", *lines))
    return hashlib.sha256(text.encode()).hexdigest()


def kept_thresholds(calibration: Calibration, why: str) -> Calibration:
    """Return the same thresholds; `method` states once why, or how far, they remain valid."""
    method = calibration.method
    note = f"; {why}"
    return dataclasses.replace(calibration, method=method if note in method else f"{method}{note}")


def dropped_files(source: Artifact) -> list[str]:
    """List the source's files that do not fit a new bank and that only the workshop can make."""
    manifest = dataclasses.replace(source.manifest, index=EXACT_INDEX)
    return [name for name in source.files if name not in files_of(manifest)]
