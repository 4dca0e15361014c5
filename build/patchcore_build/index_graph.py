"""index.onnx: exact nearest-neighbour search as an ONNX graph over memory_bank.bin.

layer2 (B, C2, h, w), layer3 (B, C3, h/2, w/2) -> distances (B, h, w), rows (B, h, w).
The bank is external data: every tensor of rows points into memory_bank.bin, which is stored once
and mapped into memory. With U the upsampling of layer3, q·m = q2·m2 + U(q3·m3), and the nearest
row maximises q·m - |m|²/2. Rows are taken in blocks, so that the score matrix stays in cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from patchcore_runtime.artifact import INDEX_ONNX, MEMORY_BANK
from patchcore_runtime.manifest import Features
from patchcore_runtime.memory_bank import MemoryBank, Section, bank_sections, write_memory_bank

BLOCK_ROWS = 2048
_OPSET = 17
_IR_VERSION = 8


def write_bank(folder: Path, bank: MemoryBank, features: Features) -> Path:
    """Write memory_bank.bin and index.onnx into a folder; returns the path of the index."""
    write_memory_bank(folder / MEMORY_BANK, bank)
    path = folder / INDEX_ONNX
    write_index(path, features, bank_sections(bank))
    return path


def write_index(path: Path, features: Features, bank: Sequence[Section]) -> None:
    """Write index.onnx beside a memory_bank.bin of that shape.

    Args:
        path: The file to write; it refers to `memory_bank.bin` in its own folder.
        features: Shapes of the two layers and how layer3 is brought to layer2's grid.
        bank: Where the arrays stand in that file.
    """
    model = _IndexGraph(features, {section.name: section for section in bank}).build()
    path.write_bytes(model.SerializeToString(deterministic=True))


@dataclass
class _IndexGraph:
    features: Features
    bank: dict[str, Section]
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def build(self) -> Any:
        layer2, layer3 = self.features.layer2, self.features.layer3
        grid = [layer2.height, layer2.width]
        self._constant("flat", np.array([0, 0, -1], np.int64))
        self._constant("grid3", np.array([0, 0, layer3.height, layer3.width], np.int64))
        self._constant("grid2", np.array([0, *grid], np.int64))
        self._constant("twice", np.array([1, 1, 2, 2], np.float32))
        self._node("Reshape", ["layer2", "flat"], "q2")  # (B, C2, P)
        self._node("Reshape", ["layer3", "flat"], "q3")  # (B, C3, P/4)
        best = self._best_rows()
        self._distances(best)
        self._node("Reshape", [best, "grid2"], "rows")
        graph = helper.make_graph(
            self.nodes,
            "patchcore_exact_index",
            [
                _value("layer2", [layer2.channels, *grid]),
                _value("layer3", [layer3.channels, layer3.height, layer3.width]),
            ],
            [_value("distances", grid), _value("rows", grid, TensorProto.INT64)],
            self.constants,
        )
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="patchcore-build"
        )

    def _best_rows(self) -> str:
        """Running maximum of q·m - |m|²/2 over blocks of rows; name of the winners, (B, P)."""
        rows = self.bank["norms"].shape[0]
        best = ""
        for block, start in enumerate(range(0, rows, BLOCK_ROWS)):
            stop = min(rows, start + BLOCK_ROWS)
            score, winner = self._block(str(block), start, stop)
            if not best:
                best_score, best = score, winner
                continue
            better = self._node("Greater", [score, best_score], f"better_{block}")
            best_score = self._node("Where", [better, score, best_score], f"best_score_{block}")
            best = self._node("Where", [better, winner, best], f"best_row_{block}")
        return best

    def _block(self, name: str, start: int, stop: int) -> tuple[str, str]:
        rows2 = self._rows("layer2", start, stop, f"m2_{name}")
        rows3 = self._rows("layer3", start, stop, f"m3_{name}")
        norms = self._rows("norms", start, stop, f"norms_{name}", (stop - start, 1))
        half = self._constant("half", np.array(0.5, np.float32))
        offset = self._constant(f"start_{name}", np.array(start, np.int64))
        product3 = self._node("MatMul", [rows3, "q3"], f"product3_{name}")
        coarse = self._node("Reshape", [product3, "grid3"], f"coarse_{name}")
        fine = self._upsample(coarse, f"fine_{name}")
        fine = self._node("Reshape", [fine, "flat"], f"fine_flat_{name}")
        product2 = self._node("MatMul", [rows2, "q2"], f"product2_{name}")
        product = self._node("Add", [product2, fine], f"product_{name}")  # (B, rows, P)
        bias = self._node("Mul", [norms, half], f"bias_{name}")
        score = self._node("Sub", [product, bias], f"score_{name}")
        largest = self._node("ReduceMax", [score], f"largest_{name}", axes=[1], keepdims=0)
        winner = self._node("ArgMax", [score], f"winner_{name}", axis=1, keepdims=0)
        return largest, self._node("Add", [winner, offset], f"row_{name}")

    def _distances(self, winners: str) -> None:
        """Distances from the differences of the winning pairs: no cancellation."""
        count = self.bank["norms"].shape[0]
        fine3 = self._upsample("layer3", "layer3_fine")
        flat3 = self._node("Reshape", [fine3, "flat"], "q3_fine")
        squares = []
        for layer, query in (("layer2", "q2"), ("layer3", flat3)):
            nearest = self._winning_rows(layer, count, winners)
            patches = self._node("Transpose", [query], f"{layer}_patches", perm=[0, 2, 1])
            difference = self._node("Sub", [patches, nearest], f"{layer}_difference")
            squares.append(
                self._node("ReduceSumSquare", [difference], f"{layer}_square", axes=[2], keepdims=0)
            )
        total = self._node("Add", squares, "square")
        root = self._node("Sqrt", [total], "distance")
        self._node("Reshape", [root, "grid2"], "distances")

    def _winning_rows(self, layer: str, count: int, winners: str) -> str:
        """The winners' rows, float32 (B, P, C); float16 is cast after the pick."""
        bank, is_half = self._stored_rows(layer, 0, count, f"{layer}_bank")
        picked = f"{layer}_picked" if is_half else f"{layer}_nearest"
        self._node("Gather", [bank, winners], picked, axis=0)
        if not is_half:
            return picked
        return self._node("Cast", [picked], f"{layer}_nearest", to=TensorProto.FLOAT)

    def _upsample(self, source: str, target: str) -> str:
        if self.features.layer3_upsampling == "bilinear":
            mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        else:
            mode = {
                "mode": "nearest",
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor",
            }
        return self._node("Resize", [source, "", "twice"], target, **mode)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        if all(constant.name != name for constant in self.constants):
            self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _rows(
        self, layer: str, start: int, stop: int, name: str, shape: tuple[int, ...] | None = None
    ) -> str:
        """Rows start..stop of a section of the bank, float32."""
        stored, is_half = self._stored_rows(layer, start, stop, name, shape)
        if not is_half:
            return stored
        return self._node("Cast", [stored], name, to=TensorProto.FLOAT)

    def _stored_rows(
        self, layer: str, start: int, stop: int, name: str, shape: tuple[int, ...] | None = None
    ) -> tuple[str, bool]:
        """Rows start..stop as external data, as they are stored; whether that is float16."""
        section = self.bank[layer]
        row_bytes = section.size // section.shape[0]
        is_half = section.dtype == "<f2"
        stored = f"{name}_half" if is_half else name
        kind = TensorProto.FLOAT16 if is_half else TensorProto.FLOAT
        tensor = onnx.TensorProto(name=stored, data_type=kind)
        tensor.dims.extend(shape or (stop - start, *section.shape[1:]))
        tensor.data_location = TensorProto.EXTERNAL
        place = {
            "location": MEMORY_BANK,
            "offset": section.offset + start * row_bytes,
            "length": (stop - start) * row_bytes,
        }
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.constants.append(tensor)
        return stored, is_half


def _value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, ["B", *shape])
