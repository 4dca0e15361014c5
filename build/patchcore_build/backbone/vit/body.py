"""The transformer of a config, with the official parameters brought to the size of its inputs."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.vit.cell import VisionTransformer
from patchcore_build.backbone.vit.prepare import Parameters, prepare_parameters
from patchcore_build.config import Config
from patchcore_build.feature_layers import block_numbers
from patchcore_build.vision_transformers import VITS


def make_transformer(
    config: Config, weights: Mapping[str, NDArray[np.float32]], *, height: int, width: int
) -> tuple[VisionTransformer, Parameters]:
    """Make the cell of a config, and its parameters.

    Args:
        config: Backbone and layers.
        weights: Arrays by the official names.
        height: H in pixels, a multiple of the patch.
        width: W.

    Returns:
        The cell, and arrays by the names of its parameters, which it does not have yet.
    """
    shape = VITS[config.backbone]
    blocks = block_numbers(config.layers)
    cell = VisionTransformer(
        shape, height=height, width=width, blocks=blocks, mean=config.mean_blocks
    )
    return cell, prepare_parameters(weights, shape, blocks=max(blocks), grid=cell.grid)
