"""The graphs of an artifact, each held against what it stands for before it ships.

cell -> features.onnx, features.mindir; memory bank -> index.mindir; and how far they are off.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from patchcore_build.backbone.network import mindspore_network
from patchcore_build.config import Config
from patchcore_build.data.training_inputs import Inputs
from patchcore_build.features.store import FeatureStore
from patchcore_runtime.artifact.folder import FEATURES_MINDIR, FEATURES_ONNX, INDEX_MINDIR
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.search.exact import ExactIndex

CellMaker = Callable[[], Any]  # a fresh, ready cell each time: an export wants one of its own

EXPORT_TOLERANCE = 1e-4  # relative, of features.onnx and features.mindir against MindSpore


def export_features(
    make_cell: CellMaker, staging: Path, inputs: Inputs, config: Config
) -> dict[str, float]:
    """Write the graphs and compare each with MindSpore on two of the images.

    What becomes int8 is only written as ONNX: features.mindir would be another network.

    Args:
        make_cell: Makes the network.
        staging: Where the graphs go.
        inputs: The training images.
        config: Their settings.

    Returns:
        The largest relative difference of each file.

    Raises:
        ExportError: it is above `EXPORT_TOLERANCE`.
    """
    from patchcore_build.export.graphs import (
        compare_mindir,
        compare_onnx,
        export_mindir,
        export_onnx,
    )

    height, width = inputs.grid.tile_px
    pixels = np.ascontiguousarray(inputs.pixels[:2])
    expected = mindspore_network(make_cell())(pixels)
    onnx_path, mindir_path = staging / FEATURES_ONNX, staging / FEATURES_MINDIR
    float32 = config.feature_precision == "float32"
    export_onnx(make_cell, onnx_path, height=height, width=width)
    gap = compare_onnx(onnx_path, pixels, expected, tolerance=EXPORT_TOLERANCE)
    if not float32:
        return {FEATURES_ONNX: gap}
    export_mindir(make_cell, mindir_path, height=height, width=width)
    return {
        FEATURES_ONNX: gap,
        FEATURES_MINDIR: compare_mindir(mindir_path, pixels, expected, tolerance=EXPORT_TOLERANCE),
    }


def export_shortlist(staging: Path, bank: MemoryBank, index_path: Path, store: FeatureStore) -> int:
    """Write index.mindir and hold it against the exact search on two of the images.

    Args:
        staging: Where it goes.
        bank: What it searches.
        index_path: The exact search.
        store: Features of the images.

    Returns:
        S, the rows it gives for each patch; 0 where none was written.

    Raises:
        ExportError: a patch's nearest row is not among them.
    """
    from patchcore_build.export.index_mindir import check_shortlist, write_shortlist

    path = staging / INDEX_MINDIR
    candidates = write_shortlist(path, bank)
    if candidates:
        images = [store.as_network_output(image) for image in range(min(2, store.images))]
        layer2, layer3 = (np.concatenate(layers) for layers in zip(*images, strict=True))
        index = ExactIndex(index_path, threads=1)
        check_shortlist(path, bank, index, (layer2, layer3), store.upsampling)
    return candidates
