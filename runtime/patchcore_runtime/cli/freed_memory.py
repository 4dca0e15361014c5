"""Return freed heap memory to the operating system.

glibc keeps freed memory for later allocations. Loading a graph frees more memory than the graph
finally uses, and an export frees a quarter of a gigabyte. Without this module the process would
keep that memory until it ends. With a C library other than glibc, nothing happens. These settings
apply to the whole process, so only the commands change them, never the library.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# Options of mallopt, see malloc.h: blocks above the threshold are mapped one by one. In a process
# that frees large blocks, glibc itself would end at its own limit and at twice that limit.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SMALLEST_BYTES = 128 * 1024
_LARGEST_BYTES = 32 * 1024 * 1024


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Return large blocks as soon as they are freed, and all free memory at the end of the block.

    Each 4 KiB of a large block costs a page fault: 0.3 s for a network of 100 MB. The setting also
    applies to other threads of the process.
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
    """Return freed memory and send libraries' output to stderr while a detector loads.

    Repacking a network's weights takes as much memory again as the weights. CUDA's loader prints
    on stdout, which only the command's own lines may use.
    """
    with redirect_stdout(sys.stderr), freed_memory_returned():
        yield


def return_freed_memory() -> None:
    """Return all free memory now; this takes about 10 ms."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except TypeError:  # Windows has no name for this library
        return None
