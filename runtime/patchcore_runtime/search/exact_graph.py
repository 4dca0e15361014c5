"""index.onnx: exact nearest-neighbour search as an ONNX graph over memory_bank.bin.

Layers (B, C, h/s, w/s) -> distances (B, h, w), rows (B, h, w).
The bank is external data: every tensor of rows refers to memory_bank.bin, which is stored once and
mapped into memory. With U_i the upsampling of layer i, q·m = Σ U_i(q_i·m_i), and the nearest row
maximises q·m - |m|²/2. So each layer is multiplied on its own grid, and only the products are
upsampled. Rows are processed in blocks, so that no (P, M) matrix exists.

In every product, patches are rows and bank rows are columns. The maximum is then found, and
products are upsampled, along contiguous memory: a fifth to a third faster than the transposed
layout. U_i is two small matrix products. They are no slower than ONNX's Resize, which
onnxruntime computes wrongly on CUDA if the last axis is not resized (1.31). The best score of a
patch is found among the maxima of groups, and then in the best group. This takes a third to a half
of the time of TopK over all rows of a block.

The graph depends on M, through its blocks of rows and their offsets in the file. onnx_file.py
writes it, so a line PC can write it again after an edit of the bank.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from patchcore_runtime.artifact.folder import INDEX_ONNX, MEMORY_BANK
from patchcore_runtime.bank.memory_bank import MemoryBank, Section, bank_sections, write_memory_bank
from patchcore_runtime.engine import onnx_file
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.graph import GridGraph

BLOCK_ROWS = 2048  # rows of a bank whose products are in memory at the same time
_GROUP = 64  # scores per group


def write_bank(folder: Path, bank: MemoryBank, layout: Layout) -> Path:
    """Write memory_bank.bin and index.onnx into a folder; return the path of the index."""
    write_memory_bank(folder / MEMORY_BANK, bank)
    path = folder / INDEX_ONNX
    write_index(path, layout, bank_sections(bank))
    return path


def write_index(path: Path, layout: Layout, bank: Sequence[Section]) -> None:
    """Write index.onnx beside a memory_bank.bin of that shape.

    Args:
        path: The file to write; it refers to `memory_bank.bin` in its own folder.
        layout: Shapes of the layers, and their upsampling.
        bank: Positions of the arrays in that file.
    """
    path.write_bytes(index_bytes(layout, bank))


def index_bytes(layout: Layout, bank: Sequence[Section]) -> bytes:
    """Return the content of index.onnx; arguments as in `write_index`."""
    sections = {section.name: section for section in bank}
    blocks = block_starts(sections["norms"].shape[0])
    return _IndexGraph(layout, sections, blocks).build()


class _IndexGraph(GridGraph):
    def __init__(
        self, layout: Layout, bank: dict[str, Section], blocks: list[tuple[int, int]]
    ) -> None:
        super().__init__(layout)
        self.bank = bank
        self.blocks = blocks  # the first row of each, and the row after its last

    def build(self) -> bytes:
        grid = list(self.layout.grid)
        self.constant("grid", np.array([-1, *grid], np.int64))
        self.constant("one", np.array([1], np.int64))
        for at in range(len(self.layout.layers)):
            self.patches(at)
        best = self._best_rows()
        self._distances(best)
        self.node("Reshape", [best, "grid"], "rows")
        return self.model(
            "patchcore_exact_index",
            inputs=self.inputs("B"),
            outputs=[_value("distances", grid), _value("rows", grid, onnx_file.INT64)],
        )

    def _best_rows(self) -> str:
        """Add a running maximum of q·m - |m|²/2 over blocks; return the winners' name, (B·P, 1)."""
        best = ""
        for block, (start, stop) in enumerate(self.blocks):
            score, winner = self._block(str(block), start, stop)
            if not best:
                best_score, best = score, winner
                continue
            better = self.node("Greater", [score, best_score], f"better_{block}")
            best_score = self.node("Where", [better, score, best_score], f"best_score_{block}")
            best = self.node("Where", [better, winner, best], f"best_row_{block}")
        return best

    def _block(self, name: str, start: int, stop: int) -> tuple[str, str]:
        """Add the largest score of each patch among some rows, and its row; both (B·P, 1)."""
        offset = self.constant(f"start_{name}", np.array(start, np.int64))
        score = self._scores(name, start, stop)
        largest, winner = self._largest(score, stop - start, name)
        return largest, self.node("Add", [winner, offset], f"row_{name}")

    def _scores(self, name: str, start: int, stop: int) -> str:
        """Add q·m - |m|²/2 of every patch and some rows, the coarsest layers first.

        An upsampling keeps constants unchanged, so -|m|²/2 is added to the first product on its
        own grid. Layers of one stride are added up before they are upsampled.
        """
        norms = self._rows("norms", start, stop, f"norms_{name}")
        backwards = list(enumerate(self.layout.layers))[::-1]
        total, first = "", True
        for stride, layers in groupby(backwards, lambda one: one[1].stride):
            added = total if stride == 1 else ""
            for at, _ in layers:
                rows = self._rows(f"layer {at}", start, stop, f"m{at}_{name}")
                inputs = [f"q{at}", rows, *([norms] if first else [added] if added else [])]
                scale = -0.5 if first else 1.0
                target = f"product_{at}_{name}"
                added = self.node("Gemm", inputs, target, transB=1, alpha=1.0, beta=scale)
                first = False
            if stride == 1:
                return added
            fine = self.upsample(added, at, stop - start, f"fine_{at}_{name}")
            total = self.node("Add", [total, fine], f"sum_{at}_{name}") if total else fine
        raise AssertionError("the first layer has stride 1")

    def _largest(self, score: str, rows: int, name: str) -> tuple[str, str]:
        """Add the maximum of each row of (B·P, rows) and its column; ties go to the first."""
        if rows % _GROUP:
            return self._top(score, name)
        groups = self.constant(f"groups_of_{rows}", np.array([-1, rows // _GROUP, _GROUP]))
        self.node("Reshape", [score, groups], f"groups_{name}")
        self.node("ReduceMax", [f"groups_{name}"], f"maxima_{name}", axes=[2], keepdims=0)
        _, group = self._top(f"maxima_{name}", f"{name}_group")
        self.node("GatherND", [f"groups_{name}", group], f"members_{name}", batch_dims=1)
        largest, column = self._top(f"members_{name}", f"{name}_member")
        self.node("Mul", [group, self.constant("group", np.array(_GROUP))], f"before_{name}")
        return largest, self.node("Add", [f"before_{name}", column], f"winner_{name}")

    def _top(self, values: str, name: str) -> tuple[str, str]:
        outputs = f"largest_{name}", f"column_{name}"
        self.nodes("TopK", [values, "one"], outputs, f"top_{name}", axis=1)
        return outputs

    def _distances(self, winners: str) -> None:
        """Add distances computed from the differences of the winning pairs, without cancellation.

        Winning rows are gathered from their own block. A tensor of the whole bank would map the
        file a second time, and most of its pages would count twice as resident memory.
        """
        picks = self.node("Reshape", [winners, self._list()], "picks")
        queries = [self.fine_patches(at) for at in range(len(self.layout.layers))]
        squares = self.node("ConstantOfShape", [self.node("Shape", [picks], "count")], "no_square")
        below = self.node("Less", [picks, "start_0"], "below_0")
        for block, (start, stop) in enumerate(self.blocks):
            end = self.constant(f"start_{block + 1}", np.array(stop, np.int64))
            earlier, below = below, self.node("Less", [picks, end], f"below_{block + 1}")
            inside = self.node("Xor", [earlier, below], f"inside_{block}")
            squares = self._winning_pairs(block, (start, stop), inside, squares, queries)
        root = self.node("Sqrt", [squares], "distance")
        self.node("Reshape", [root, "grid"], "distances")

    def _winning_pairs(
        self, block: int, rows: tuple[int, int], inside: str, squares: str, queries: Sequence[str]
    ) -> str:
        """Insert the squared distances of the patches whose winner is in a block, (B·P)."""
        patches = self.node("NonZero", [inside], f"patches_{block}_column")
        patches = self.node("Reshape", [patches, self._list()], f"patches_{block}")
        picked = self.node("Gather", ["picks", patches], f"picked_{block}", axis=0)
        winners = self.node("Sub", [picked, f"start_{block}"], f"winners_{block}")
        square = ""
        for at, query in enumerate(queries):
            name = f"{at}_{block}"
            own = self.node("Gather", [query, patches], f"own_{name}", axis=0)
            stored, is_half = self._stored_rows(f"layer {at}", *rows, f"m{name}")
            rows_there = self.node("Gather", [stored, winners], f"there_{name}", axis=0)
            nearest = self._float32(rows_there, f"nearest_{name}", is_half=is_half)
            difference = self.node("Sub", [own, nearest], f"difference_{name}")
            part = self.node("ReduceSumSquare", [difference], f"part_{name}", axes=[1], keepdims=0)
            square = self.node("Add", [square, part], f"square_{name}") if square else part
        return self.node("ScatterElements", [squares, patches, square], f"squares_{block}", axis=0)

    def _list(self) -> str:
        return self.constant("list", np.array([-1], np.int64))

    def _rows(self, layer: str, start: int, stop: int, name: str) -> str:
        """Add rows start..stop of a section of the bank, in float32."""
        stored, is_half = self._stored_rows(layer, start, stop, name)
        return self._float32(stored, name, is_half=is_half)

    def _float32(self, stored: str, name: str, *, is_half: bool) -> str:
        """Return the stored tensor, or a cast of it with the given name if it is float16."""
        return self.node("Cast", [stored], name, to=onnx_file.FLOAT) if is_half else stored

    def _stored_rows(self, layer: str, start: int, stop: int, name: str) -> tuple[str, bool]:
        """Add rows start..stop as external data; return the name, and whether it is float16."""
        section = self.bank[layer]
        row_bytes = section.size // section.shape[0]
        is_half = section.dtype == "<f2"
        stored = f"{name}_half" if is_half else name
        place = (MEMORY_BANK, section.offset + start * row_bytes, (stop - start) * row_bytes)
        self.external(
            stored,
            onnx_file.external_tensor(
                stored, section.dtype, (stop - start, *section.shape[1:]), place
            ),
        )
        return stored, is_half


def block_starts(rows: int) -> list[tuple[int, int]]:
    """Split rows into blocks of BLOCK_ROWS, a block of whole groups, and the remaining rows."""
    grouped = rows - rows % _GROUP
    starts = [*range(0, grouped, BLOCK_ROWS), *([grouped] if rows > grouped else [])]
    return list(pairwise([*starts, rows]))


def _value(name: str, shape: list[int], kind: int = onnx_file.FLOAT) -> bytes:
    return onnx_file.value(name, kind, ["B", *shape])
