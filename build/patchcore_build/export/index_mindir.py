"""index.mindir: a shortlist of bank rows that may be nearest to a patch, as MindIR for an NPU.

memory bank -> index.mindir: queries (N, D + 4) -> scores (N, S), rows (N, S). A score is -d²/2 of
the rounded vectors, summed inside one matrix product. All numbers that an NPU would round to half
precision are rounded before, both here and by the reader. So the reader knows the rounding error
and can prove that no row outside of the shortlist is nearer (artifacts/FORMAT.md, section
index.mindir).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from patchcore_build.errors import ExportError
from patchcore_build.export.graphs import write_mindir
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.patches import upsamplers, whole_patches
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.exact import Layers, NearestIndex

CANDIDATES = 8  # S; 4 suffice for every patch of bottle at 1 % and 10 %, see ascend310_infer/
BLOCK_ROWS = 4096
MAX_PARAMETER_BYTES = 2**30  # above it MindSpore writes a graph and a folder instead of a file
_LARGEST_LENGTH = 16.0  # of a centred row after scaling; 361 would overflow half precision
_SMALLEST_NORMAL = 2.0**-14
_SLACK = 1e-5  # relative: two float32 searches may choose different rows of equal distance


@dataclass(frozen=True)
class Frame:
    """Shift and power of two that bring rows and patches into the range of half precision."""

    centre: NDArray[np.float64]  # (D,), values of float32
    scale: float

    @classmethod
    def of(cls, bank: MemoryBank) -> "Frame":
        """The mean row, and the scale at which the farthest row has a distance in [8, 16) to it."""
        vectors = bank.whole_rows(slice(None))
        total = np.zeros(vectors.shape[1])
        for row in vectors:  # in this order, so that a reader computes the same bits
            total += row
        centre = (total / len(vectors)).astype(np.float32).astype(np.float64)
        farthest = max(float(np.linalg.norm(row - centre)) for row in vectors)
        scale = _LARGEST_LENGTH * 2.0 ** -np.frexp(farthest)[1] if farthest > 0 else 1.0
        return cls(centre, float(scale))

    def queries(self, vectors: NDArray[np.float32]) -> NDArray[np.float16]:
        """Patch vectors (N, D) -> first factor of the product, (N, D + 4) in half precision."""
        rounded, halves = self._rounded(vectors)
        return np.concatenate([rounded, halves, np.ones_like(halves)], axis=1).astype(np.float16)

    def rows(self, vectors: NDArray[np.float32]) -> NDArray[np.float16]:
        """Bank rows (M, D) -> second factor of the product, transposed, (M, D + 4)."""
        factor = np.empty((len(vectors), vectors.shape[1] + 4), np.float16)
        for start in range(0, len(vectors), BLOCK_ROWS):  # float64 takes ten times their bytes
            part = slice(start, start + BLOCK_ROWS)
            rounded, halves = self._rounded(vectors[part])
            factor[part] = np.concatenate([rounded, np.ones_like(halves), halves], axis=1)
        return factor

    def _rounded(
        self, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centred, scaled and rounded vectors v, and -|v|²/2 as a sum of two half-precision values.

        Returns:
            (N, D) and (N, 2).
        """
        rounded = _to_half((vectors.astype(np.float64) - self.centre) * self.scale)
        square = -np.einsum("nd,nd->n", rounded, rounded)[:, None] / 2
        upper = _to_half(square)
        return rounded, np.concatenate([upper, _to_half(square - upper)], axis=1)


class Shortlist(nn.Cell):
    """Queries (N, D + 4) float32 -> scores (N, S) float32, rows (N, S) int32, best first."""

    def __init__(self, rows: NDArray[np.float16], candidates: int, block_rows: int) -> None:
        super().__init__()
        self.starts = tuple(range(0, len(rows), block_rows))
        self.counts = tuple(min(candidates, len(rows) - start) for start in self.starts)
        self.candidates = candidates
        self.nothing: Any = ()
        self.blocks = ms.ParameterTuple(
            ms.Parameter(
                ms.Tensor(np.ascontiguousarray(rows[start : start + block_rows].T)),
                name=f"rows_{start}",
            )
            for start in self.starts
        )
        self.multiply, self.best, self.cast = ops.MatMul(), ops.TopK(sorted=True), ops.Cast()
        self.join, self.pick = ops.Concat(1), ops.GatherD()

    def construct(self, queries: Any) -> Any:
        """Select the best rows of each block, then the best of all blocks."""
        scores, rows = self.nothing, self.nothing
        for number, start in enumerate(self.starts):
            product = self.multiply(queries, self.cast(self.blocks[number], ms.float32))
            score, place = self.best(product, self.counts[number])
            scores += (score,)
            rows += (place + start,)
        if len(self.starts) == 1:
            return scores[0], rows[0]
        score, place = self.best(self.join(scores), self.candidates)
        return score, self.pick(self.join(rows), 1, place)


def write_shortlist(
    path: Path,
    bank: MemoryBank,
    *,
    candidates: int = CANDIDATES,
    block_rows: int = BLOCK_ROWS,
    max_bytes: int = MAX_PARAMETER_BYTES,
) -> int:
    """Write index.mindir of a bank, unless the bank is too large for one file.

    Args:
        path: The file to write, whole or not at all; its folder exists.
        bank: The bank; its rows are rounded to half precision whatever their own precision.
        candidates: S, clipped to the number of rows.
        block_rows: Rows of one product; at least `candidates`.
        max_bytes: Largest bank, in bytes of half precision.

    Returns:
        S, or 0 if nothing was written.

    Raises:
        ExportError: MindSpore rejects the graph.
        OutputError: `path` cannot be written.
    """
    count = min(candidates, bank.rows)
    if bank.rows * (sum(bank.channels) + 4) * 2 >= max_bytes:
        return 0
    cell = Shortlist(Frame.of(bank).rows(bank.whole_rows(slice(None))), count, block_rows)
    queries = ms.Tensor(shape=(None, sum(bank.channels) + 4), dtype=ms.float32)
    write_mindir(cell.set_train(False), queries, path)
    return count


def check_shortlist(
    path: Path,
    bank: MemoryBank,
    index: NearestIndex,
    layers: Layers,
    layout: Layout,
) -> None:
    """Load index.mindir and check that every patch has its nearest row in its shortlist.

    Args:
        path: A file of `write_shortlist`.
        bank: The bank it was made of.
        index: The exact search over the same bank.
        layers: Those of real images, (B, C, h/s, w/s) each.
        layout: Their shapes, and their upsampling.

    Raises:
        ExportError: the best row of some shortlist is farther away than the nearest row.
    """
    vectors = whole_patches(layers, upsamplers(layout))
    queries = Frame.of(bank).queries(vectors).astype(np.float32)
    rows = ms.nn.GraphCell(ms.load(str(path)))(ms.Tensor(queries))[1].asnumpy()
    nearest = index.nearest(layers)[0].ravel()
    whole = bank.whole_rows(slice(None))
    listed = np.full(len(vectors), np.inf)
    for column in rows.T:
        listed = np.minimum(listed, np.linalg.norm(vectors - whole[column], axis=1))
    allowed = nearest * (1 + _SLACK) + _SLACK * np.abs(vectors).max()
    missing = np.flatnonzero(~(listed <= allowed))
    if len(missing):
        raise ExportError(
            f"{path}: expected the nearest row of each of {len(vectors)} patches in its shortlist, "
            f"got {len(missing)} without; do not ship this file, export again"
        )


def _to_half(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to half precision, in float64; subnormal numbers, which some devices lack, become 0."""
    rounded = values.astype(np.float16).astype(np.float64)
    rounded[np.abs(rounded) < _SMALLEST_NORMAL] = 0
    return rounded
