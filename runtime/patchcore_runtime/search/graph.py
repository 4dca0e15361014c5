"""Parts of the graphs that search a bank: nodes, constants, patches as rows, layer3's upsampling.

The exact search (exact_graph.py) and the search along principal axes (pca_graphs.py) share them.
onnx_file.py writes the graphs, so a line PC can make them without the onnx package.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.patches import layer3_upsampling
from patchcore_runtime.engine.onnx_file import Attribute, tensor
from patchcore_runtime.engine.onnx_file import graph as graph_of
from patchcore_runtime.engine.onnx_file import model as model_of
from patchcore_runtime.engine.onnx_file import node as node_of
from patchcore_runtime.manifest.manifest import Features, LayerShape

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

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add numbers, unless the name exists; return the name."""
        if name not in self._constants:
            self._constants[name] = tensor(name, value)
        return name

    def external(self, name: str, place: bytes) -> str:
        """Add numbers that are in another file; return their name."""
        self._constants[name] = place
        return name


class GridGraph(SearchGraph):
    """A graph whose inputs are the patches of images.

    Args:
        features: Shapes of the two layers, and the upsampling of layer3.
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    def patches(self, layer: str, shape: LayerShape) -> str:
        """Add one row per patch: (B, C, h, w) -> (B·h·w, C), named q2 or q3."""
        self.node("Transpose", [layer], f"{layer}_last", perm=[0, 2, 3, 1])
        rows = self.constant(f"{layer}_rows", np.array([-1, shape.channels], np.int64))
        return self.node("Reshape", [f"{layer}_last", rows], f"q{layer[-1]}")

    def upsampling(self) -> None:
        """Add the matrices of U, the upsampling of layer3."""
        down, across = layer3_upsampling(self.features)  # (h, h/2), (w, w/2)
        self.constant("down", down)
        self.constant("across", across)

    def upsample(self, source: str, width: int, target: str) -> str:
        """Apply U to rows of any width: (B·P/4, width) -> (B·P, width)."""
        layer3 = self.features.layer3
        shapes = {
            "lines": [-1, layer3.width, width],  # one for each line of the coarse grid
            "columns": [-1, layer3.height, 2 * layer3.width * width],  # one for each image
            "rows": [-1, width],
        }
        lines, columns, rows = (
            self.constant(f"{name}_of_{width}", np.array(shape, np.int64))
            for name, shape in shapes.items()
        )
        self.node("Reshape", [source, lines], f"{target}_coarse")
        self.node("MatMul", ["across", f"{target}_coarse"], f"{target}_across")
        self.node("Reshape", [f"{target}_across", columns], f"{target}_columns")
        self.node("MatMul", ["down", f"{target}_columns"], f"{target}_grid")
        return self.node("Reshape", [f"{target}_grid", rows], target)
