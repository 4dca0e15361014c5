"""Laws of memory_bank.bin: bytes as in FORMAT.md; a wrong header is refused before reading on."""

import struct
import tracemalloc

import numpy as np
import pytest

from patchcore_runtime.bank.memory_bank import (
    BankShape,
    MemoryBank,
    bank_sections,
    read_memory_bank,
    sections,
    write_memory_bank,
)
from patchcore_runtime.errors import ArtifactError

HEADER = struct.Struct("<8sIIQ7I")


def arrays_of(bank):
    return (*bank.layers, bank.norms, bank.origins, bank.neighbours)


def _bank(rows=7, channels2=3, channels3=5, neighbours=4, seed=0, precision="float32"):
    rng = np.random.default_rng(seed)
    layer2 = rng.standard_normal((rows, channels2)).astype(precision)
    layer3 = rng.standard_normal((rows, channels3)).astype(precision)
    whole = np.concatenate([layer2, layer3], axis=1).astype(np.float32)
    gaps = ((whole[:, None] - whole[None]) ** 2).sum(axis=2)
    return MemoryBank(
        layers=(layer2, layer3),
        norms=(whole**2).sum(axis=1),
        origins=rng.integers(0, 50, (rows, 3)).astype(np.int32),
        neighbours=np.argsort(gaps, axis=1)[:, :neighbours].astype(np.int32),
    )


def _write(folder, bank):
    path = folder / "memory_bank.bin"
    write_memory_bank(path, bank)
    return path


def _with_header(folder, **changes):
    """Write the file of a valid bank with a changed header."""
    path = _write(folder, _bank())
    content = path.read_bytes()
    fields = {
        "magic": b"PCMEMBNK",
        "version": 3,
        "start": 64,
        "rows": 7,
        "neighbours": 4,
        "bits": 32,
        "layers": 2,
        "channels0": 3,
        "channels1": 5,
        "channels2": 0,
        "channels3": 0,
    }
    path.write_bytes(HEADER.pack(*{**fields, **changes}.values()) + content[HEADER.size :])
    return path


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 3, 5, 4), (16, 16, 32, 16), (33, 2, 1, 9)])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_bank_survives_writing_and_reading(tmp_path, shape, precision):
    bank = _bank(*shape, precision=precision)
    again = read_memory_bank(_write(tmp_path, bank))
    assert again.precision == precision
    for got, expected in zip(arrays_of(again), arrays_of(bank), strict=True):
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(("precision", "bits"), [("float32", 32), ("float16", 16)])
def test_every_byte_is_at_the_offset_of_the_format(tmp_path, precision, bits):
    bank = _bank(precision=precision)
    content = _write(tmp_path, bank).read_bytes()
    expected = HEADER.pack(b"PCMEMBNK", 3, 64, 7, 4, bits, 2, 3, 5, 0, 0)
    kinds = [f"<f{bits // 8}"] * 2 + ["<f4", "<i4", "<i4"]
    for array, kind in zip(arrays_of(bank), kinds, strict=True):
        expected += bytes(-len(expected) % 64)
        expected += array.astype(kind).tobytes()
    assert content == expected + bytes(-len(expected) % 64)


def test_sections_are_aligned_and_do_not_overlap():
    for rows, neighbours, *channels in [(1, 1, 1), (15680, 9, 512, 1024), (17, 2, 3, 5, 8, 1)]:
        end = HEADER.size
        for section in sections(BankShape(rows, neighbours, tuple(channels), "float32")):
            assert section.offset % 64 == 0
            assert 0 <= section.offset - end < 64
            end = section.offset + section.size


def test_sections_of_a_bank_are_those_of_its_shape():
    assert bank_sections(_bank(7, 3, 5, 4)) == sections(BankShape(7, 4, (3, 5), "float32"))
    half = bank_sections(_bank(7, 3, 5, 4, precision="float16"))
    assert half == sections(BankShape(7, 4, (3, 5), "float16"))
    assert [section.dtype for section in half] == ["<f2", "<f2", "<f4", "<i4", "<i4"]


def test_reading_maps_the_file_instead_of_copying_it(tmp_path):
    bank = MemoryBank(
        layers=(np.ones((20_000, 20), np.float32), np.ones((20_000, 30), np.float32)),
        norms=np.ones(20_000, np.float32),
        origins=np.zeros((20_000, 3), np.int32),
        neighbours=np.zeros((20_000, 1), np.int32),
    )
    path = _write(tmp_path, bank)
    tracemalloc.start()
    bank = read_memory_bank(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bank.rows == 20_000
    assert peak < path.stat().st_size / 10
    with pytest.raises(ValueError, match="read-only"):
        bank.layers[0][0, 0] = 1


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_distances_are_those_of_the_joined_rows(precision):
    bank = _bank(rows=40, precision=precision)
    rng = np.random.default_rng(1)
    patch2, patch3 = rng.standard_normal(3), rng.standard_normal(5)
    whole = np.concatenate([bank.layers[0], bank.layers[1]], axis=1).astype(np.float64)
    expected = ((whole - np.concatenate([patch2, patch3])) ** 2).sum(axis=1)
    patches = patch2.astype(np.float32), patch3.astype(np.float32)
    assert bank.squared_distances(patches, slice(None)) == pytest.approx(expected, rel=1e-5)
    some = bank.neighbours[5]
    assert bank.squared_distances(patches, some) == pytest.approx(expected[some], rel=1e-5)
    own = [layer[3] for layer in bank.layers]
    assert bank.squared_distances(own, slice(3, 4)) == [0]


@pytest.mark.parametrize("size", [0, 1, 8, 39, 40, 63, 64, 100, -64, -1])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, size):
    path = _write(tmp_path, _bank())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ArtifactError, match=r"memory_bank\.bin: "):
        read_memory_bank(path)


def test_a_file_with_more_bytes_than_its_header_says_is_refused(tmp_path):
    path = _write(tmp_path, _bank())
    path.write_bytes(path.read_bytes() + bytes(64))
    with pytest.raises(ArtifactError, match="header says 7 rows of 3 \\+ 5 numbers"):
        read_memory_bank(path)


@pytest.mark.parametrize("field", ["rows", "channels0", "channels1", "neighbours"])
@pytest.mark.parametrize("value", [0, 60, 2**16, 2**31, 2**32 - 1])
def test_a_wrong_header_is_refused_without_allocating(tmp_path, field, value):
    path = _with_header(tmp_path, **{field: value})
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="copy the folder again"):
        read_memory_bank(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("rows", [2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_row_count_beyond_64_bits_of_bytes_is_refused(tmp_path, rows):
    with pytest.raises(ArtifactError, match=f"header says {rows} rows"):
        read_memory_bank(_with_header(tmp_path, rows=rows))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"PCMEMBNL"}, "expected a memory bank"),
        ({"version": 2}, "version: expected 3, got 2"),
        ({"version": 0}, "version: expected 3, got 0"),
        ({"bits": 8}, "bits of a number: expected 32 or 16, got 8"),
        ({"bits": 16}, "numbers of float16"),
        ({"layers": 0}, "layers: expected 1 to 4 and no channels beyond them, got 0"),
        ({"layers": 5}, "layers: expected 1 to 4 and no channels beyond them, got 5"),
        ({"layers": 1}, "layers: expected 1 to 4 and no channels beyond them, got 1"),
        ({"channels2": 9}, "layers: expected 1 to 4 and no channels beyond them, got 2"),
        ({"start": 128}, "header size: expected 64, got 128"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, changes, message):
    with pytest.raises(ArtifactError, match=message):
        read_memory_bank(_with_header(tmp_path, **changes))


@pytest.mark.parametrize("row", [-1, 7, 2**31 - 1, -(2**31)])
def test_a_neighbour_outside_the_bank_is_refused(tmp_path, row):
    bank = _bank()
    bank.neighbours[4, 2] = row
    with pytest.raises(ArtifactError, match=r"neighbours: expected rows 0 to 6"):
        read_memory_bank(_write(tmp_path, bank))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        read_memory_bank(tmp_path / "memory_bank.bin")


def test_more_neighbours_than_rows_are_refused(tmp_path):
    path = tmp_path / "memory_bank.bin"
    bank = _bank(rows=2, neighbours=2)
    wide = MemoryBank(
        layers=(bank.layers[0], bank.layers[1]),
        norms=bank.norms,
        origins=bank.origins,
        neighbours=np.zeros((2, 3), np.int32),
    )
    write_memory_bank(path, wide)
    with pytest.raises(ArtifactError, match="header says"):
        read_memory_bank(path)
