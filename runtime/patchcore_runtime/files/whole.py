"""Write files so that they appear whole or not at all: under a temporary name, then renamed.

An interruption at any moment leaves the old file or the new one, never a partial file.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from patchcore_runtime.errors import OutputError

# Characters of the final name in the temporary one: file systems allow 255 bytes.
_LONGEST_NAME = 64


@contextlib.contextmanager
def written_whole(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    Args:
        path: The file to write or replace, in an existing folder.
        sync: Flush file and folder to the disk, so that a power cut cannot undo the rename.

    Raises:
        OSError: the folder is missing, cannot be written, or its disk is full. An older file is
            unchanged, and the temporary file is removed.
    """
    unfinished = path.with_name(f".{path.name[:_LONGEST_NAME]}.{uuid.uuid4().hex}.part")
    try:
        yield unfinished
        if sync:
            _flush(unfinished)
        unfinished.replace(path)
        if sync and os.name != "nt":  # Windows cannot open folders and does not need this
            _flush(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write or replace one file; arguments as in `written_whole`.

    Raises:
        OutputError: the folder cannot be written, or the disk is full; an older file is unchanged.
    """
    try:
        with written_whole(path, sync=sync) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); create the folder or free the disk"
        ) from error


@contextlib.contextmanager
def written_together(folder: Path) -> Iterator[Path]:
    """Yield an empty folder inside `folder`; move its files to `folder` when the block succeeds.

    Files of the same names are replaced, other files are unchanged. If the block fails, neither new
    files nor folders created for them remain.

    Args:
        folder: A new or existing folder; missing parents are created.

    Raises:
        OSError: the folder cannot be written, or a folder has the name of a file.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    aside = folder / f".partial-{uuid.uuid4().hex[:8]}"
    try:
        aside.mkdir(parents=True)
        yield aside
        _move_in(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for path in made:
            with contextlib.suppress(OSError):  # the folder is in use
                path.rmdir()


def _move_in(aside: Path, folder: Path) -> None:
    """Move files in; first refuse folders with the name of a file, which would stop it midway."""
    files = sorted(path for path in aside.rglob("*") if path.is_file())
    targets = [folder / path.relative_to(aside) for path in files]
    for target in targets:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{target.name} is a folder", str(target))
    for path, target in zip(files, targets, strict=True):
        target.parent.mkdir(exist_ok=True)
        path.replace(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
