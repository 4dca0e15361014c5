"""Hand memory that was freed back to the system.

glibc keeps freed memory for its own next use. Loading a graph frees more than it holds in the end,
and an export frees a quarter of a gigabyte: without this it would count for as long as the process
lives. Where the C library is not glibc, nothing is done.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Of mallopt, see malloc.h; blocks above the threshold are mapped one by one. What glibc would come
# to by itself in a process that frees large blocks is its own limit, and twice that.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SMALLEST_BYTES = 128 * 1024
_LARGEST_BYTES = 32 * 1024 * 1024


@contextmanager
def handed_back() -> Iterator[None]:
    """Within, large blocks of new memory go back once they are freed; at the end, all that is free.

    Costs a page fault for every 4 KiB of large blocks: .3 s for a network of 100 MB. Allocations
    of other threads are treated alike.
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
        hand_back()


def hand_back() -> None:
    """Return what is free. Takes some 10 ms."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except TypeError:  # on Windows this has no name
        return None
