"""Laws of one to four layers: every search finds what brute force on whole vectors finds.

Layers of any strides are multiplied on their own grids, and their products are upsampled. That is
exact, so distances and rows equal those of vectors that were upsampled first.
"""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from graphs import layout_of
from hnsw_cases import needs_hnswlib
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.patches import one_patch, upsamplers, whole_patches
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank
from patchcore_runtime.search.pca_index import PcaIndex

# Channels, strides and grid of lists of layers.
LISTS = {
    "one": ((7,), (1,), (5, 6)),
    "two of a stride": ((4, 5), (1, 1), (5, 7)),
    "a coarse pair": ((3, 4, 5), (1, 2, 2), (6, 8)),
    "three": ((3, 4, 5), (1, 2, 4), (8, 12)),
    "four": ((2, 3, 4, 5), (1, 1, 3, 6), (6, 12)),
}


def draw(layout, count, seed):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, *of.shape)).astype(np.float32) for of in layout.layers]


def upsampled(layers, layout):
    """Compute whole vectors (B·P, D) in float64 by SciPy, layer by layer."""
    fine = []
    for layer, of in zip(layers, layout.layers, strict=True):
        wide = layer.astype(np.float64)
        if of.stride > 1 and layout.upsampling == "nearest":
            wide = wide.repeat(of.stride, axis=2).repeat(of.stride, axis=3)
        elif of.stride > 1:
            steps = (1, 1, of.stride, of.stride)
            wide = ndimage.zoom(wide, steps, order=1, mode="nearest", grid_mode=True)
        fine.append(wide)
    whole = np.concatenate(fine, axis=1)
    return whole.transpose(0, 2, 3, 1).reshape(-1, whole.shape[1])


def bank_of(rows, layout, precision):
    parts = np.split(rows, np.cumsum(layout.channels)[:-1], axis=1)
    layers = tuple(part.astype(precision) for part in parts)
    whole = np.concatenate(layers, axis=1).astype(np.float32)
    order = np.argsort(cdist(whole, whole), axis=1)[:, :3]
    return MemoryBank(
        layers=layers,
        norms=np.einsum("md,md->m", whole, whole),
        origins=np.zeros((len(whole), 3), np.int32),
        neighbours=order.astype(np.int32),
    )


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", LISTS)
def test_patches_are_the_layers_upsampled_and_joined(name, upsampling):
    channels, strides, grid = LISTS[name]
    layout = layout_of(channels, strides, grid, upsampling=upsampling)
    layers, ups = draw(layout, 2, 0), upsamplers(layout)
    expected = upsampled(layers, layout)
    np.testing.assert_allclose(whole_patches(layers, ups), expected, atol=1e-5)
    y, x = grid[0] - 1, grid[1] // 2
    patch = np.concatenate(one_patch([layer[1] for layer in layers], ups, y, x))
    np.testing.assert_allclose(patch, expected[np.prod(grid) + y * grid[1] + x], atol=1e-5)


@pytest.mark.parametrize("rows", [1, 150, 2500])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", LISTS)
def test_the_exact_search_finds_what_brute_force_finds(name, upsampling, precision, rows, tmp_path):
    channels, strides, grid = LISTS[name]
    layout = layout_of(channels, strides, grid, upsampling=upsampling)
    bank = bank_of(
        np.random.default_rng(1).standard_normal((rows, sum(channels))), layout, precision
    )
    index = ExactIndex(write_bank(tmp_path, bank, layout), bank, layout, threads=1)
    layers = draw(layout, 2, 2)
    distances, found = index.nearest(layers)
    assert distances.shape == found.shape == (2, *grid)
    table = cdist(upsampled(layers, layout), bank.whole_rows(slice(None)).astype(np.float64))
    np.testing.assert_allclose(distances.ravel(), table.min(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(found.ravel(), table.argmin(axis=1))


@pytest.mark.parametrize("name", LISTS)
def test_the_search_along_axes_finds_the_same(name, tmp_path):
    channels, strides, grid = LISTS[name]
    layout = layout_of(channels, strides, grid)
    bank = bank_of(
        np.random.default_rng(3).standard_normal((900, sum(channels))), layout, "float32"
    )
    exact = ExactIndex(write_bank(tmp_path, bank, layout), bank, layout, threads=1)
    layers = draw(layout, 2, 4)
    for mine, expected in zip(
        PcaIndex(bank, layout, exact, threads=1).nearest(layers), exact.nearest(layers), strict=True
    ):
        np.testing.assert_allclose(mine, expected, rtol=1e-5)


@needs_hnswlib
@pytest.mark.parametrize("name", LISTS)
def test_a_graph_over_whole_rows_serves_any_list(name, tmp_path):
    from patchcore_build.indexes.hnsw_build import write_hnsw
    from patchcore_runtime.search.hnsw_index import HnswIndex

    channels, strides, grid = LISTS[name]
    layout = layout_of(channels, strides, grid)
    bank = bank_of(
        np.random.default_rng(5).standard_normal((300, sum(channels))), layout, "float32"
    )
    path = tmp_path / "index.hnsw"
    write_hnsw(path, bank, links=16, ef_construction=200)
    layers = draw(layout, 1, 6)
    exact = ExactIndex(write_bank(tmp_path, bank, layout), bank, layout, threads=1)
    found = HnswIndex(path, bank, layout, effort=300, threads=1).nearest(layers)
    np.testing.assert_array_equal(found[1], exact.nearest(layers)[1])
    np.testing.assert_allclose(found[0], exact.nearest(layers)[0], rtol=1e-5)
