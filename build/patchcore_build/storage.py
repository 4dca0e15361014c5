"""Where the large arrays of a fit go: memory up to a budget, then files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import OutputError

# Memory that the coreset selection takes for each patch: about 70 bytes, and the rows of a fold.
ROW_BYTES = 100


class Storage:
    """Where large arrays go: memory up to a budget, then files in a folder that is not kept.

    Pages of those files may be cached in memory; the kernel takes them back when it needs them.
    """

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        self._folder = folder
        self.left = budget_bytes  # what is not yet allocated in memory
        self._files = 0

    def set_aside(self, size: int) -> None:
        """Keep bytes of the budget for what others will allocate; all that is left at most."""
        self.left = max(0, self.left - size)

    def allocate(self, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        """An uninitialised array; memory-mapped where what is left of the budget is too small.

        Raises:
            OutputError: the folder's disk has no room for it.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size <= self.left:
            self.left -= size
            return np.empty(shape, dtype)
        self._files += 1
        path = self._folder / f"array{self._files}.bin"
        try:
            with path.open("wb") as file:
                _reserve(file.fileno(), size)
        except OSError as error:
            raise OutputError(
                f"{self._folder}: no room for {size} bytes of features ({error.strerror}); point "
                "TMPDIR to a larger disk, or raise --memory-budget-gb"
            ) from None
        return np.memmap(path, dtype, mode="r+", shape=shape)


def _reserve(file: int, size: int) -> None:
    """Claim the disk space now: a full disk is an OSError here, but a crash in mapped memory."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
