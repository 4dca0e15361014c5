"""Store the picks of an unfinished coreset, so that an interrupted selection can continue.

rows picked so far <-> JSON with a digest of the features they were picked from. Gaps are not
stored: computing them from the picks takes a fraction of the time that the picks took.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.errors import OutputError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.files.whole import check_writable, write_whole

_MOST_BYTES = 2**30
_SUFFIX = ".coreset.json"


@dataclass(kw_only=True)
class Checkpoint:
    """The file of one selection, written whole or not at all."""

    path: Path  # in an existing folder
    every_s: float = 30.0  # seconds between two writes
    _digest: str = field(default="", init=False)
    _written: float = field(default=-np.inf, init=False)

    def open(
        self, cloud: PatchCloud, rows: NDArray[np.int64] | None, first: int
    ) -> NDArray[np.int64]:
        """Load the rows that were picked before; only the first one if no file exists yet.

        Raises:
            OutputError: the file belongs to other features, rows or seed, or is corrupt.
        """
        digest = hashlib.sha256(f"{cloud.digest} {first}".encode())
        if rows is not None:
            digest.update(rows.astype("<i8").tobytes())
        self._digest, self._written = digest.hexdigest(), time.monotonic()
        if not self.path.exists():
            return np.array([first])
        given, picked = self._read()
        if given != self._digest:
            raise OutputError(
                f"{self.path}: this checkpoint belongs to other features, rows or seed; remove it, "
                "or name another folder"
            )
        if picked[0] != first or picked.max() >= len(cloud.features):
            raise OutputError(f"{self.path}: not a whole checkpoint; remove it to start again")
        return picked

    def save(self, picked: NDArray[np.int64], *, last: bool = False) -> None:
        """Write the picks if `every_s` seconds have passed, or if they are the last.

        Raises:
            OutputError: the folder is not writable; an older file stays unchanged.
        """
        now = time.monotonic()
        if last or now - self._written >= self.every_s:
            content = {"picked_from": self._digest, "picked": picked.tolist()}
            write_whole(self.path, json.dumps(content).encode())
            self._written = now

    def _read(self) -> tuple[str, NDArray[np.int64]]:
        """Load the digest, and at least one distinct row.

        Raises:
            OutputError: the file is corrupt.
        """
        try:
            content = json.loads(read_regular(self.path, limit=_MOST_BYTES))
            picked = np.array(content["picked"], dtype=np.int64)
            digest = str(content["picked_from"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            picked, digest = np.empty(0, np.int64), ""
        if picked.ndim != 1 or picked.min(initial=0) < 0 or not 0 < len(set(picked)) == len(picked):
            raise OutputError(f"{self.path}: not a whole checkpoint; remove it to start again")
        return digest, picked


def check_folder(folder: Path) -> None:
    """Check before long work that checkpoints can be stored in a folder.

    Raises:
        OutputError: it cannot be created or written.
    """
    try:
        check_writable(folder)
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", error)
        raise OutputError(
            f"{folder}: cannot be created ({reason}); name another --checkpoint folder"
        ) from None


def make_folder(folder: Path) -> None:
    """Create the folder for checkpoints if it does not exist.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be created ({error.strerror}); name another --checkpoint folder"
        ) from None


def checkpoint_in(folder: Path | None, name: str) -> Checkpoint | None:
    """The checkpoint of that name in a folder; None without a folder."""
    return None if folder is None else Checkpoint(path=folder / f"{name}{_SUFFIX}")


def clear_checkpoints(folder: Path) -> None:
    """Remove the checkpoints in a folder, and nothing else."""
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink()
