"""The two graphs of a search along principal axes: an image's patches, and bounds of products.

The upper bound of q·m - |m|²/2 is t_q·t_m + |r_q||r_m| - |m|²/2, with the letters of pca_axes.py.
It is one product of columns (t_q, |r_q|, 1) and rows (t_m, |r_m|, -|m|²/2).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.engine.onnx_file import FLOAT, INT64, value
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.graph import GridGraph, SearchGraph
from patchcore_runtime.search.pca_axes import ROUNDED_UP, Axes

GROUP = 32  # rows of a group, whose highest bound is compared first
_NOWHERE = np.float32(-1e30)  # bound of the rows that pad a group


def patches_graph(layout: Layout, axes: Axes) -> bytes:
    """Build a graph: layers of one image (1, C, h/s, w/s) -> inputs of a search.

    Outputs: patches_i (P, C_i), the vectors themselves, layer by layer; columns (P, k + 2);
    squared (P, 1), |q|² about the axes' centre.
    """
    graph = GridGraph(layout)
    parts = []
    for at in range(len(layout.layers)):
        graph.patches(at)
        parts.append(graph.node("Identity", [graph.fine_patches(at)], f"patches_{at}"))
    constants = {
        "centre": axes.centre,
        "axes": axes.axes,
        "up": ROUNDED_UP,
        "zero": np.float32(0),
        "one": np.float32(1),
        "one_more_column": np.array([0, 0, 0, 1]),
    }
    for name, values in constants.items():
        graph.constant(name, np.asarray(values))
    graph.node("Concat", parts, "whole", axis=1)
    graph.node("Sub", ["whole", "centre"], "centred")
    graph.node("MatMul", ["centred", "axes"], "main")
    graph.node("ReduceSumSquare", ["centred"], "squared", axes=[1])
    graph.node("ReduceSumSquare", ["main"], "squared_main", axes=[1])
    graph.node("Mul", ["squared", "up"], "squared_up")
    graph.node("Sub", ["squared_up", "squared_main"], "squared_rest")
    graph.node("Max", ["squared_rest", "zero"], "squared_rest_up")
    graph.node("Sqrt", ["squared_rest_up"], "length")
    graph.node("Concat", ["main", "length"], "bounding", axis=1)
    graph.node("Pad", ["bounding", "one_more_column", "one"], "columns")
    return graph.model(
        "patchcore_principal_patches",
        inputs=graph.inputs(1),
        outputs=[
            *(
                value(name, FLOAT, ["P", layer.channels])
                for name, layer in zip(parts, layout.layers, strict=True)
            ),
            value("columns", FLOAT, ["P", axes.count + 2]),
            value("squared", FLOAT, ["P", 1]),
        ],
    )


def bounds_graph(blocks: Sequence[NDArray[np.float32]]) -> bytes:
    """Build a graph: columns (P, k + 2), least (P, 1) of patches -> rows whose bounds reach least.

    Outputs: groups (N, 2), each a patch and the number of a group of GROUP rows; bounds (N, GROUP).
    A group is returned if one of its rows reaches its patch's least. Blocks are (k + 2, R).
    """
    graph = SearchGraph()
    before = 0
    for number, rows in enumerate(blocks):
        fill = -rows.shape[1] % GROUP
        padded = np.pad(rows, [(0, 0), (0, fill)])
        padded[-1, rows.shape[1] :] = _NOWHERE
        count = padded.shape[1] // GROUP
        own = graph.constant(f"rows_{number}", padded)
        shape = graph.constant(f"groups_of_{count}", np.array([-1, count, GROUP]))
        scores = graph.node("MatMul", ["columns", own], f"scores_{number}")
        grouped = graph.node("Reshape", [scores, shape], f"grouped_{number}")
        maxima = graph.node("ReduceMax", [grouped], f"maxima_{number}", axes=[2], keepdims=0)
        near = graph.node("GreaterOrEqual", [maxima, "least"], f"near_{number}")
        places = graph.node("NonZero", [near], f"places_{number}")
        places = graph.node("Transpose", [places], f"pairs_{number}", perm=[1, 0])
        graph.node("GatherND", [grouped, places], f"bounds_{number}")
        offset = graph.constant(f"before_{number}", np.array([0, before]))
        graph.node("Add", [places, offset], f"groups_{number}")
        before += count
    for output in ("groups", "bounds"):
        parts = [f"{output}_{number}" for number in range(len(blocks))]
        graph.node("Concat", parts, output, axis=0)
    return graph.model(
        "patchcore_principal_bounds",
        inputs=[value("columns", FLOAT, ["P", len(blocks[0])]), value("least", FLOAT, ["P", 1])],
        outputs=[
            value("groups", INT64, ["N", 2]),
            value("bounds", FLOAT, ["N", GROUP]),
        ],
    )
