"""Return freed heap memory to the operating system.

glibc keeps freed memory for its own next use. Loading a graph frees more than it holds in the end,
and an export frees a quarter of a gigabyte: without this, that memory would count for as long as
the process lives. Where the C library is not glibc, nothing is done. These settings belong to the
whole process, so only the commands change them, and never the library.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# Of mallopt, see malloc.h; blocks above the threshold are mapped one by one. What glibc would come
# to by itself in a process that frees large blocks is its own limit, and twice that.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SMALLEST_BYTES = 128 * 1024
_LARGEST_BYTES = 32 * 1024 * 1024


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Return large blocks as soon as they are freed, and all free memory at the end of the block.

    It costs a page fault for every 4 KiB of large blocks: 0.3 s for a network of 100 MB. The
    setting also applies to other threads of the process.
    """
    option = getattr(_c_library(), "mallopt", None)
    if option is not None:
        option(_MMAP_THRESHOLD, _SMALLEST_BYTES)
    try:
        yield
    finally:
        if option is not None:
            option(_MMAP_THRESHOLD, _LARGEST_BYTES)
            option(_TRIM_THRESHOLD, 2 * _LARGEST_BYTES)
        return_freed_memory()


@contextmanager
def loading() -> Iterator[None]:
    """For the time a detector loads: freed memory is returned, and libraries print to stderr.

    Repacking a network's weights takes as much again as they do. CUDA's loader prints on stdout,
    which belongs to the command's own lines.
    """
    with redirect_stdout(sys.stderr), freed_memory_returned():
        yield


def return_freed_memory() -> None:
    """Return all free memory now; takes about 10 ms."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except TypeError:  # on Windows this has no name
        return None
