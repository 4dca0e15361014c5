"""The two graphs of the search by int8: one splits a picture's patches, one bounds their products.

Bounds: of q·m - |m|²/2, from above; int8_bound.py says how. layer2 and layer3 are split apart, so
that layer3's products are taken on its own grid and upsampled as products. U takes means: what it
makes of two vectors' errors is no longer than what it makes of their lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime import onnx_file
from patchcore_runtime.int8_bound import (
    LARGEST,
    ROUNDED_UP,
    SMALLEST_SCALE,
    PatchBytes,
    Split,
    SplitRows,
)
from patchcore_runtime.manifest import Features
from patchcore_runtime.search_graph import BLOCK_ROWS, GROUP, GridGraph, SearchGraph

# Fields of a patch that the first graph hands to the second.
PATCH_FIELDS = ("bytes2", "bytes3", "scale2", "scale3", "fine", "main3", "rounded", "slack")
_PRODUCT = f"{onnx_file.FUSED}.MatMulIntegerToFloat"
_NOWHERE = np.float32(-1e30)  # the bound of a row that fills up a group
_SLACK = 1e-5  # of |q|² + |m|²: more than float32 sums can be off


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Some rows of a bank, both layers."""

    layer2: SplitRows
    layer3: SplitRows

    @property
    def count(self) -> int:
        """R."""
        return len(self.layer2.scales)

    @property
    def errors(self) -> NDArray[np.float32]:
        """|f| of whole rows, (R,)."""
        return _hypotenuse(self.layer2.errors, self.layer3.errors)

    @property
    def rest_lengths(self) -> NDArray[np.float32]:
        """|r| of whole rows, (R,)."""
        return _hypotenuse(self.layer2.rest_lengths, self.layer3.rest_lengths)

    @property
    def squares(self) -> NDArray[np.float32]:
        """|m|² of whole rows, (R,)."""
        return self.layer2.squares + self.layer3.squares


def patches_graph(
    features: Features, splits: tuple[Split, Split], patch_bytes: PatchBytes, largest: float
) -> bytes:
    """layer2 (1, C2, h, w), layer3 (1, C3, h/2, w/2) -> all a search needs of their P patches.

    Outputs: patches2 (P, C2) and patches3 (P, C3), the vectors themselves; bytes2 (P, C2),
    bytes3 (P/4, C3), scale2, scale3: the rests; rounded (P, 2): |h| and |e| of both layers;
    fine (P, k + 2): layer2's main part and these; main3 (P/4, k); slack (P, 1): more than the
    float32 sums of a bound can be off. `largest` is the largest |m|² of the bank.
    """
    return _PatchesGraph(features).build(splits, patch_bytes, largest)


def bounds_graph(features: Features, blocks: Sequence[Rows], patch_bytes: PatchBytes) -> bytes:
    """PATCH_FIELDS and least (P, 1), what the nearest row reaches -> rows that may be the nearest.

    Outputs: groups (N, 2) of a patch and the number of a group of GROUP rows, bounds (N, GROUP) of
    its rows, reached (P, 1): what the nearest row reaches for certain, after these blocks. Block by
    block the groups are given with a row that may reach as much.
    """
    return _BoundsGraph(features).build(blocks, patch_bytes)


def product_graph(terms: int, patch_bytes: PatchBytes) -> bytes:
    """From bytes (4, terms) to sums (4, 32) of their products with rows of LARGEST."""
    graph = SearchGraph()
    constants: dict[str, NDArray[np.generic]] = {
        "rows": np.full((terms, 32), LARGEST, np.int8),
        "one": np.array(1, np.float32),
        "ones": np.ones(32, np.float32),
        "zero": np.array(patch_bytes.zero, np.uint8),
    }
    names = [graph.constant(name, values) for name, values in constants.items()]
    graph.node(_PRODUCT, ["bytes", *names], "sums")
    return graph.model(
        "patchcore_int8_sums",
        inputs=[_value("bytes", [4, terms], onnx_file.UINT8)],
        outputs=[_value("sums", [4, 32])],
        fused=True,
    )


def blocks_of(rows: int) -> list[slice]:
    """Rows of each block."""
    return [slice(start, start + BLOCK_ROWS) for start in range(0, rows, BLOCK_ROWS)]


def padded(rows: int) -> int:
    """Rows of whole groups."""
    return -(-rows // GROUP) * GROUP


class _PatchesGraph(GridGraph):
    def build(self, splits: tuple[Split, Split], patch_bytes: PatchBytes, largest: float) -> bytes:
        layer2, layer3 = self.features.layer2, self.features.layer3
        self.upsampling()
        self.constant("zero", np.array(patch_bytes.zero, np.uint8))
        self.constant("step", np.float32(1 / patch_bytes.value))
        lengths = []
        for layer, shape, split in zip("23", (layer2, layer3), splits, strict=True):
            self.patches(f"layer{layer}", shape)
            lengths.append(self._split(layer, split))
        self.node("Identity", ["q2"], "patches2")
        self.node("Identity", [self.upsample("q3", layer3.channels, "fine3")], "patches3")
        fine = self.upsample(lengths[1], 3, "lengths3_fine")
        squares = [self.node("Mul", [name, name], f"{name}_squared") for name in (lengths[0], fine)]
        both = self.node("Sqrt", [self.node("Add", squares, "squared")], "lengths")  # h, e, y
        both = self.node("Mul", [both, self.constant("up", ROUNDED_UP)], "lengths_up")
        sides = self.constant("sides", np.array([2, 1]))
        self.nodes("Split", [both, sides], ["rounded", "length"], "split", axis=1)
        self.node("Concat", ["main2", "rounded"], "fine", axis=1)
        self._slack(largest)
        height, width = layer2.height, layer2.width
        return self.model(
            "patchcore_int8_patches",
            inputs=[
                _value("layer2", [1, layer2.channels, height, width]),
                _value("layer3", [1, layer3.channels, layer3.height, layer3.width]),
            ],
            outputs=[
                _value("patches2", ["P", layer2.channels]),
                _value("patches3", ["P", layer3.channels]),
                *_patch_fields(self.features, *(split.main_columns for split in splits)),
            ],
        )

    def _split(self, layer: str, split: Split) -> str:
        """Adds main, bytes and scale of a layer; returns |h|, |e|, |y| of its patches, (P, 3)."""
        centre = self.constant(f"centre{layer}", split.centre)
        axes = self.constant(f"axes{layer}", split.axes)
        back = self.constant(f"back{layer}", np.ascontiguousarray(split.axes.T))
        centred = self.node("Sub", [f"q{layer}", centre], f"centred{layer}")
        main = self.node("MatMul", [centred, axes], f"main{layer}")
        along = self.node("MatMul", [main, back], f"along{layer}")
        rest = self.node("Sub", [centred, along], f"rest{layer}")
        size = self.node("Abs", [rest], f"size{layer}")
        largest = self.node("ReduceMax", [size], f"largest{layer}", keepdims=0)
        scaled = self.node("Mul", [largest, "step"], f"step{layer}")
        least = self.constant("least", SMALLEST_SCALE)
        scale = self.node("Max", [scaled, least], f"scale{layer}")
        rounded = self.node("QuantizeLinear", [rest, scale, "zero"], f"bytes{layer}")
        kept = self.node("DequantizeLinear", [rounded, scale, "zero"], f"kept{layer}")
        error = self.node("Sub", [rest, kept], f"error{layer}")
        lengths = [
            self.node("ReduceL2", [vectors], f"{vectors}_length", axes=[1])
            for vectors in (kept, error, centred)
        ]
        return self.node("Concat", lengths, f"lengths{layer}", axis=1)

    def _slack(self, largest: float) -> None:
        square = self.node("Mul", ["length", "length"], "square")
        most = self.node("Add", [square, self.constant("largest", np.float32(largest))], "sums")
        self.node("Mul", [most, self.constant("share", np.float32(_SLACK))], "slack")


class _BoundsGraph(GridGraph):
    def build(self, blocks: Sequence[Rows], patch_bytes: PatchBytes) -> bytes:
        layer2, layer3 = blocks[0].layer2, blocks[0].layer3
        self.upsampling()
        self.constant("zero", np.array(patch_bytes.zero, np.uint8))
        self.constant("one", np.array([1], np.int64))
        self.constant("group", np.array(GROUP))
        self.constant("twice", np.float32(2))
        reached, groups, bounds = "least", [], []
        for number, rows in enumerate(blocks):
            scores = self._bounds(rows, str(number))
            reached = self._candidates(scores, rows, reached, number)
            groups.append(f"groups_{number}")
            bounds.append(f"bounds_{number}")
        self.node("Identity", [reached], "reached")
        self.node("Concat", groups, "groups", axis=0)
        self.node("Concat", bounds, "bounds", axis=0)
        fields = _patch_fields(self.features, layer2.main.shape[1], layer3.main.shape[1])
        return self.model(
            "patchcore_int8_bounds",
            inputs=[*fields, _value("least", ["P", 1])],
            outputs=[
                _value("groups", ["N", 2], onnx_file.INT64),
                _value("bounds", ["N", GROUP]),
                _value("reached", ["P", 1]),
            ],
            fused=True,
        )

    def _bounds(self, rows: Rows, name: str) -> str:
        """Bounds of all patches and some rows, (P, R), R filled up to whole groups."""
        fill = padded(rows.count) - rows.count
        layer2, layer3 = rows.layer2, rows.layer3
        own: dict[str, NDArray[np.generic]] = {
            "m2": np.pad(layer2.rests, [(0, 0), (0, fill)]),
            "m3": np.pad(layer3.rests, [(0, 0), (0, fill)]),
            "scales2": np.pad(layer2.scales, (0, fill)),
            "scales3": np.pad(layer3.scales, (0, fill)),
            "norms": np.pad(-rows.squares / 2, (0, fill), constant_values=_NOWHERE),
            "main3_rows": _columns([*layer3.main.T], fill),
            "fine_rows": _columns([*layer2.main.T, rows.errors, rows.rest_lengths], fill),
        }
        m2, m3, scales2, scales3, norms, main3, fine = (
            self.constant(f"{field}_{name}", values) for field, values in own.items()
        )
        # U copies constants, so that -|m|²/2 may be added on the coarse grid already.
        product3 = ["bytes3", m3, "scale3", scales3, "zero", "", norms]
        rest3 = self.node(_PRODUCT, product3, f"rest3_{name}")
        coarse = self.node("Gemm", ["main3", main3, rest3], f"coarse_{name}")
        above = self.upsample(coarse, rows.count + fill, f"above_{name}")
        rest2 = self.node(_PRODUCT, ["bytes2", m2, "scale2", scales2, "zero"], f"rest2_{name}")
        beside = self.node("Gemm", ["fine", fine, rest2], f"beside_{name}")
        return self.node("Add", [beside, above], f"scores_{name}")

    def _candidates(self, scores: str, rows: Rows, least: str, number: int) -> str:
        """Adds groups and bounds of a block; returns what the nearest row reaches up to here."""
        count = padded(rows.count)
        shape = self.constant(f"groups_of_{count}", np.array([-1, count // GROUP, GROUP]))
        grouped = self.node("Reshape", [scores, shape], f"grouped_{number}")
        maxima = self.node("ReduceMax", [grouped], f"maxima_{number}", axes=[2], keepdims=0)
        reached = self._reached(grouped, maxima, rows, number)
        reached = self.node("Max", [least, reached], f"reached_{number}")
        near = self.node("GreaterOrEqual", [maxima, reached], f"near_{number}")
        self.node("NonZero", [near], f"places_{number}")
        places = self.node("Transpose", [f"places_{number}"], f"pairs_{number}", perm=[1, 0])
        self.node("GatherND", [grouped, places], f"bounds_{number}")
        before = self.constant(f"before_{number}", np.array([0, number * BLOCK_ROWS // GROUP]))
        self.node("Add", [places, before], f"groups_{number}")
        return reached

    def _reached(self, grouped: str, maxima: str, rows: Rows, number: int) -> str:
        """The lower bound of the row with the largest upper one, (P, 1)."""
        _, group = self._top(maxima, f"{number}_group")
        members = self.node("GatherND", [grouped, group], f"members_{number}", batch_dims=1)
        largest, column = self._top(members, f"{number}_member")
        before = self.node("Mul", [group, "group"], f"rows_before_{number}")
        row = self.node("Add", [before, column], f"row_{number}")
        fill = padded(rows.count) - rows.count
        errors = _columns([rows.errors, rows.rest_lengths], fill).T
        errors = self.constant(f"errors_{number}", np.ascontiguousarray(errors))
        own = self.node("GatherND", [errors, row], f"own_{number}")
        parts = self.node("Mul", ["rounded", own], f"parts_{number}")
        error = self.node("ReduceSum", [parts, "one"], f"error_{number}")
        error = self.node("Add", [error, "slack"], f"off_{number}")
        error = self.node("Mul", [error, "twice"], f"width_{number}")
        return self.node("Sub", [largest, error], f"surely_{number}")

    def _top(self, values: str, name: str) -> tuple[str, str]:
        outputs = f"largest_{name}", f"column_{name}"
        self.nodes("TopK", [values, "one"], outputs, f"top_{name}", axis=1)
        return outputs


def _hypotenuse(layer2: NDArray[np.float32], layer3: NDArray[np.float32]) -> NDArray[np.float32]:
    both: NDArray[np.float32] = np.hypot(layer2, layer3) * ROUNDED_UP
    return both


def _columns(columns: Sequence[NDArray[np.float32]], fill: int) -> NDArray[np.float32]:
    return np.pad(np.stack(columns), [(0, 0), (0, fill)])


def _patch_fields(features: Features, main2: int, main3: int) -> list[bytes]:
    channels2, channels3 = features.layer2.channels, features.layer3.channels
    return [
        _value("bytes2", ["P", channels2], onnx_file.UINT8),
        _value("bytes3", ["P3", channels3], onnx_file.UINT8),
        _value("scale2", []),
        _value("scale3", []),
        _value("fine", ["P", main2 + 2]),
        _value("main3", ["P3", main3]),
        _value("rounded", ["P", 2]),
        _value("slack", ["P", 1]),
    ]


def _value(name: str, shape: Sequence[int | str], kind: int = onnx_file.FLOAT) -> bytes:
    return onnx_file.value(name, kind, shape)
