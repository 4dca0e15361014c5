"""Storage for the large arrays of a fit: memory up to a budget, then memory-mapped files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import OutputError

# Memory of the coreset selection for each patch: about 70 bytes, and the rows of a fold.
ROW_BYTES = 100


class Storage:
    """Allocates large arrays: in memory up to a budget, then in files of a temporary folder.

    The kernel may cache pages of these files in memory, and frees them when it needs memory.
    """

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        self._folder = folder
        self.left = budget_bytes  # the part of the budget that is still free
        self._files = 0

    def set_aside(self, size: int) -> None:
        """Reserve bytes of the budget for other allocations; at most all that is left."""
        self.left = max(0, self.left - size)

    def allocate(self, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        """Allocate an uninitialised array; it is memory-mapped if it exceeds the free budget.

        Raises:
            OutputError: the disk of the folder is full.
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
    """Reserve disk space now: a full disk is an OSError here, but later a crash of the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
