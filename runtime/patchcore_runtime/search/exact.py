"""Nearest-neighbour search: layers of some images -> nearest distance and bank row.

`NearestIndex` is the interface of every kind of index. The exact one runs index.onnx, whose bank is
external data in memory_bank.bin. The upsampling U_i of a layer to the patch grid is linear, so
q·m = Σ U_i(q_i·m_i). Products with a coarse layer are computed on its own small grid and then
upsampled, which is exact (see exact_graph.py).
"""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank, bank_sections
from patchcore_runtime.engine.session import CPU, open_graph
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.exact_graph import index_bytes

Layers = Sequence[NDArray[np.float32]]  # one array (B, C, h/s, w/s) for each layer


class NearestIndex(Protocol):
    """A search over one bank; each kind has one module, this one or one named …_index.py."""

    def nearest(self, layers: Layers) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest row of every patch.

        Args:
            layers: (B, C, h/s, w/s) each, in the order of the manifest.

        Returns:
            Euclidean distances (B, h, w) and the nearest rows (B, h, w).
        """


class ExactIndex:
    """The search of one artifact, ready to run; safe to share between threads."""

    def __init__(
        self,
        path: Path,
        bank: MemoryBank,
        layout: Layout,
        *,
        threads: int | None = None,
        providers: Sequence[str] = (CPU,),
    ) -> None:
        """Load the search.

        Args:
            path: index.onnx beside its memory_bank.bin; it must have the bytes that this program
                writes for that bank, and these are what is loaded.
            bank: The bank.
            layout: Shapes of the layers.
            threads: Threads of one operator; `None` uses all available cores.
            providers: onnxruntime execution providers in order of preference.

        Raises:
            ArtifactError: the file is missing or another one.
            ProviderError: a provider is not available.
        """
        content = index_bytes(layout, bank_sections(bank))
        _expect_content(path, content)
        self._names = layout.names
        self._graph = open_graph(
            # The file has the same bytes. Other providers may need its path to find the rows.
            content if list(providers) == [CPU] else path,
            path,
            threads=threads,
            providers=providers,
            repack=False,
        )

    def nearest(self, layers: Layers) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As NearestIndex: (B, h, w) twice, from differences; the first of equally near rows."""
        distances, rows = self._graph.run(
            ["distances", "rows"], dict(zip(self._names, layers, strict=True))
        )
        return distances, rows


def _expect_content(path: Path, content: bytes) -> None:
    try:
        same = read_regular(path, limit=len(content), own=True) == content
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
        same = False
    if not same:
        raise ArtifactError(
            f"{path}: expected the search that follows from manifest.json and memory_bank.bin, got "
            "another; copy the folder again"
        )
