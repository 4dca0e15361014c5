"""Small stores of patch features, and the search graphs of banks made of them."""

import numpy as np

from patchcore_build.features.store import FeatureStore, make_bank
from patchcore_runtime.manifest.features import Features, Layer
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank

H2, W2, C2, C3 = 6, 10, 6, 9
BOTH = ("bilinear", "nearest")


def layout_of(channels, strides, grid, *, upsampling="bilinear", patch_px=8):
    """Return the layout of layers: layer2 and layer3 if they are two, else `output0` and on."""
    names = ("layer2", "layer3") if len(channels) == 2 else [f"output{i}" for i in range(9)]
    return Features(
        backbone="test",
        precision="float32",
        mindir="float32",
        patch_px=patch_px,
        layers=tuple(
            Layer(name=name, channels=of, stride=stride)
            for name, of, stride in zip(names, channels, strides, strict=False)
        ),
        upsampling=upsampling,
    ).layout(patch_px * grid[0], patch_px * grid[1])


def describe(upsampling):
    return layout_of((C2, C3), (1, 2), (H2, W2), upsampling=upsampling)


def make_store(upsampling, *, images, seed=0, whole_numbers=False):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        values = rng.integers(-4, 5, shape) if whole_numbers else rng.standard_normal(shape)
        return values.astype(np.float32)

    return FeatureStore(
        layers=(draw(images, H2, W2, C2), draw(images, H2 // 2, W2 // 2, C3)),
        upsampling=upsampling,
    )


def every_row(store):
    return np.arange(store.images * store.patches_per_image)


def build(folder, store, rows, precision="float32"):
    """Write the bank of some rows of a store, and load its index."""
    folder.mkdir(exist_ok=True)
    bank = make_bank(store, rows, 3, precision=precision)
    layout = describe(store.upsampling)
    return bank, ExactIndex(write_bank(folder, bank, layout), bank, layout, threads=1)


def batch_of(store):
    layers = [store.as_network_output(image) for image in range(store.images)]
    return tuple(np.concatenate(layer) for layer in zip(*layers, strict=True))


def whole(layers):
    return np.concatenate(layers, axis=1).astype(np.float64)
