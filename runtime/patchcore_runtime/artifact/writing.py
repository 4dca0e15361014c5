"""Write an artifact folder so that it appears whole or not at all, sealed by its checksums.

A staging folder beside the target is filled, sealed and renamed. artifacts/FORMAT.md, section
Folder.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchcore_runtime.artifact.folder import MANIFEST, SHA256SUMS, file_digest, files_of
from patchcore_runtime.errors import OutputError
from patchcore_runtime.files.staging import staging_folder
from patchcore_runtime.files.whole import check_writable, flush
from patchcore_runtime.manifest.manifest import Index, Manifest
from patchcore_runtime.stopping import held

EXACT_INDEX = Index(kind="exact", effort=0, recall=1.0, score_change=0.0, mindir_candidates=0)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a staging folder beside `target`; rename it to `target` when the block succeeds.

    Files and folders are flushed to the disk before and after the rename, so that a power cut
    leaves the whole folder or none.

    Raises:
        OutputError: the target exists, cannot be written, or the disk is full. If the block fails,
            the staging folder and the parents created for it are removed. If only the flush after
            the rename fails, the target is whole and the message says so.
    """
    try:
        _refuse_existing(target)
        with staging_folder(target) as staging:
            yield staging
            flush_tree(staging)
            with held():
                staging.rename(target)
                _flush_parent(target)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        reason = error.strerror or type(error).__name__
        raise OutputError(f"{target}: cannot be written ({reason}); nothing was kept") from error


def _flush_parent(target: Path) -> None:
    try:
        flush(target.parent)
    except OSError as error:
        raise OutputError(
            f"{target}: is whole, but its disk reports an error ({error.strerror}), and a power "
            "cut may remove it; copy it to another disk"
        ) from error


def check_new_folder(target: Path) -> None:
    """Check before long work that `new_folder` will accept a target.

    Raises:
        OutputError: the target exists, or its parent cannot be written.
    """
    _refuse_existing(target)
    check_writable(target.parent)


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below a folder, and itself, to the disk.

    Raises:
        OSError: the disk reports an error.
    """
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            flush(path)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):  # a link to nothing cannot be replaced by a folder either
        raise OutputError(
            f"{target}: exists already; choose another --output, or remove this folder first"
        )


def seal(staging: Path, manifest: Manifest) -> None:
    """Write manifest.json and SHA256SUMS after every other file is written."""
    (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sums = [f"{file_digest(staging / name)}  {name}\n" for name in sorted(files_of(manifest))]
    (staging / SHA256SUMS).write_text("".join(sums), encoding="utf-8")
