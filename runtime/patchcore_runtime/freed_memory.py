"""Hand memory that was freed back to the system.

glibc keeps freed memory for its own next use. Loading a graph frees more than it holds in the end,
and an export frees a quarter of a gigabyte: without this it would count for as long as the process
lives.
"""

import ctypes


def hand_back() -> None:
    """Return what is free; where the C library is not glibc, do nothing. Takes some 10 ms."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except TypeError:  # on Windows this has no name
        return None
