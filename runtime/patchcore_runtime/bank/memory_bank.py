"""memory_bank.bin <-> the memory bank's arrays; artifacts/FORMAT.md defines the bytes.

Header (64 bytes), then sections at multiples of 64 bytes: layer2 (M, C2), layer3 (M, C3), norms
(M,), origins (M, 3), neighbours (M, K). Rows are stored per layer, because the search works per
layer. Each section can be mapped into memory and used directly.
"""

import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import open_regular
from patchcore_runtime.manifest.manifest import BankPrecision

MAGIC = b"PCMEMBNK"
VERSION = 2
ALIGNMENT = 64
_HEADER = struct.Struct("<8sIIQIIII")  # magic, version, header size, M, C2, C3, K, bits
_PRECISIONS: dict[int, BankPrecision] = {32: "float32", 16: "float16"}  # bits of a layer's number


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryBank:
    """The normal patches: one row is layer2 and layer3 of one patch.

    `norms` are squared lengths of whole rows; `origins` are training image, y and x (patch grid)
    of each row; `neighbours` are the K nearest rows of each row, itself first (N_b, eq. 7). Norms
    and neighbours are computed from the stored rows, that is after rounding to float16.
    """

    layer2: NDArray[np.floating]  # (M, C2), float32 or float16
    layer3: NDArray[np.floating]  # (M, C3), the same
    norms: NDArray[np.float32]  # (M,)
    origins: NDArray[np.int32]  # (M, 3)
    neighbours: NDArray[np.int32]  # (M, K)

    @property
    def rows(self) -> int:
        """Return M, the number of rows."""
        return len(self.layer2)

    @property
    def channels(self) -> tuple[int, int]:
        """Return C2 and C3, the length of a row in each layer."""
        return self.layer2.shape[1], self.layer3.shape[1]

    @property
    def precision(self) -> BankPrecision:
        """Return the number type in which the two layers are stored."""
        return _PRECISIONS[8 * self.layer2.itemsize]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return M, C2, C3 and K, in the order of the file's header."""
        return self.rows, *self.channels, self.neighbours.shape[1]

    def whole_rows(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows as whole vectors (n, D) in float32, as search libraries expect them."""
        whole = np.concatenate([self.layer2[rows], self.layer3[rows]], axis=1)
        return whole.astype(np.float32, copy=False)

    def squared_distances(
        self,
        layer2: NDArray[np.float32],
        layer3: NDArray[np.float32],
        rows: slice | NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """Compute squared distances from one patch, (C2,) and (C3,), to some rows."""
        difference2 = self.layer2[rows].astype(np.float32, copy=False) - layer2
        difference3 = self.layer3[rows].astype(np.float32, copy=False) - layer3
        return squared_lengths(difference2) + squared_lengths(difference3)


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


def sections(
    rows: int,
    channels2: int,
    channels3: int,
    neighbours: int,
    precision: BankPrecision = "float32",
) -> tuple[Section, ...]:
    """Return the position of each array in the file of a bank of that shape."""
    layer = "<f4" if precision == "float32" else "<f2"
    parts: list[tuple[str, tuple[int, ...], str]] = [
        ("layer2", (rows, channels2), layer),
        ("layer3", (rows, channels3), layer),
        ("norms", (rows,), "<f4"),
        ("origins", (rows, 3), "<i4"),
        ("neighbours", (rows, neighbours), "<i4"),
    ]
    placed = []
    offset = ALIGNMENT
    for name, shape, dtype in parts:
        section = Section(name=name, offset=offset, shape=shape, dtype=dtype)
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
    return sections(*bank.shape, bank.precision)


def write_memory_bank(path: Path, bank: MemoryBank) -> None:
    """Write the file into a staging folder; the caller renames that folder into place."""
    placed = bank_sections(bank)
    with path.open("wb") as file:
        bits = 8 * bank.layer2.itemsize
        file.write(_HEADER.pack(MAGIC, VERSION, ALIGNMENT, *bank.shape, bits))
        for section in placed:
            file.write(b"\0" * (section.offset - file.tell()))
            file.write(np.ascontiguousarray(getattr(bank, section.name), section.dtype).data)
        file.write(b"\0" * (_aligned(file.tell()) - file.tell()))


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
    _, version, start, rows, channels2, channels3, neighbours, bits = _HEADER.unpack(header)
    if version != VERSION:
        raise ArtifactError(f"{path}: version: expected {VERSION}, got {version}")
    if start != ALIGNMENT:
        raise ArtifactError(f"{path}: header size: expected {ALIGNMENT}, got {start}")
    if bits not in _PRECISIONS:
        raise ArtifactError(f"{path}: bits of a number: expected 32 or 16, got {bits}")
    placed = sections(rows, channels2, channels3, neighbours, _PRECISIONS[bits])
    expected = _aligned(placed[-1].offset + placed[-1].size)
    if min(rows, channels2, channels3, neighbours) < 1 or neighbours > rows or size != expected:
        raise ArtifactError(
            f"{path}: header says {rows} rows of {channels2} + {channels3} floats of {bits} bits "
            f"and {neighbours} neighbours, {expected} bytes, but the file has {size}; "
            "copy the folder again"
        )
    whole = np.frombuffer(mapped, np.uint8)
    arrays = {
        s.name: whole[s.offset : s.offset + s.size].view(s.dtype).reshape(s.shape) for s in placed
    }
    for name in ("layer2", "layer3", "norms"):
        _refuse_not_finite(path, name, arrays[name])
    listed = arrays["neighbours"]
    if listed.min() < 0 or listed.max() >= rows:
        raise ArtifactError(f"{path}: neighbours: expected rows 0 to {rows - 1}; copy it again")
    if hasattr(mmap, "MADV_DONTNEED"):  # the search maps the file itself: release these pages
        mapped.madvise(mmap.MADV_DONTNEED)
    return MemoryBank(**arrays)


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
