"""The picks of an unfinished coreset in a file: an interrupted selection goes on where it was.

rows picked so far <-> JSON with a digest of what they were picked from. Gaps are not kept: they
follow from the picks, at a share of the time that the picks took.
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
from patchcore_runtime.files.whole import write_whole

_SUFFIX = ".coreset.json"


@dataclass(kw_only=True)
class Checkpoint:
    """One selection's file, written whole or not at all."""

    path: Path  # in an existing folder
    every_s: float = 30.0  # seconds between two writings
    _digest: str = field(default="", init=False)
    _written: float = field(default=-np.inf, init=False)

    def open(
        self, cloud: PatchCloud, rows: NDArray[np.int64] | None, first: int
    ) -> NDArray[np.int64]:
        """Rows picked before, or the first one alone where there is no file yet.

        Raises:
            OutputError: the file is of other features, rows or seed, or is damaged.
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
                f"{self.path}: a checkpoint of other features, rows or seed; remove it, or name "
                "another folder"
            )
        if picked[0] != first or picked.max() >= len(cloud.features):
            raise OutputError(f"{self.path}: not a whole checkpoint; remove it to start afresh")
        return picked

    def save(self, picked: NDArray[np.int64], *, last: bool = False) -> None:
        """Write the picks if it is time to, or if they are the last.

        Raises:
            OutputError: the folder cannot be written; an older file stays.
        """
        now = time.monotonic()
        if last or now - self._written >= self.every_s:
            content = {"picked_from": self._digest, "picked": picked.tolist()}
            write_whole(self.path, json.dumps(content).encode())
            self._written = now

    def _read(self) -> tuple[str, NDArray[np.int64]]:
        """The digest, and distinct rows, at least one."""
        try:
            content = json.loads(self.path.read_bytes())
            picked = np.array(content["picked"], dtype=np.int64)
            digest = str(content["picked_from"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            picked, digest = np.empty(0, np.int64), ""
        if picked.ndim != 1 or picked.min(initial=0) < 0 or not 0 < len(set(picked)) == len(picked):
            raise OutputError(f"{self.path}: not a whole checkpoint; remove it to start afresh")
        return digest, picked


def make_folder(folder: Path) -> None:
    """Make the folder for checkpoints unless it is there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); name another --checkpoint folder"
        ) from None


def checkpoint_in(folder: Path | None, name: str) -> Checkpoint | None:
    """One of a folder's checkpoints; none where there is no folder."""
    return None if folder is None else Checkpoint(path=folder / f"{name}{_SUFFIX}")


def clear_checkpoints(folder: Path) -> None:
    """Remove a folder's checkpoints and nothing else."""
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink()
