"""Where a network's parameters come from: a file, a download, a seed, or the pictures.

backbone + source -> MindSpore parameter name -> array, and a line for the provenance.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone import expected_shapes, random_weights
from patchcore_build.download import fetch_weights, user_cache_dir
from patchcore_build.errors import WeightsError
from patchcore_build.features import Network
from patchcore_build.progress import Progress, silent
from patchcore_build.weights import digest, match_weights, read_weights
from patchcore_build.whitening import estimate_whitening

Parameters = dict[str, NDArray[np.float32]]


def load_parameters(
    backbone: str, weights: str | None, *, seed: int, progress: Progress = silent
) -> tuple[Parameters, dict[str, str]]:
    """Parameters of a ResNet.

    Args:
        backbone: Its name.
        weights: A file, `auto` (torchvision's, downloaded once) or `random`.
        seed: Of `random`.
        progress: Told how many bytes are downloaded.

    Raises:
        WeightsError: no source named, or a file that does not hold this network.
    """
    if weights is None:
        raise WeightsError(
            f"--backbone {backbone}: expected --weights FILE (.pth, .safetensors, .ckpt) or "
            "--weights auto to download torchvision's; --backbone scattering needs none"
        )
    if weights == "random":
        return random_weights(backbone, seed=seed), {"name": f"random, seed {seed}"}
    if weights == "auto":
        path = fetch_weights(backbone, cache=user_cache_dir(), progress=progress)
    else:
        path = Path(weights)
    found = match_weights(read_weights(path), expected_shapes(backbone), source=str(path))
    return found, {"name": path.name, "sha256": digest(path)}


def whitening_parameters(network: Network, inputs: NDArray[np.uint8], *, seed: int) -> Parameters:
    """The scattering network's two whitening layers, estimated from the training pictures."""
    whiten2, whiten3 = estimate_whitening(network, inputs, seed=seed)
    return {
        "whiten2.weight": whiten2[:, :, None, None],
        "whiten3.weight": whiten3[:, :, None, None],
    }
