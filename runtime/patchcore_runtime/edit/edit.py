"""Another bank in the same detector: artifact + rows, names, facts -> a new artifact folder.

What `learn`, `forget` and `patchcore-build merge` share. The network stays; memory_bank.bin,
index.onnx and the self-test's map are made anew. What only the workshop can make, an approximate
index and index.mindir, is left out, so the new artifact searches exactly.
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
    """What the new artifact has in place of the old one's."""

    bank: MemoryBank
    training: Training
    calibration: Calibration
    facts: dict[str, Any]  # for provenance: what was done, with what
    thumbnails: Sequence[Thumbnail] | None = None  # one for each training image, or no such file


@contextmanager
def edited(source: Artifact, output: Path, edit: Edit, threads: int | None) -> Iterator[Detector]:
    """Write the new artifact; the block may still refuse it, then nothing is left behind.

    Yields:
        The new detector, before its folder is renamed into place.

    Raises:
        OutputError: the output exists or cannot be written.
    """
    manifest = _edited_manifest(source, edit)
    with new_folder(output) as staging:
        for name in files_of(manifest):
            if name not in _REMADE:
                shutil.copyfile(source.path(name), staging / name)
        write_bank(staging, edit.bank, manifest.features)
        if edit.thumbnails is not None:
            write_thumbnails(staging / THUMBNAILS, edit.thumbnails)
        detector = Detector(Artifact(staging, manifest), threads=threads)
        yield detector
        seal(staging, dataclasses.replace(manifest, selftest=rescore_selftest(staging, detector)))


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
        # Nothing is decided by provenance, so nothing in it has to be a list.
        provenance={
            **{key: value for key, value in known.items() if key not in ("index", "edits")},
            "edits": [*(done if isinstance(done, list) else [done]), entry],
        },
    )


def artifact_digest(artifact: Artifact) -> str:
    """What names an artifact: the SHA-256 of its SHA256SUMS, which covers every file."""
    return file_digest(artifact.path(SHA256SUMS))


def chained_digest(before: str, lines: Sequence[str]) -> str:
    """`training.digest` after an edit: over the digest before it and a line for each change."""
    text = "".join(f"{line}\n" for line in (f"{before}  before", *lines))
    return hashlib.sha256(text.encode()).hexdigest()


def kept_thresholds(calibration: Calibration, why: str) -> Calibration:
    """The same thresholds; `method` says once why they still hold, or how far."""
    method = calibration.method
    note = f"; {why}"
    return dataclasses.replace(calibration, method=method if note in method else f"{method}{note}")


def dropped_files(source: Artifact) -> list[str]:
    """The source's files that a new bank makes useless and the line PC cannot make anew."""
    manifest = dataclasses.replace(source.manifest, index=EXACT_INDEX)
    return [name for name in source.files if name not in files_of(manifest)]
