"""Export the graphs of an artifact, and compare each with its original before it ships.

cell -> features.onnx, features.mindir; memory bank -> index.mindir; and their differences.
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
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.exact import NearestIndex

CellMaker = Callable[[], Any]  # makes a new cell each time, because MindSpore exports a cell once

EXPORT_TOLERANCE = 1e-4  # relative, of features.onnx and features.mindir against MindSpore


def export_features(
    make_cell: CellMaker, staging: Path, inputs: Inputs, config: Config
) -> dict[str, float]:
    """Write the graphs and compare each with MindSpore on two of the images.

    A network that will be quantized is only written as ONNX, because features.mindir would stay
    float32 and give other features.

    Args:
        make_cell: Makes the network.
        staging: Folder for the graphs.
        inputs: The training images.
        config: The settings.

    Returns:
        The largest relative difference of each file.

    Raises:
        ExportError: a difference is above `EXPORT_TOLERANCE`.
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
    export_onnx(make_cell, onnx_path, height=height, width=width, layers=config.plan.names)
    gap = compare_onnx(onnx_path, pixels, expected, tolerance=EXPORT_TOLERANCE)
    if not float32:
        return {FEATURES_ONNX: gap}
    export_mindir(make_cell, mindir_path, height=height, width=width)
    return {
        FEATURES_ONNX: gap,
        FEATURES_MINDIR: compare_mindir(mindir_path, pixels, expected, tolerance=EXPORT_TOLERANCE),
    }


def export_shortlist(
    staging: Path, bank: MemoryBank, index: NearestIndex, store: FeatureStore, layout: Layout
) -> int:
    """Write index.mindir and compare it with the exact search on two of the images.

    Args:
        staging: Folder for the file.
        bank: The memory bank.
        index: The exact search of that bank.
        store: Features of the images.
        layout: Shapes of their layers.

    Returns:
        S, the number of rows that index.mindir lists for each patch; 0 if it was not written.

    Raises:
        ExportError: the nearest row of a patch is not in its list.
    """
    from patchcore_build.export.index_mindir import check_shortlist, write_shortlist

    path = staging / INDEX_MINDIR
    candidates = write_shortlist(path, bank)
    if candidates:
        images = [store.as_network_output(image) for image in range(min(2, store.images))]
        layers = [np.concatenate(layer) for layer in zip(*images, strict=True)]
        check_shortlist(path, bank, index, layers, layout)
    return candidates
