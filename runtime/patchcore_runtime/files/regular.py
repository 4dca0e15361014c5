"""Open a file of an artifact for reading; refuse pipes, devices and folders.

path -> open file, or OSError. A pipe or a device of that name could block a reader for ever.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open the file for reading bytes; the caller closes it.

    Raises:
        OSError: the file is missing, cannot be read, or is a folder, a pipe or a device.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _open_at_once(path: str, flags: int) -> int:
    """Open with O_NONBLOCK where it exists, so that opening a FIFO does not block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
