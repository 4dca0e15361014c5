"""Laws of the device's products: what MindSpore multiplies gives the host's rows."""

import numpy as np
import pytest

from patchcore_build.backbone.device import open_device
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.select import select_coreset


@pytest.fixture(scope="module")
def product():
    open_device()
    from patchcore_build.coreset.device_product import DeviceProduct

    return DeviceProduct()


def draw(rows, dim):
    features = np.random.default_rng(rows).standard_t(3, (rows, dim)).astype(np.float32)
    features[rows // 2 :] = np.round(features[rows // 2 :])  # ties and copies
    return features


@pytest.mark.parametrize(("rows", "picks", "dim"), [(1, 1, 1), (64, 64, 3), (65, 130, 40)])
def test_products_are_those_of_numpy_within_the_stated_error(product, rows, picks, dim):
    a, b = draw(rows + picks, dim)[:rows], draw(rows + picks, dim)[rows:]
    got = product.multiply(product.load(a), b)
    assert got.shape == (rows, picks)
    assert got.flags.writeable
    limit = 2 * product.unit * np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    assert (np.abs(got - a.astype(np.float64) @ b.T) <= limit).all()


@pytest.mark.parametrize("budget", [None, 0])
@pytest.mark.parametrize("shape", [(7, 2), (3000, 5), (6000, 30)])
def test_the_device_picks_the_rows_of_the_host(product, shape, budget):
    features = draw(*shape)
    count = min(300, len(features))
    cloud = PatchCloud.of(features, product=product, memory_budget_bytes=budget)
    expected = select_coreset(features, count, seed=0).tolist()
    assert select_coreset(cloud, count, seed=0).tolist() == expected
