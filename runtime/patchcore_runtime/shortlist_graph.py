"""The two graphs that make a shortlist: one splits a picture's patches, one bounds their products.

Bounds: of q·m - |m|²/2, from above; shortlist_bound.py says how. layer2 and layer3 are split apart,
so that layer3's products are taken on its own grid and upsampled as products. U takes means: what
it makes of two vectors' errors is no longer than what it makes of their lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime import onnx_file
from patchcore_runtime.shortlist_bound import (
    LARGEST,
    ROUNDED_UP,
    SMALLEST_SCALE,
    Rest,
    Split,
    SplitRows,
)
from patchcore_runtime.manifest import Features
from patchcore_runtime.search_graph import BLOCK_ROWS, GROUP, GridGraph, SearchGraph

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


def patch_fields(rest: Rest) -> list[str]:
    """What the first graph hands to the second."""
    quantized = [] if rest is Rest.LENGTH_ALONE else ["bytes2", "bytes3", "scale2", "scale3"]
    return [*quantized, "fine", "main3", "rounded", "slack"]


def patches_graph(
    features: Features, splits: tuple[Split, Split], rest: Rest, largest: float
) -> bytes:
    """layer2 (1, C2, h, w), layer3 (1, C3, h/2, w/2) -> all a search needs of their P patches.

    Outputs: patches2 (P, C2) and patches3 (P, C3), the vectors themselves; bytes2 (P, C2),
    bytes3 (P/4, C3), scale2, scale3: the rests, unless their length alone is kept; rounded (P, 2):
    |h| and |e| of both layers, or (P, 1), |r|; fine (P, k + 2) or (P, k + 1): layer2's main part
    and these; main3 (P/4, k); length (P, 1) of the whole; slack (P, 1): more than the
    float32 sums of a bound can be off.
    `largest` is the largest |m|² of the bank.
    """
    return _PatchesGraph(features, rest).build(splits, largest)


def bounds_graph(features: Features, rows: Rows, rest: Rest) -> bytes:
    """Patch fields and least (P, 1), what the nearest row reaches -> rows that may be the nearest.

    Outputs: groups (N, 2) of a patch and the number of a group of GROUP rows, bounds (N, GROUP) of
    its rows, reached (P, 1): what the nearest row reaches for certain, these rows included. Groups
    are given that have a row which may reach as much.
    """
    return _BoundsGraph(features, rest).build(rows)


def product_graph(terms: int, rest: Rest) -> bytes:
    """From bytes (4, terms) to sums (4, 32) of their products with rows of LARGEST."""
    graph = SearchGraph()
    constants: dict[str, NDArray[np.generic]] = {
        "rows": np.full((terms, 32), LARGEST, np.int8),
        "one": np.array(1, np.float32),
        "ones": np.ones(32, np.float32),
        "zero": np.array(rest.zero, np.uint8),
    }
    names = [graph.constant(name, values) for name, values in constants.items()]
    graph.node(_PRODUCT, ["bytes", *names], "sums")
    return graph.model(
        "patchcore_shortlist_sums",
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


class _ShortlistGraph(GridGraph):
    def __init__(self, features: Features, rest: Rest) -> None:
        super().__init__(features)
        self.rest = rest
        self.quantized = rest is not Rest.LENGTH_ALONE
        self.upsampling()
        if self.quantized:
            self.constant("zero", np.array(rest.zero, np.uint8))

    def fields(self, main2: int, main3: int) -> list[bytes]:
        layer2, layer3 = self.features.layer2, self.features.layer3
        columns = 2 if self.quantized else 1
        values = {
            "bytes2": _value("bytes2", ["P", layer2.channels], onnx_file.UINT8),
            "bytes3": _value("bytes3", ["P3", layer3.channels], onnx_file.UINT8),
            "scale2": _value("scale2", []),
            "scale3": _value("scale3", []),
            "fine": _value("fine", ["P", main2 + columns]),
            "main3": _value("main3", ["P3", main3]),
            "rounded": _value("rounded", ["P", columns]),
            "slack": _value("slack", ["P", 1]),
        }
        return [values[name] for name in patch_fields(self.rest)]


class _PatchesGraph(_ShortlistGraph):
    def build(self, splits: tuple[Split, Split], largest: float) -> bytes:
        layer2, layer3 = self.features.layer2, self.features.layer3
        columns = 2 if self.quantized else 1  # beside the length of the whole
        lengths = []
        for layer, shape, split in zip("23", (layer2, layer3), splits, strict=True):
            self.patches(f"layer{layer}", shape)
            lengths.append(self._split(layer, split))
        self.node("Identity", ["q2"], "patches2")
        self.node("Identity", [self.upsample("q3", layer3.channels, "fine3")], "patches3")
        fine = self.upsample(lengths[1], columns + 1, "lengths3_fine")
        squares = [self.node("Mul", [name, name], f"{name}_squared") for name in (lengths[0], fine)]
        both = self.node("Sqrt", [self.node("Add", squares, "squared")], "lengths")
        both = self.node("Mul", [both, self.constant("up", ROUNDED_UP)], "lengths_up")
        sides = self.constant("sides", np.array([columns, 1]))
        self.nodes("Split", [both, sides], ["rounded", "length"], "split", axis=1)
        self.node("Concat", ["main2", "rounded"], "fine", axis=1)
        self._slack(largest)
        height, width = layer2.height, layer2.width
        return self.model(
            "patchcore_shortlist_patches",
            inputs=[
                _value("layer2", [1, layer2.channels, height, width]),
                _value("layer3", [1, layer3.channels, layer3.height, layer3.width]),
            ],
            outputs=[
                _value("patches2", ["P", layer2.channels]),
                _value("patches3", ["P", layer3.channels]),
                _value("length", ["P", 1]),
                *self.fields(*(split.main_columns for split in splits)),
            ],
        )

    def _split(self, layer: str, split: Split) -> str:
        """Adds a layer's main part and rest; returns lengths of its patches, (P, 2) or (P, 3).

        They are |r|, or |h| and |e|; and that of the whole.
        """
        centre = self.constant(f"centre{layer}", split.centre)
        axes = self.constant(f"axes{layer}", split.axes)
        back = self.constant(f"back{layer}", np.ascontiguousarray(split.axes.T))
        centred = self.node("Sub", [f"q{layer}", centre], f"centred{layer}")
        main = self.node("MatMul", [centred, axes], f"main{layer}")
        along = self.node("MatMul", [main, back], f"along{layer}")
        rest = self.node("Sub", [centred, along], f"rest{layer}")
        parts = self._quantize(layer, rest) if self.quantized else [rest]
        lengths = [
            self.node("ReduceL2", [vectors], f"{vectors}_length", axes=[1])
            for vectors in (*parts, centred)
        ]
        return self.node("Concat", lengths, f"lengths{layer}", axis=1)

    def _quantize(self, layer: str, rest: str) -> list[str]:
        """Adds bytes and scale of a rest; returns what it is rounded to, and the error."""
        size = self.node("Abs", [rest], f"size{layer}")
        largest = self.node("ReduceMax", [size], f"largest{layer}", keepdims=0)
        step = self.constant("step", np.float32(1 / self.rest.value))
        scaled = self.node("Mul", [largest, step], f"step{layer}")
        least = self.constant("least", SMALLEST_SCALE)
        scale = self.node("Max", [scaled, least], f"scale{layer}")
        rounded = self.node("QuantizeLinear", [rest, scale, "zero"], f"bytes{layer}")
        kept = self.node("DequantizeLinear", [rounded, scale, "zero"], f"kept{layer}")
        return [kept, self.node("Sub", [rest, kept], f"error{layer}")]

    def _slack(self, largest: float) -> None:
        square = self.node("Mul", ["length", "length"], "square")
        most = self.node("Add", [square, self.constant("largest", np.float32(largest))], "sums")
        self.node("Mul", [most, self.constant("share", np.float32(_SLACK))], "slack")


class _BoundsGraph(_ShortlistGraph):
    def build(self, rows: Rows) -> bytes:
        self._candidates(self._bounds(rows), rows)
        return self.model(
            "patchcore_shortlist_bounds",
            inputs=[
                *self.fields(rows.layer2.main.shape[1], rows.layer3.main.shape[1]),
                _value("least", ["P", 1]),
            ],
            outputs=[
                _value("groups", ["N", 2], onnx_file.INT64),
                _value("bounds", ["N", GROUP]),
                _value("reached", ["P", 1]),
            ],
            fused=self.quantized,
        )

    def _bounds(self, rows: Rows) -> str:
        """Bounds of all patches and rows, (P, R), R filled up to whole groups."""
        fill = padded(rows.count) - rows.count
        norms = np.pad(-rows.squares / 2, (0, fill), constant_values=_NOWHERE)
        main3 = self.constant("main3_rows", _columns(rows.layer3.main.T, fill))
        fine = np.concatenate([rows.layer2.main, self._lengths(rows)], axis=1)
        fine_rows = self.constant("fine_rows", _columns(fine.T, fill))
        # U copies constants, so that -|m|²/2 may be added on the coarse grid already.
        added = self.constant("norms", norms)
        if self.quantized:
            added = self._rests("3", rows.layer3, norms=added)
        coarse = self.node("Gemm", ["main3", main3, added], "coarse")
        above = self.upsample(coarse, rows.count + fill, "above")
        if self.quantized:
            beside = self.node("Gemm", ["fine", fine_rows, self._rests("2", rows.layer2)], "beside")
            return self.node("Add", [beside, above], "scores")
        return self.node("Gemm", ["fine", fine_rows, above], "scores")

    def _rests(self, layer: str, rows: SplitRows, norms: str = "") -> str:
        """Products of the patches' and the rows' rests of a layer, plus norms."""
        fill = padded(len(rows.scales)) - len(rows.scales)
        m = self.constant(f"m{layer}", np.pad(rows.rests, [(0, 0), (0, fill)]))
        scales = self.constant(f"scales{layer}", np.pad(rows.scales, (0, fill)))
        inputs = [f"bytes{layer}", m, f"scale{layer}", scales, "zero"]
        return self.node(_PRODUCT, [*inputs, *(["", norms] if norms else [])], f"rests{layer}")

    def _lengths(self, rows: Rows) -> NDArray[np.float32]:
        """What the patches' own lengths are to be multiplied with, (R, 1) or (R, 2)."""
        own = [rows.errors, rows.rest_lengths] if self.quantized else [rows.rest_lengths]
        return np.stack(own, axis=1)

    def _candidates(self, scores: str, rows: Rows) -> None:
        """Adds the outputs."""
        count = padded(rows.count)
        shape = self.constant("shape", np.array([-1, count // GROUP, GROUP]))
        grouped = self.node("Reshape", [scores, shape], "grouped")
        maxima = self.node("ReduceMax", [grouped], "maxima", axes=[2], keepdims=0)
        reached = self.node("Max", ["least", self._surely(grouped, maxima, rows)], "reached")
        near = self.node("GreaterOrEqual", [maxima, reached], "near")
        places = self.node("NonZero", [near], "places")
        groups = self.node("Transpose", [places], "groups", perm=[1, 0])
        self.node("GatherND", [grouped, groups], "bounds")

    def _surely(self, grouped: str, maxima: str, rows: Rows) -> str:
        """The lower bound of the row with the largest upper one, (P, 1)."""
        self.constant("one", np.array([1], np.int64))
        _, group = self._top(maxima, "group")
        members = self.node("GatherND", [grouped, group], "members", batch_dims=1)
        largest, column = self._top(members, "member")
        before = self.node("Mul", [group, self.constant("size", np.array(GROUP))], "rows_before")
        row = self.node("Add", [before, column], "row")
        fill = padded(rows.count) - rows.count
        lengths = self.constant("lengths", np.pad(self._lengths(rows), [(0, fill), (0, 0)]))
        own = self.node("GatherND", [lengths, row], "own")
        parts = self.node("Mul", ["rounded", own], "parts")
        error = self.node("ReduceSum", [parts, "one"], "error")
        error = self.node("Add", [error, "slack"], "off")
        width = self.node("Mul", [error, self.constant("twice", np.float32(2))], "width")
        return self.node("Sub", [largest, width], "surely")

    def _top(self, values: str, name: str) -> tuple[str, str]:
        outputs = f"largest_{name}", f"column_{name}"
        self.nodes("TopK", [values, "one"], outputs, f"top_{name}", axis=1)
        return outputs


def _hypotenuse(layer2: NDArray[np.float32], layer3: NDArray[np.float32]) -> NDArray[np.float32]:
    both: NDArray[np.float32] = np.hypot(layer2, layer3) * ROUNDED_UP
    return both


def _columns(columns: NDArray[np.float32], fill: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.pad(columns, [(0, 0), (0, fill)]))


def _value(name: str, shape: Sequence[int | str], kind: int = onnx_file.FLOAT) -> bytes:
    return onnx_file.value(name, kind, shape)
