"""Parts of the graphs that search a bank: nodes, constants, patches as rows, layers upsampled.

The exact search (exact_graph.py) and the search along principal axes (pca_graphs.py) share them.
onnx_file.py writes the graphs, so a line PC can make them without the onnx package.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.patches import upsamplers
from patchcore_runtime.engine.onnx_file import FLOAT, Attribute, tensor, value
from patchcore_runtime.engine.onnx_file import graph as graph_of
from patchcore_runtime.engine.onnx_file import model as model_of
from patchcore_runtime.engine.onnx_file import node as node_of
from patchcore_runtime.manifest.features import Layout

_OPSET = 17
_IR_VERSION = 8


class SearchGraph:
    """A graph that is built node by node."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}

    def model(self, name: str, *, inputs: Sequence[bytes], outputs: Sequence[bytes]) -> bytes:
        """Return the content of an .onnx file."""
        graph = graph_of(
            name,
            nodes=self._nodes,
            tensors=list(self._constants.values()),
            inputs=inputs,
            outputs=outputs,
        )
        return model_of(graph, opset=_OPSET, ir_version=_IR_VERSION, producer="patchcore-build")

    def nodes(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        **attributes: Attribute,
    ) -> None:
        """Add a node with several outputs."""
        self._nodes.append(node_of(kind, inputs, outputs, name, **attributes))

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Attribute) -> str:
        """Add a node with one output of the same name; return the name."""
        self.nodes(kind, inputs, [output], output, **attributes)
        return output

    def constant(self, name: str, numbers: NDArray[np.generic]) -> str:
        """Add numbers, unless the name exists; return the name."""
        if name not in self._constants:
            self._constants[name] = tensor(name, numbers)
        return name

    def external(self, name: str, place: bytes) -> str:
        """Add numbers that are in another file; return their name."""
        self._constants[name] = place
        return name


class GridGraph(SearchGraph):
    """A graph whose inputs are the layers of images.

    Args:
        layout: Shapes of the layers, and their upsampling.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self._ups = upsamplers(layout)

    def inputs(self, batch: str | int) -> list[bytes]:
        """Return the graph's inputs: each layer, (batch, C, h/s, w/s)."""
        return [value(of.name, FLOAT, [batch, *of.shape]) for of in self.layout.layers]

    def patches(self, at: int) -> str:
        """Add one row per cell of a layer: (B, C, h/s, w/s) -> (B·P/s², C), named q and `at`."""
        layer = self.layout.layers[at]
        last = self.node("Transpose", [layer.name], f"last_{at}", perm=[0, 2, 3, 1])
        rows = self.constant(f"rows_of_{layer.channels}", np.array([-1, layer.channels], np.int64))
        return self.node("Reshape", [last, rows], f"q{at}")

    def fine_patches(self, at: int) -> str:
        """Add one row per patch of a layer on the patch grid: its `patches`, upsampled."""
        layer = self.layout.layers[at]
        return self.upsample(f"q{at}", at, layer.channels, f"q{at}_fine")

    def upsample(self, source: str, at: int, width: int, target: str) -> str:
        """Apply a layer's upsampling to rows of any width: (B·P/s², width) -> (B·P, width)."""
        layer, up = self.layout.layers[at], self._ups[at]
        if up is None:
            return source
        stride = layer.stride
        down = self.constant(f"down_{stride}", up.down)  # layers of one stride share them
        across = self.constant(f"across_{stride}", up.across)
        lines = self.constant(  # one for each line of the coarse grid
            f"lines_of_{width}_by_{stride}", np.array([-1, layer.width, width], np.int64)
        )
        columns = self.constant(  # one for each image
            f"columns_of_{width}_by_{stride}",
            np.array([-1, layer.height, stride * layer.width * width], np.int64),
        )
        rows = self.constant(f"rows_of_{width}", np.array([-1, width], np.int64))
        self.node("Reshape", [source, lines], f"{target}_coarse")
        self.node("MatMul", [across, f"{target}_coarse"], f"{target}_across")
        self.node("Reshape", [f"{target}_across", columns], f"{target}_columns")
        self.node("MatMul", [down, f"{target}_columns"], f"{target}_grid")
        return self.node("Reshape", [f"{target}_grid", rows], target)
