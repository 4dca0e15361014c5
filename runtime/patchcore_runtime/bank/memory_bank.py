"""memory_bank.bin <-> the memory bank's arrays; artifacts/FORMAT.md defines the bytes.

Header (64 bytes), then sections at multiples of 64 bytes: each layer (M, C), norms (M,), origins
(M, 3), neighbours (M, K). Rows are stored per layer, because the search works per layer. Each
section can be mapped into memory and used directly.
"""

import functools
import math
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import open_regular
from patchcore_runtime.manifest.features import MOST_LAYERS
from patchcore_runtime.manifest.manifest import BankPrecision

MAGIC = b"PCMEMBNK"
VERSION = 3
ALIGNMENT = 64
UNKNOWN_ORIGIN = -1  # each of the three numbers of a row whose image is not known
_HEADER = struct.Struct("<8sIIQ7I")  # magic, version, header size, M, K, bits, L, C_0 to C_3
_PRECISIONS: dict[int, BankPrecision] = {32: "float32", 16: "float16"}  # bits of a layer's number


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryBank:
    """The normal patches: one row is all layers of one patch.

    `norms` are squared lengths of whole rows; `origins` are training image, y and x (patch grid)
    of each row, or `UNKNOWN_ORIGIN`; `neighbours` are the K nearest rows of each row, itself first
    (N_b, eq. 7). Norms and neighbours are computed from the stored rows, that is after rounding to
    float16.
    """

    layers: tuple[NDArray[np.floating], ...]  # (M, C) each, float32 or float16
    norms: NDArray[np.float32]  # (M,)
    origins: NDArray[np.int32]  # (M, 3)
    neighbours: NDArray[np.int32]  # (M, K)

    @property
    def rows(self) -> int:
        """Return M, the number of rows."""
        return len(self.layers[0])

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the length of a row in each layer."""
        return tuple(layer.shape[1] for layer in self.layers)

    @property
    def precision(self) -> BankPrecision:
        """Return the number type in which the layers are stored."""
        return _PRECISIONS[8 * self.layers[0].itemsize]

    @property
    def shape(self) -> "BankShape":
        """Return M, K, the channels and the precision, as the file's header has them."""
        return BankShape(self.rows, self.neighbours.shape[1], self.channels, self.precision)

    def whole_rows(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows as whole vectors (n, D) in float32, as search libraries expect them."""
        whole = np.concatenate([layer[rows] for layer in self.layers], axis=1)
        return whole.astype(np.float32, copy=False)

    def squared_distances(
        self, patch: Sequence[NDArray[np.float32]], rows: slice | NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Compute squared distances from one patch, one (C,) for each layer, to some rows."""
        return functools.reduce(
            np.add,
            (
                squared_lengths(layer[rows].astype(np.float32, copy=False) - part)
                for layer, part in zip(self.layers, patch, strict=True)
            ),
        )


class BankShape(NamedTuple):
    """The shape of a bank: what its file's header says."""

    rows: int
    neighbours: int
    channels: tuple[int, ...]
    precision: BankPrecision


@dataclass(frozen=True, kw_only=True)
class Section:
    """Name, offset, shape and type of one array in the file."""

    name: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Return the length in bytes, without padding."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def sections(shape: BankShape) -> tuple[Section, ...]:
    """Return the position of each array in the file: the layers, norms, origins, neighbours."""
    layer = "<f4" if shape.precision == "float32" else "<f2"
    rows = shape.rows
    parts: list[tuple[str, tuple[int, ...], str]] = [
        *((f"layer {at}", (rows, channels), layer) for at, channels in enumerate(shape.channels)),
        ("norms", (rows,), "<f4"),
        ("origins", (rows, 3), "<i4"),
        ("neighbours", (rows, shape.neighbours), "<i4"),
    ]
    placed = []
    offset = ALIGNMENT
    for name, size, dtype in parts:
        section = Section(name=name, offset=offset, shape=size, dtype=dtype)
        placed.append(section)
        offset = _aligned(offset + section.size)
    return tuple(placed)


def squared_lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute |m|² of each row, (M, D) -> (M,)."""
    lengths: NDArray[np.float32] = np.einsum("md,md->m", rows, rows)
    return lengths


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def bank_sections(bank: MemoryBank) -> tuple[Section, ...]:
    """Return the `sections` of a bank."""
    return sections(bank.shape)


def write_memory_bank(path: Path, bank: MemoryBank) -> None:
    """Write the file into a staging folder; the caller renames that folder into place."""
    placed = bank_sections(bank)
    arrays = (*bank.layers, bank.norms, bank.origins, bank.neighbours)
    with path.open("wb") as file:
        file.write(pack_header(bank.shape))
        for section, array in zip(placed, arrays, strict=True):
            file.write(b"\0" * (section.offset - file.tell()))
            file.write(np.ascontiguousarray(array, section.dtype).data)
        file.write(b"\0" * (_aligned(file.tell()) - file.tell()))


def pack_header(shape: BankShape) -> bytes:
    """Return the header of a file; the rest of its 64 bytes is zero."""
    bits = next(bits for bits, name in _PRECISIONS.items() if name == shape.precision)
    channels = (*shape.channels, *(0,) * (MOST_LAYERS - len(shape.channels)))
    numbers = (shape.rows, shape.neighbours, bits, len(shape.channels))
    header = _HEADER.pack(MAGIC, VERSION, ALIGNMENT, *numbers, *channels)
    return header.ljust(ALIGNMENT, b"\0")


def read_memory_bank(path: Path) -> MemoryBank:
    """Map the file into memory and validate every number, without a copy.

    Raises:
        ArtifactError: the file is missing or of another version, its header does not match its
            size, a number is not finite, or a neighbour is not a row.
    """
    try:
        with open_regular(path, own=True) as file:
            header, size = file.read(_HEADER.size), os.fstat(file.fileno()).st_size
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
    if mapped is None or len(header) < _HEADER.size or header[:8] != MAGIC:
        raise ArtifactError(f"{path}: expected a memory bank ({MAGIC!r}), got {header[:8]!r}")
    shape = _read_header(path, header)
    placed = sections(shape)
    expected = _aligned(placed[-1].offset + placed[-1].size)
    rows, neighbours = shape.rows, shape.neighbours
    if min(rows, neighbours, *shape.channels) < 1 or neighbours > rows or size != expected:
        channels = " + ".join(map(str, shape.channels))
        raise ArtifactError(
            f"{path}: header says {rows} rows of {channels} numbers of {shape.precision} and "
            f"{neighbours} neighbours, {expected} bytes, but the file has {size}; "
            "copy the folder again"
        )
    whole = np.frombuffer(mapped, np.uint8)
    arrays = [whole[s.offset : s.offset + s.size].view(s.dtype).reshape(s.shape) for s in placed]
    *layers, norms, origins, listed = arrays
    for section, values in zip(placed, (*layers, norms), strict=False):
        _refuse_not_finite(path, section.name, values)
    if listed.min() < 0 or listed.max() >= rows:
        raise ArtifactError(f"{path}: neighbours: expected rows 0 to {rows - 1}; copy it again")
    if hasattr(mmap, "MADV_DONTNEED"):  # the search maps the file itself: release these pages
        mapped.madvise(mmap.MADV_DONTNEED)
    return MemoryBank(layers=tuple(layers), norms=norms, origins=origins, neighbours=listed)


def _read_header(path: Path, header: bytes) -> BankShape:
    _, version, start, rows, neighbours, bits, count, *channels = _HEADER.unpack(header)
    if version != VERSION:
        raise ArtifactError(f"{path}: version: expected {VERSION}, got {version}")
    if start != ALIGNMENT:
        raise ArtifactError(f"{path}: header size: expected {ALIGNMENT}, got {start}")
    if bits not in _PRECISIONS:
        raise ArtifactError(f"{path}: bits of a number: expected 32 or 16, got {bits}")
    if not 1 <= count <= MOST_LAYERS or any(channels[count:]):
        raise ArtifactError(
            f"{path}: layers: expected 1 to {MOST_LAYERS} and no channels beyond them, got {count} "
            f"and {channels}; copy the folder again"
        )
    return BankShape(rows, neighbours, tuple(channels[:count]), _PRECISIONS[bits])


def _refuse_not_finite(path: Path, name: str, values: NDArray[np.floating]) -> None:
    """Refuse non-finite rows: they never win a search, so normal patches would count as defects."""
    lowest, highest = values.min(), values.max()  # both are NaN if one value is; this needs no copy
    if np.isfinite(lowest) and np.isfinite(highest):
        return
    row = next(row for row in range(len(values)) if not np.isfinite(values[row]).all())
    worst = lowest if not np.isfinite(lowest) else highest
    raise ArtifactError(
        f"{path}: {name}: row {row}: expected finite numbers, got {worst}; copy the folder again"
    )
