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
    # Without O_NONBLOCK opening a pipe would wait for its writer. Windows has neither.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    words = os.strerror(code) if code == errno.EISDIR else "Not a regular file"
    raise OSError(code, words, str(path))
