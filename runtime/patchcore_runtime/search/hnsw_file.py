"""Validate index.hnsw from its first byte to its last before hnswlib loads it.

path, bank -> nothing, or ArtifactError naming the field. hnswlib trusts its files, and a wrong
number would crash it. The layout is that of hnswlib's saveIndex (artifacts/FORMAT.md).
"""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.files.cursor import FileCursor, expect, expect_all, refuse

# The header's FIELDS have hnswlib's own names.
HEADER = struct.Struct("<QQQQQQiIQQQdQ")
FIELDS = (
    "offsetLevel0", "max_elements", "cur_element_count", "size_data_per_element", "label_offset",
    "offsetData", "maxlevel", "enterpoint_node", "maxM", "maxM0", "M", "mult", "ef_construction",
)  # fmt: skip
LINKS = (2, 1024)  # range of m, the links of an element on each upper level
EF_CONSTRUCTION = (1, 2**16)
_BLOCK_ROWS = 4096


def check_hnsw_file(path: Path, bank: MemoryBank) -> None:
    """Refuse a graph that is not over exactly this bank, or whose links lead out of it.

    The whole file is read once. 28 MB, 10 % of bottle with ResNet-18, took 80 ms on a busy machine.

    Raises:
        ArtifactError: the file is missing; its header does not match the bank and the file size; a
            link leads to no element of its level; or labels or vectors differ from the bank.
    """
    whole = FileCursor(path).whole
    size = len(whole)
    expect(size >= HEADER.size, path, "size", f"{HEADER.size} bytes or more", size)
    header = dict(zip(FIELDS, HEADER.unpack(whole[: HEADER.size].tobytes()), strict=True))
    _check_header(path, header, bank)
    body = HEADER.size + bank.rows * header["size_data_per_element"]
    least = body + 4 * bank.rows  # even an element of level 0 stores the size of its upper links
    expect(size >= least and size % 4 == 0, path, "size", f"{least} bytes or more", size)
    elements = whole[HEADER.size : body].view(_element_type(header["M"], sum(bank.channels)))
    _check_elements(path, elements, bank)
    _check_upper_links(path, whole[body:].view("<u4"), header, bank.rows)


def _check_header(path: Path, header: dict[str, int], bank: MemoryBank) -> None:
    links, rows, size = header["M"], bank.rows, sum(bank.channels)
    lowest, highest = LINKS
    expect(lowest <= links <= highest, path, "M", f"{lowest} to {highest}", links)
    vectors = 4 + 8 * links  # offset after the count and 2 m links
    expected = {
        "offsetLevel0": 0,
        "max_elements": rows,
        "cur_element_count": rows,
        "size_data_per_element": vectors + 4 * size + 8,
        "label_offset": vectors + 4 * size,
        "offsetData": vectors,
        "maxM": links,
        "maxM0": 2 * links,
    }
    for field, value in expected.items():
        expect(header[field] == value, path, field, value, header[field])
    entry, level, mult = header["enterpoint_node"], header["maxlevel"], header["mult"]
    expect(level >= 0, path, "maxlevel", "0 or more", level)
    expect(entry < rows, path, "enterpoint_node", f"0 to {rows - 1}", entry)
    expect(abs(mult * math.log(links) - 1) <= 1e-9, path, "mult", 1 / math.log(links), mult)
    lowest, highest = EF_CONSTRUCTION
    effort = header["ef_construction"]
    expect(lowest <= effort <= highest, path, "ef_construction", f"{lowest} to {highest}", effort)


def _element_type(links: int, size: int) -> np.dtype[np.void]:
    fields = [
        ("count", "<u4"),
        ("links", "<u4", (2 * links,)),
        ("vector", "<f4", (size,)),
        ("label", "<u8"),
    ]
    return np.dtype(fields)


def _check_elements(path: Path, elements: NDArray[np.void], bank: MemoryBank) -> None:
    rows = bank.rows
    most = elements["links"].shape[1]
    for start in range(0, rows, _BLOCK_ROWS):
        block = elements[start : start + _BLOCK_ROWS]
        part = slice(start, start + len(block))
        # The upper half of a count is a mark of deletion; no row may be deleted.
        expect_all(block["count"] <= most, path, f"links of level 0: count up to {most}", start)
        expect_all(block["links"] < rows, path, f"links of level 0 to 0..{rows - 1}", start)
        own = np.arange(start, part.stop, dtype=np.uint64)
        expect_all(block["label"] == own, path, "its own number as label", start)
        same = block["vector"] == bank.whole_rows(part)
        expect_all(same, path, "the numbers of that row of memory_bank.bin", start)


def _check_upper_links(
    path: Path, words: NDArray[np.uint32], header: dict[str, int], rows: int
) -> None:
    width = 1 + header["M"]  # words of one list: the count, then m links
    top = header["maxlevel"]
    levels, starts = _walk(path, words, width, rows)
    highest = int(levels.max())
    expect(highest == top, path, "maxlevel", f"{highest}, the highest of all elements", top)
    entry = header["enterpoint_node"]
    level = int(levels[entry])
    expect(level == top, path, "enterpoint_node", f"an element of level {top}", level)
    for level in range(1, top + 1):
        present = np.flatnonzero(levels >= level)
        lists = words[starts[present, None] + (level - 1) * width + np.arange(width)]
        counts, links = lists[:, :1], lists[:, 1:]
        what = f"links of level {level}"
        expect_all(counts < width, path, f"{what}: count up to {width - 1}", present)
        used = np.arange(width - 1) < counts
        expect_all(links < rows, path, f"{what} to 0..{rows - 1}", present)
        expect_all(~used | (levels[links] >= level), path, f"{what} to its elements", present)


def _walk(
    path: Path, words: NDArray[np.uint32], width: int, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the level of each element and the start of its lists, which must fill the file."""
    levels, starts = np.zeros((2, rows), np.int64)
    place = 0
    for element in range(rows):
        if place >= len(words):
            refuse(path, f"element {element}", "its upper links", "the end of the file")
        level, rest = divmod(int(words[place]), 4 * width)
        expect(
            rest == 0 and level * width < len(words) - place,
            path, f"element {element}", f"upper links of {4 * width} bytes a level",
            f"{words[place]} bytes",
        )  # fmt: skip
        levels[element], starts[element] = level, place + 1
        place += 1 + level * width
    expect(place == len(words), path, "size", f"{len(words) - place} words less", "more")
    return levels, starts
