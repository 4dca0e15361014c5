"""A file appears whole or not at all: it is written beside its place, then renamed into it.

An interruption at any moment leaves the old file or the new one, never a part of one.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchcore_runtime.errors import OutputError

_LONGEST_NAME = 64  # of the final name within the temporary one: file systems allow 255 bytes


@contextmanager
def written_whole(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    Args:
        path: The file to write or replace, in an existing folder.
        sync: Flush file and folder to the disk, so that a power cut cannot undo the rename.

    Raises:
        OSError: the folder is missing, cannot be written, or its disk is full. An older file is
            unchanged, and the temporary one is removed.
    """
    unfinished = path.with_name(f".{path.name[:_LONGEST_NAME]}.{uuid.uuid4().hex}.part")
    try:
        yield unfinished
        if sync:
            _flush(unfinished)
        unfinished.replace(path)
        if sync and os.name != "nt":  # Windows cannot open folders and does not need it
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


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
