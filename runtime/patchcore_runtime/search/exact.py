"""Nearest-neighbour search: layer2, layer3 of some images -> nearest distance and bank row.

`NearestIndex` is the interface of every kind of index. The exact one runs index.onnx, whose bank is
external data in memory_bank.bin. The upsampling U of layer3 to layer2's grid is linear, so
q·m = q2·m2 + U(q3·m3). Products with layer3 are computed on its own quarter-size grid and then
upsampled, which is exact (see exact_graph.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.engine.session import CPU, check_shapes, open_session
from patchcore_runtime.manifest.manifest import Features


class NearestIndex(Protocol):
    """A search over one bank; each kind has one module, this one or one named …_index.py."""

    def nearest(
        self, layer2: NDArray[np.float32], layer3: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest row of every patch.

        Args:
            layer2: (B, C2, h, w).
            layer3: (B, C3, h/2, w/2).

        Returns:
            Euclidean distances (B, h, w) and the nearest rows (B, h, w).
        """


class ExactIndex:
    """The search of one artifact, ready to run; safe to share between threads."""

    def __init__(
        self, path: Path, *, threads: int | None = None, providers: Sequence[str] = (CPU,)
    ) -> None:
        self._path = path
        self._session = open_session(path, threads=threads, providers=providers, repack=False)

    def check_shapes(self, features: Features) -> None:
        """Check that the graph has this artifact's shapes; raises ArtifactError."""
        grid = features.layer2.height, features.layer2.width
        check_shapes(self._path, self._session.get_inputs(), features.shapes)
        nearest = {"distances": grid, "rows": grid}
        check_shapes(self._path, self._session.get_outputs(), nearest)

    def nearest(
        self, layer2: NDArray[np.float32], layer3: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As NearestIndex: (B, h, w) twice, from differences; the first of equally near rows."""
        distances, rows = self._session.run(
            ["distances", "rows"], {"layer2": layer2, "layer3": layer3}
        )
        return distances, rows
