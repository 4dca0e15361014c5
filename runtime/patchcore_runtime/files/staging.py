"""Hidden staging folders: an output is written beside its target, under a lock.

target -> a new staging folder. The writing process locks the folder, and the system releases the
lock when the process ends. A folder without a lock was left by a killed process; the next process
that writes the same target removes it.
"""

import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from patchcore_runtime.stopping import held

try:
    import fcntl
except ImportError:  # Windows: folders are neither locked nor removed
    fcntl = None  # type: ignore[assignment]

_LONGEST_NAME = 32  # characters of the target's name, four bytes each at most


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside the target; it is removed at the end unless it was renamed.

    Missing parents are created, and removed again at the end if nothing was put into them.

    Raises:
        OSError: the folder cannot be created.
    """
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        with held():
            _remove_abandoned(target)
            staging, lock = _new_folder(target)
        try:
            yield staging
        finally:
            with held():
                shutil.rmtree(staging, ignore_errors=True)
                os.close(lock)
    finally:
        for folder in missing:
            with suppress(OSError):  # not empty: the target is in it
                folder.rmdir()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder below TMPDIR; it is removed at the end.

    Raises:
        OSError: the folder cannot be created.
    """
    with held():
        folder = Path(tempfile.mkdtemp(prefix="patchcore-"))
    try:
        yield folder
    finally:
        with held():
            shutil.rmtree(folder, ignore_errors=True)


def _new_folder(target: Path) -> tuple[Path, int]:
    while True:
        staging = target.parent / f"{_prefix(target)}{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        lock = os.open(staging, os.O_RDONLY) if fcntl is not None else os.open(os.devnull, 0)
        # Between the two lines above another process may have removed the unlocked folder.
        if fcntl is None or (_lock(lock) and staging.exists()):
            return staging, lock
        os.close(lock)


def _prefix(target: Path) -> str:
    """The begin of the names of a target's staging folders; file systems allow 255 bytes."""
    return f".{target.name[:_LONGEST_NAME]}.partial-"


def _remove_abandoned(target: Path) -> None:
    if fcntl is None:
        return
    for folder in target.parent.glob(f"{glob.escape(_prefix(target))}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        except OSError:  # removed in the meantime, or not a folder
            continue
        if _lock(lock):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
