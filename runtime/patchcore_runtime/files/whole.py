"""Write files so that they appear whole or not at all: under a temporary name, then renamed.

An interruption at any moment leaves the old file or the new one, never a partial file.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from patchcore_runtime.errors import OutputError
from patchcore_runtime.stopping import held

# Characters of the final name in the temporary one: file systems allow 255 bytes, and a character
# takes up to four of them.
_LONGEST_NAME = 32


@contextlib.contextmanager
def written_whole(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`; rename it to `path` when the block succeeds.

    Its name cannot be guessed, and it is created here: a link of that name is never followed.

    Args:
        path: The file to write or replace, in an existing folder.
        sync: Flush file and folder to the disk, so that a power cut cannot undo the rename.

    Raises:
        OSError: the folder is missing, cannot be written, or its disk is full, or the path is a
            folder or a device. The error names `path`. An older file is unchanged, unless only the
            folder's flush failed, and the temporary file is removed.
    """
    if path.exists() and not path.is_file():  # a rename would replace even a device
        raise OSError(errno.EEXIST, "Not a regular file", str(path))
    unfinished = path.with_name(f".{path.name[:_LONGEST_NAME]}.{uuid.uuid4().hex}.part")
    with held():
        _create(unfinished)
    try:
        yield unfinished
        with held():
            if sync:
                flush(unfinished)
            unfinished.replace(path)
            if sync:
                flush(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(unfinished)):
            error.filename = str(path)
        raise
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


def check_writable(folder: Path) -> None:
    """Check before long work that files can be written into a folder, by writing one.

    Args:
        folder: A new or existing folder. Missing ones are created for the check, and removed.

    Raises:
        OutputError: the folder is a file, cannot be created, or cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    probe = folder / f".{uuid.uuid4().hex}.part"
    try:
        with held():
            folder.mkdir(parents=True, exist_ok=True)
            _create(probe)
            probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or type(error).__name__}); name another "
            "folder"
        ) from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it could not be created
                path.rmdir()


def refuse_folders(paths: Iterable[Path]) -> None:
    """Check before long work that no folder has the name of a file that will be written.

    Raises:
        OutputError: one of them is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path}: expected a file or nothing, got a folder; remove it first")


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
    aside = folder / f".partial-{uuid.uuid4().hex}"
    try:
        with held():
            aside.mkdir(parents=True)
        yield aside
        with held():
            _move_in(aside, folder)
    finally:
        with held():
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


def _create(path: Path) -> None:
    """Create an empty file of a name that nothing has, not even a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(path, flags, 0o666))


def flush(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk.

    Raises:
        OSError: it cannot be opened, or the disk reports an error.
    """
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders and does not need this
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
