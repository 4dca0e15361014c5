"""The hidden folder beside a target in which it is made: who works in it holds a lock on it.

target -> a new staging folder. What a killed process left behind has nobody's lock, and is removed
by the next that makes the same target: the system frees a lock with its process, however it ends.
"""

import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing removed
    fcntl = None  # type: ignore[assignment]


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A new folder beside the target, with missing parents; removed unless it was renamed.

    Raises:
        OSError: it cannot be made.
    """
    _remove_abandoned(target)
    staging, lock = _new_folder(target)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def _new_folder(target: Path) -> tuple[Path, int]:
    while True:
        staging = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:8]}"
        staging.mkdir(parents=True)
        lock = os.open(staging, os.O_RDONLY) if fcntl is not None else os.open(os.devnull, 0)
        # Between the two lines above somebody may have found it without a lock, and removed it.
        if fcntl is None or (_lock(lock) and staging.exists()):
            return staging, lock
        os.close(lock)


def _remove_abandoned(target: Path) -> None:
    if fcntl is None:
        return
    for folder in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        except OSError:  # gone meanwhile, or no folder of ours
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
