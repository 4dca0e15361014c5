"""Open a file of an artifact for reading, and nothing that only looks like one.

path -> open file, or OSError. A pipe or a device of that name could make a reader wait for ever.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """The file, opened for reading bytes; the caller closes it.

    Raises:
        OSError: it is missing, cannot be read, or is a folder, a pipe or a device.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _open_at_once(path: str, flags: int) -> int:
    """Without O_NONBLOCK, which Windows has not, opening a pipe would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
