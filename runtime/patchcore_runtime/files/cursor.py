"""A strict reader of numbers and arrays for the checks of index files, and its refusals.

path -> numbers and views. Each size from the file is checked by division against the file's real
size, so none is trusted. Every violation is an ArtifactError.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import open_regular


class FileCursor:
    """A file, mapped into memory and read from its first byte to its last.

    `whole` is all of its bytes, uint8 (n,).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path, own=True) as file:
                size = os.fstat(file.fileno()).st_size
                # An empty file cannot be mapped.
                self.whole = np.memmap(file, np.uint8, "r") if size else np.zeros(0, np.uint8)
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
        self._place = 0

    def array(self, field: str, dtype: str, count: int) -> NDArray[Any]:
        """Return a view of the next `count` numbers, without a copy."""
        left = len(self.whole) - self._place
        width = np.dtype(dtype).itemsize
        expect(count <= left // width, self.path, field, f"{count * width} bytes", f"{left} left")
        end = self._place + count * width
        view = self.whole[self._place : end].view(dtype)
        self._place = end
        return view

    def number(self, field: str, dtype: str) -> Any:
        """Return the next number."""
        return self.array(field, dtype, 1)[0].item()

    def expect(self, field: str, dtype: str, value: object) -> None:
        """Refuse the file unless the next number equals `value`."""
        got = self.number(field, dtype)
        expect(got == value, self.path, field, value, got)

    def ranged(self, field: str, dtype: str, lowest: int, highest: int) -> int:
        """Return the next number; refuse it outside the range, whose ends are included."""
        got: int = self.number(field, dtype)
        expect(lowest <= got <= highest, self.path, field, f"{lowest} to {highest}", got)
        return got

    def end(self) -> None:
        """Refuse a file that has bytes left."""
        left = len(self.whole) - self._place
        expect(left == 0, self.path, "size", f"{self._place} bytes", len(self.whole))


def expect_all(
    holds: NDArray[np.bool_], path: Path, expected: str, elements: int | NDArray[np.int64]
) -> None:
    """Refuse the file at the first element of a block for which `holds` is false.

    `elements` is the number of the block's first element, or the numbers of all its elements.
    """
    if holds.all():
        return
    first = int(np.flatnonzero(~holds.reshape(len(holds), -1).all(axis=1))[0])
    element = elements + first if isinstance(elements, int) else elements[first]
    refuse(path, f"element {element}", expected, "another")


def expect(holds: bool, path: Path, field: str, expected: object, got: object) -> None:
    """Refuse the file unless `holds` is true."""
    if not holds:
        refuse(path, field, expected, got)


def refuse(path: Path, field: str, expected: object, got: object) -> None:
    """Raise the error that names the field, the expected value and the value found.

    Raises:
        ArtifactError: always.
    """
    raise ArtifactError(f"{path}: {field}: expected {expected}, got {got}; copy the folder again")
