"""Small stores of patch features, and the search graphs of banks made of them."""

import numpy as np

from patchcore_build.features.store import FeatureStore, make_bank
from patchcore_runtime.manifest.manifest import Features, LayerShape
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank

H2, W2, C2, C3 = 6, 10, 6, 9
BOTH = ("bilinear", "nearest")


def describe(upsampling):
    return Features(
        backbone="test",
        precision="float32",
        layer2=LayerShape(channels=C2, height=H2, width=W2),
        layer3=LayerShape(channels=C3, height=H2 // 2, width=W2 // 2),
        layer3_upsampling=upsampling,
    )


def make_store(upsampling, *, images, seed=0, whole_numbers=False):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        values = rng.integers(-4, 5, shape) if whole_numbers else rng.standard_normal(shape)
        return values.astype(np.float32)

    return FeatureStore(
        layer2=draw(images, H2, W2, C2),
        layer3=draw(images, H2 // 2, W2 // 2, C3),
        upsampling=upsampling,
    )


def every_row(store):
    return np.arange(store.images * store.patches_per_image)


def build(folder, store, rows, precision="float32"):
    """Write the bank of some rows of a store, and load its index."""
    folder.mkdir(exist_ok=True)
    bank = make_bank(store, rows, 3, precision=precision)
    features = describe(store.upsampling)
    return bank, ExactIndex(write_bank(folder, bank, features), bank, features, threads=1)


def batch_of(store):
    layers = [store.as_network_output(image) for image in range(store.images)]
    return tuple(np.concatenate(layer) for layer in zip(*layers, strict=True))


def whole(layers):
    return np.concatenate(layers, axis=1).astype(np.float64)
