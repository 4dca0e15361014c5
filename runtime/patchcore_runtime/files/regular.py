"""Open and read files; the only module of the runtime that opens files for reading.

path -> open file or content, or OSError. A pipe or a device of that name could block a reader for
ever, a sparse file could fill the memory, and a link could lead out of an artifact.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path, *, limit: int | None = None, own: bool = False) -> BinaryIO:
    """Open the file for reading bytes; the caller closes it.

    Args:
        path: The file.
        limit: Largest accepted size in bytes; `None` accepts any size.
        own: Refuse a link to a file outside of the path's folder, as in an artifact.

    Raises:
        OSError: the file is missing, cannot be read, is too large, or is a folder, a pipe, a device
            or such a link; `strerror` is the reason.
    """
    if own:
        refuse_link_out(path)
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    if limit is not None and status.st_size > limit:
        file.close()
        raise _too_large(path, limit)
    return file


def read_regular(path: Path, *, limit: int, own: bool = False) -> bytes:
    """Read a whole file of at most `limit` bytes; arguments and errors as `open_regular`."""
    with open_regular(path, limit=limit, own=own) as file:
        content = file.read(limit + 1)  # it may have grown meanwhile
    if len(content) > limit:
        raise _too_large(path, limit)
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open with O_NONBLOCK where it exists, so that opening a FIFO does not block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def refuse_link_out(path: Path) -> None:
    """Refuse a link to a file outside of the path's folder.

    Raises:
        OSError: the path is such a link; `strerror` says so.
    """
    target = os.path.realpath(path)
    if os.path.dirname(target) == os.path.realpath(path.parent):  # noqa: PTH120 resolve() fails on circles
        return
    reason = f"expected a file of the folder, got a link to {target}, which cp -L would copy"
    raise OSError(errno.ELOOP, reason, str(path))


def _too_large(path: Path, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
