"""Files of index.faiss for several test files, and corrupt copies of them."""

import importlib.util
import struct

import numpy as np
import pytest

from hnsw_cases import describe
from patchcore_build.indexes.settings import IndexSettings, effort_of, resolve, write_index_file
from patchcore_runtime.search.faiss_file import FOURCC
from patchcore_runtime.search.open import open_index_file

FAISS_KINDS = tuple(FOURCC)
EVIL = (0, -1, 1, 2, 7, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
# Fields that do not determine what is read; only their range is checked.
FREE = {"nprobe": (1, 16), "unused": (0, 0)}

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None,
    reason="faiss is not installed; pip install 'patchcore-build[faiss]'",
)


def write_faiss(folder, kind, bank, **settings):
    """Write index.faiss of a bank into a folder; return the effort of its search."""
    path = folder / "index.faiss"
    resolved = resolve(IndexSettings(kind=kind, **settings), bank)
    write_index_file(path, bank, resolved)
    return path, effort_of(resolved)


def numbers_of(content, kind):
    """Return (name, offset, struct code) of every scalar and of the first number of every array."""
    places, place = [], 0

    def number(name, code):
        nonlocal place
        (value,) = struct.unpack_from("<" + code, content, place)
        places.append((name, place, code))
        place += struct.calcsize("<" + code)
        return value

    def vector(name, code):
        nonlocal place
        count = number(f"size of {name}", "Q")
        dtype = np.dtype("<" + {"f": "f4", "d": "f8", "i": "i4", "Q": "u8", "q": "i8"}[code])
        values = np.frombuffer(content, dtype, count, place)
        if code not in {"f", "d"} and count:
            places.append((name, place, code))
        place += values.nbytes
        return values

    def header():
        number("fourcc", "I"), number("d", "i"), number("ntotal", "q")
        number("unused", "q"), number("unused", "q"), number("trained", "B"), number("metric", "i")

    header()
    if kind == "faiss-flat":
        vector("vectors", "f")
    else:
        cells = number("nlist", "Q")
        number("nprobe", "Q")
        header()
        vector("centroids", "f")
        number("direct map", "B"), vector("direct map", "q"), number("by_residual", "B")
        parts = number("code_size", "Q")
        for name in ("pq.d", "pq.M", "pq.nbits"):
            number(name, "Q")
        vector("codebook", "f")
        number("lists", "I"), number("nlist again", "Q"), number("code_size again", "Q")
        number("list type", "I")
        for count in vector("list sizes", "Q")[:cells].tolist():
            place += count * parts
            places += [("ids", place, "q")] if count and places[-1][0] != "ids" else []
            place += count * 8
    assert place == len(content)
    return places


def hostile_faiss_files(content, kind):
    """Return corrupt copies that must be refused, one number each: (what, content)."""
    for name, offset, code in numbers_of(content, kind):
        (right,) = struct.unpack_from("<" + code, content, offset)
        for value in {*EVIL, right + 1, right - 1}:
            lowest, highest = FREE.get(name, (1, 0))
            harmless = value == right or lowest <= value <= highest or name == "unused"
            if harmless:
                continue
            try:
                packed = struct.pack("<" + code, value)
            except struct.error:
                continue  # more than the field can hold
            end = offset + len(packed)
            yield f"{name} is {value}", content[:offset] + packed + content[end:]


def open_kind(path, kind, bank, effort, *, upsampling="bilinear", threads=1, **grid):
    features = describe(bank, upsampling, **grid)
    return open_index_file(path, bank, features, kind=kind, effort=effort, threads=threads)
