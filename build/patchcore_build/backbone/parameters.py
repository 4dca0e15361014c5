"""The network of a config, with parameters from a file, a download, a seed, or the images.

config + source of weights -> a function that makes cells, and the source for the provenance.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.extractor import expected_shapes, make_extractor, random_weights
from patchcore_build.backbone.foreground import MOST_IMAGES, Foreground, estimate_foreground
from patchcore_build.backbone.network import Network, mindspore_network
from patchcore_build.backbone.whitening import estimate_whitening
from patchcore_build.config import Config
from patchcore_build.data.training_inputs import Inputs
from patchcore_build.progress import Progress, silent
from patchcore_build.weights.download import fetch_weights, user_cache_dir
from patchcore_build.weights.match import match_weights
from patchcore_build.weights.read import check_source, promised_digest, read_weights

Parameters = dict[str, NDArray[np.float32]]
Loaded = tuple[Parameters, dict[str, str]]  # parameters, and their source for the provenance


def make_network(
    config: Config, weights: str | Loaded | None, inputs: Inputs, *, progress: Progress = silent
) -> tuple[Callable[[], Any], dict[str, str]]:
    """Load or estimate the parameters of a network, and the foreground if the config masks it.

    Args:
        config: Backbone, layers, precision, foreground and seed.
        weights: What `load_parameters` takes or returns; the scattering network is estimated from
            `inputs`.
        inputs: The preprocessed training images.
        progress: Called with the number of bytes downloaded, or of views that are whitened.

    Returns:
        A function that makes a new cell with these parameters at each call, and their source.

    Raises:
        WeightsError: no source is given, or the file does not hold this network.
        DatasetError: the images show no part before a background, if the config masks it.
    """
    height, width = inputs.grid.tile_px
    make = partial(make_extractor, config, height=height, width=width)
    if config.backbone == "scattering":
        plain = mindspore_network(make(weights={}))
        found = whitening_parameters(plain, inputs.pixels, seed=config.seed, progress=progress)
        source = {"name": "estimated from the training images"}
    elif isinstance(weights, tuple):
        found, source = weights
    else:
        found, source = load_parameters(config, weights, progress=progress)
    make = partial(make, weights=found)
    if config.foreground == "pca":
        make = partial(make, foreground=_foreground_of(mindspore_network(make()), inputs.pixels))
    return make, source


def _foreground_of(network: Network, images: NDArray[np.uint8]) -> Foreground:
    """Estimate the foreground from evenly spread images, one at a time."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().astype(int)
    found = [np.concatenate(network(images[at : at + 1]), axis=1) for at in chosen]
    return estimate_foreground(np.concatenate(found))


def load_parameters(
    config: Config, weights: str | None, *, progress: Progress = silent
) -> tuple[Parameters, dict[str, str]]:
    """Load the parameters of a ResNet.

    Args:
        config: Backbone, layers, and the seed of `random`.
        weights: A file, `auto` (torchvision's, downloaded once) or `random`.
        progress: Called with the number of bytes downloaded.

    Returns:
        The parameters by MindSpore name, and their source.

    Raises:
        WeightsError: no source is given, or the file does not hold this network.
    """
    check_source(config.backbone, weights)
    if weights == "random":
        drawn = random_weights(config.backbone, config.layers, seed=config.seed)
        return drawn, {"name": f"random, seed {config.seed}"}
    if weights == "auto":
        path = fetch_weights(config.backbone, cache=user_cache_dir(), progress=progress)
    else:
        path = Path(str(weights))
    expected = expected_shapes(config.backbone, config.layers)
    found = match_weights(read_weights(path), expected, source=str(path))
    return found, {"name": path.name, "sha256": promised_digest(path)}


def whitening_parameters(
    network: Network, inputs: NDArray[np.uint8], *, seed: int, progress: Progress = silent
) -> Parameters:
    """Estimate the scattering network's two whitening layers from the training images."""
    whiten2, whiten3 = estimate_whitening(network, inputs, seed=seed, progress=progress)
    return {
        "whiten2.weight": whiten2[:, :, None, None],
        "whiten3.weight": whiten3[:, :, None, None],
    }
