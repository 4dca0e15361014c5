"""Validate index.faiss from its first byte to its last before faiss loads it.

path, kind, bank -> nothing, or ArtifactError naming the field. faiss trusts the numbers in a file
without checking that they stay inside it. The layouts are those of faiss's `write_index`
(artifacts/FORMAT.md): IndexFlatL2, and IndexIVFPQ over an IndexFlatL2.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.files.cursor import FileCursor, expect, expect_all
from patchcore_runtime.manifest.manifest import IndexKind

FOURCC = {"faiss-flat": b"IxF2", "faiss-ivfpq": b"IwPQ"}
MOST_CELLS = 2**16  # nlist
CODE_BITS = 8  # bits of one part of a code: every byte is a valid index of one of 256 centroids
_METRIC_L2 = 1
_BLOCK_ROWS = 4096


def check_faiss_file(path: Path, kind: IndexKind, bank: MemoryBank) -> None:
    """Refuse a file that is not that kind of index over exactly this bank.

    Every number that faiss would use as a size, an offset or a link is compared with the bank and
    the file's real size. Rows in the file must equal those of the bank.

    Raises:
        ArtifactError: the file is missing, another kind of index, or has a field out of range.
    """
    cursor = FileCursor(path)
    if kind == "faiss-flat":
        _check_rows(cursor, bank)
    else:
        _check_ivfpq(cursor, bank)
    cursor.end()


def _check_header(cursor: FileCursor, kind: str, size: int, rows: int) -> None:
    fourcc = cursor.array("fourcc", "S4", 1)[0]
    expect(fourcc == FOURCC[kind], cursor.path, "fourcc", FOURCC[kind], fourcc)
    cursor.expect("d", "<i4", size)
    cursor.expect("ntotal", "<i8", rows)
    cursor.array("unused", "<i8", 2)
    cursor.expect("is_trained", "u1", 1)
    cursor.expect("metric_type", "<i4", _METRIC_L2)


def _check_flat(cursor: FileCursor, size: int, rows: int) -> NDArray[np.float32]:
    """Check an IndexFlatL2 and return its vectors, (rows, size)."""
    _check_header(cursor, "faiss-flat", size, rows)
    cursor.expect("size of vectors", "<u8", rows * size)
    return cursor.array("vectors", "<f4", rows * size).reshape(rows, size)


def _check_rows(cursor: FileCursor, bank: MemoryBank) -> None:
    """Check an IndexFlatL2 of the bank's own rows."""
    vectors = _check_flat(cursor, sum(bank.channels), bank.rows)
    for start in range(0, bank.rows, _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        same = vectors[part] == bank.whole_rows(part)
        expect_all(same, cursor.path, "the numbers of that row of memory_bank.bin", start)


def _check_ivfpq(cursor: FileCursor, bank: MemoryBank) -> None:
    path, rows, size = cursor.path, bank.rows, sum(bank.channels)
    _check_header(cursor, "faiss-ivfpq", size, rows)
    cells = cursor.ranged("nlist", "<u8", 1, min(rows, MOST_CELLS))
    cursor.ranged("nprobe", "<u8", 1, cells)
    centroids = _check_flat(cursor, size, cells)
    expect(bool(np.isfinite(centroids).all()), path, "quantizer", "finite numbers", "others")
    cursor.expect("direct_map type", "u1", 0)
    cursor.expect("size of direct_map", "<u8", 0)
    cursor.expect("by_residual", "u1", 1)
    parts = cursor.ranged("code_size", "<u8", 1, size)
    cursor.expect("pq.d", "<u8", size)
    cursor.expect("pq.M", "<u8", parts)
    expect(size % parts == 0, path, "pq.M", f"a divisor of {size}", parts)
    cursor.expect("pq.nbits", "<u8", CODE_BITS)
    cursor.expect("size of pq.centroids", "<u8", 2**CODE_BITS * size)
    codebook = cursor.array("pq.centroids", "<f4", 2**CODE_BITS * size)
    expect(bool(np.isfinite(codebook).all()), path, "pq.centroids", "finite numbers", "others")
    _check_lists(cursor, rows, cells, parts)


def _check_lists(cursor: FileCursor, rows: int, cells: int, code_size: int) -> None:
    """Check the inverted lists, which together contain every row once."""
    path = cursor.path
    for field, wanted in (("inverted lists", b"ilar"), ("list sizes", b"full")):
        if field == "list sizes":
            cursor.expect("lists", "<u8", cells)
            cursor.expect("code size of lists", "<u8", code_size)
        got = cursor.array(field, "S4", 1)[0]
        expect(got == wanted, path, field, wanted, got)
    cursor.expect("size of list sizes", "<u8", cells)
    sizes = cursor.array("list sizes", "<u8", cells)
    # Each size is checked first, because their sum could wrap around.
    expect_all(sizes <= rows, path, f"a list of {rows} rows or fewer", 0)
    expect(int(sizes.sum()) == rows, path, "list sizes", f"{rows} rows in all", int(sizes.sum()))
    seen = np.zeros(rows, np.bool_)
    for cell, count in enumerate(sizes.tolist()):
        cursor.array(f"codes of list {cell}", "u1", count * code_size)
        ids = cursor.array(f"ids of list {cell}", "<i8", count)
        expect_all((ids >= 0) & (ids < rows), path, f"list {cell}: rows 0..{rows - 1}", 0)
        seen[ids] = True
    expect_all(seen, path, "its row in one of the lists", 0)
