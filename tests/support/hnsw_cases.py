"""Banks and files of index.hnsw for several test files; hnswlib comes with the extra `hnsw`."""

import importlib.util
import struct

import numpy as np
import pytest

from graphs import layout_of
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.search.hnsw_file import FIELDS, HEADER

needs_hnswlib = pytest.mark.skipif(
    importlib.util.find_spec("hnswlib") is None,
    reason="hnswlib is not installed; pip install 'patchcore-runtime[hnsw]' (needs a compiler)",
)


def make_bank(rows, channels=(6, 10), *, seed=0, dtype=np.float32):
    """Make a bank with seeded normal values and one neighbour per row."""
    rng = np.random.default_rng(seed)
    layer2, layer3 = (rng.standard_normal((rows, size)).astype(dtype) for size in channels)
    whole = np.concatenate([layer2, layer3], axis=1).astype(np.float32)
    return MemoryBank(
        layers=(layer2, layer3),
        norms=np.einsum("md,md->m", whole, whole),
        origins=np.zeros((rows, 3), np.int32),
        neighbours=np.arange(rows, dtype=np.int32)[:, None],
    )


def with_field(content, field, value):
    """Return the file with one number of its header replaced."""
    numbers = dict(zip(FIELDS, HEADER.unpack_from(content), strict=True))
    assert field in numbers
    numbers[field] = value
    return HEADER.pack(*numbers.values()) + content[HEADER.size :]


def with_word(content, offset, value):
    """Return the file with four bytes replaced."""
    return content[:offset] + struct.pack("<I", value) + content[offset + 4 :]


def hostile_files(content, bank):
    """Return corrupt copies of a file with upper levels: (what, content, part of message)."""
    header = dict(zip(FIELDS, HEADER.unpack_from(content), strict=True))
    size, rows, links = header["size_data_per_element"], bank.rows, header["M"]
    body = HEADER.size + rows * size
    third = HEADER.size + 3 * size
    for field in FIELDS:
        if field != "mult":
            most = {"maxlevel": 2**31 - 1, "enterpoint_node": 2**32 - 1}.get(field, 2**64 - 1)
            yield field, with_field(content, field, most), f"{field}: expected"
    for count in (rows - 1, rows + 1, 2**60, 2**63):
        yield "count", with_field(content, "cur_element_count", count), "cur_element_count"
    yield "M", with_field(content, "M", 1), "M: expected 2 to 1024, got 1"
    yield "mult", with_field(content, "mult", float("nan")), "mult: expected"
    yield "level", with_field(content, "maxlevel", -1), "maxlevel: expected 0 or more, got -1"
    yield "level", with_field(content, "maxlevel", header["maxlevel"] + 1), "maxlevel: expected"
    lowest = next(i for i in range(rows) if not _level(content, header, rows, i))
    yield "entry", with_field(content, "enterpoint_node", lowest), "enterpoint_node: expected an"
    yield "count0", with_word(content, third, 2 * links + 1), "element 3: expected links of level 0"
    yield "deleted", with_word(content, third, 2 + (1 << 16)), "element 3: expected links of level"
    for slot in (0, 2 * links - 1):
        damaged = with_word(content, third + 4 + 4 * slot, rows)
        yield "link0", damaged, f"element 3: expected links of level 0 to 0..{rows - 1}"
    label = third + header["label_offset"]
    yield "label", with_word(content, label, 4), "element 3: expected its own number as label"
    vector = third + header["offsetData"]
    yield (
        "vector",
        with_word(content, vector, 0x40490FDB),
        "element 3: expected the numbers of",
    )
    last = vector + 4 * sum(bank.channels) - 4
    yield (
        "vector",
        with_word(content, last, 0x40490FDB),
        "element 3: expected the numbers of",
    )
    yield "bytes", with_word(content, body, 4), "element 0: expected upper links of"
    yield "bytes", with_word(content, body, 2**32 - 4), "element 0: expected upper links of"
    place, element = _first_upper(content, header, rows)
    what = f"element {element}: expected links of level 1"
    yield "count1", with_word(content, place, links + 1), f"{what}: count up to {links}"
    yield "link1", with_word(content, place + 4, rows), f"{what} to 0..{rows - 1}"
    yield "low", with_word(with_word(content, place, 1), place + 4, lowest), f"{what} to its elem"
    yield "longer", content + b"\0\0\0\0", "size: expected"
    yield "longer", content + b"\0", "size: expected"


def _places(content, header, rows):
    place = HEADER.size + rows * header["size_data_per_element"]
    for _ in range(rows):
        (length,) = struct.unpack_from("<I", content, place)
        yield place, length
        place += 4 + length


def _level(content, header, rows, element):
    return list(_places(content, header, rows))[element][1]


def _first_upper(content, header, rows):
    """Return the offset of the first upper list, and its element."""
    places = enumerate(_places(content, header, rows))
    return next((place + 4, element) for element, (place, length) in places if length)


def describe(bank, upsampling="bilinear", height=8, width=12):
    return layout_of(bank.channels, (1, 2), (height, width), upsampling=upsampling)


def draw_layers(layout, count, seed=1):
    rng = np.random.default_rng(seed)
    shapes = [(count, *layer.shape) for layer in layout.layers]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
