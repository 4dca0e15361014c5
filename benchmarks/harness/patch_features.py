"""Projected patch features (P, D) for measurements of the coreset, real or synthetic.

images and weights below --shared -> a cache file of float32 features; or a seed -> features.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_GRID = 28  # patches along a side of layer2 for a 224 px image
_WEIGHTS = "resnet18-layers123.pth"


def real_features(shared: Path, cache: Path) -> NDArray[np.float32] | None:
    """Load features of bottle's 209 good images: resnet18, paper recipe, 163,856 x 296.

    Args:
        shared: Folder with data/mvtec/bottle and weights/.
        cache: .npy file that is read, or written where it is absent.

    Returns:
        The features, or None without images or weights.
    """
    if cache.is_file():
        features: NDArray[np.float32] = np.load(cache, allow_pickle=False)
        return features
    data, weights = shared / "data" / "mvtec", shared / "weights" / _WEIGHTS
    if not (data / "bottle").is_dir() or not weights.is_file():
        return None
    features = _extract(data, weights)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, features)
    return features


def _extract(data: Path, weights: Path) -> NDArray[np.float32]:
    """Compute the steps of `fit` before the coreset."""
    from patchcore_build.backbone.device import open_device
    from patchcore_build.backbone.network import mindspore_network
    from patchcore_build.backbone.parameters import make_network
    from patchcore_build.config import make_config
    from patchcore_build.coreset.select import projection_size, random_projection
    from patchcore_build.data.dataset import open_dataset
    from patchcore_build.data.training_inputs import load_inputs
    from patchcore_build.features.store import extract_features
    from patchcore_build.storage import Storage

    open_device()
    config = make_config("paper", backbone="resnet18")
    with tempfile.TemporaryDirectory() as scratch:
        storage = Storage(Path(scratch), budget_bytes=2**33)
        images = open_dataset(data).training_images("bottle")
        inputs = load_inputs(images, config, storage)
        make_cell, _ = make_network(config, str(weights), inputs)
        store = extract_features(
            mindspore_network(make_cell()),
            inputs.pixels,
            upsampling=config.upsampling,
            storage=storage,
        )
        count = store.images * store.patches_per_image
        channels = store.layers[0].shape[3] + store.layers[1].shape[3]
        matrix = random_projection(channels, projection_size(count), seed=config.seed)
        features = np.empty((count, matrix.shape[1]), np.float32)
        store.project(matrix, features)
    return features


def synthetic_features(rows: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Draw (P, D) features of aligned photographs: one common scene plus smooth variation.

    64 factors with a decaying spectrum, correlated over neighbouring patches, unequal in strength
    from patch to patch, and a little white noise: as redundant as projected ResNet features.
    """
    rng = np.random.default_rng(seed)
    images, factors = -(-rows // _GRID**2), 64
    fields = rng.standard_normal((images + 1, _GRID, _GRID, factors), dtype=np.float32)
    for axis in (1, 2):
        fields += np.roll(fields, 1, axis)
        fields += np.roll(fields, 2, axis)
    strength = rng.gamma(2.0, 0.25, (images, _GRID, _GRID, 1)).astype(np.float32)
    latent = (fields[:1] + strength * fields[1:]).reshape(-1, factors)[:rows]
    spectrum = np.arange(1, factors + 1)[:, None] ** -0.8
    loading = (rng.standard_normal((factors, dim)) * spectrum / dim**0.5).astype(np.float32)
    noise = rng.standard_normal((rows, dim), dtype=np.float32) * np.float32(0.3 / dim**0.5)
    return np.asarray(latent @ loading + noise, dtype=np.float32)
