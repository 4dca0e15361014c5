"""Laws of `--memory-budget-gb`: what a fit holds in arrays stays within it, whatever it is for."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from patchcore_build.calibration import score_held_out
from patchcore_build.config import make_config
from patchcore_build.coreset import coreset_size, projection_size, random_projection, select_coreset
from patchcore_build.dataset import list_images
from patchcore_build.features import Storage, extract_features, make_bank
from patchcore_build.fit import _prepare
from patchcore_build.index_mindir import BLOCK_ROWS, Frame
from patchcore_build.training_inputs import load_inputs

PICTURES, SIDE, CHANNELS = 60, 256, 64
PATCHES = PICTURES * (SIDE // 8) ** 2
PASSING_BYTES = 30 * 2**20  # blocks of work: they do not grow with the pictures


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(PICTURES):
        photo = Image.fromarray(striped_photo(seed, size=(SIDE, SIDE)))
        photo.save(folder / f"{seed:03}.jpg", quality=95)
    return list_images(folder)


def network(images):
    """64 products of every patch's pixels with fixed numbers, and again of every other patch."""
    count, height, width, _ = images.shape
    patches = images.reshape(count, height // 8, 8, width // 8, 8, 3).swapaxes(2, 3)
    vectors = patches.reshape(count, height // 8, width // 8, -1).astype(np.float32)
    numbers = np.random.default_rng(0).standard_normal((192, CHANNELS), np.float32)
    layer2 = (vectors @ numbers).transpose(0, 3, 1, 2)
    return layer2, layer2[:, :, ::2, ::2] * np.float32(0.5)


def peak_of_a_fit(photos, folder, *, budget, ratio):
    """The most bytes of arrays at a time from pictures to held-out scores; and the bank's bytes."""
    config = make_config("full-frame", resize_px=SIDE, coreset_ratio=ratio, folds=2)
    storage = Storage(folder, budget_bytes=budget)
    tracemalloc.start()
    try:
        inputs = load_inputs(photos, config, storage)
        rows = coreset_size(PATCHES, ratio)
        store = extract_features(
            network, inputs.pixels, upsampling="bilinear", storage=storage, bank_rows=rows
        )
        matrix = random_projection(2 * CHANNELS, projection_size(PATCHES), seed=0)
        projected = storage.allocate((PATCHES, matrix.shape[1]))
        store.project(matrix, projected)
        cloud = _prepare(projected, storage, "cpu")
        bank = make_bank(store, select_coreset(cloud, rows, seed=0), 9)
        score_held_out(store, cloud, config, inputs.preprocessing, folder=folder)
        return tracemalloc.get_traced_memory()[1], bank.layer2.nbytes + bank.layer3.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("budget", [20 * 2**20, 8 * 2**20])
def test_all_arrays_of_a_fit_stay_within_the_budget(tmp_path, photos, budget):
    peak, _ = peak_of_a_fit(photos, tmp_path, budget=budget, ratio=0.01)
    assert peak < budget + PASSING_BYTES
    arrays = PATCHES * (192 + 4 * CHANNELS + CHANNELS + 4 * 2 * CHANNELS)
    assert arrays > budget + PASSING_BYTES  # so they cannot all have been in memory


def test_room_for_the_coreset_and_for_the_bank_is_set_aside_before_arrays_get_any(tmp_path, photos):
    config = make_config("full-frame", resize_px=SIDE)
    pixels = PATCHES * 192
    inputs = load_inputs(photos, config, Storage(tmp_path, budget_bytes=pixels + 100 * PATCHES - 1))
    assert isinstance(inputs.pixels, np.memmap)
    storage = Storage(tmp_path, budget_bytes=pixels + 100 * PATCHES)
    assert not isinstance(load_inputs(photos, config, storage).pixels, np.memmap)
    storage = Storage(tmp_path, budget_bytes=PATCHES * 5 * CHANNELS + 5 * 1000 * 8 * CHANNELS)
    store = extract_features(
        network, inputs.pixels, upsampling="bilinear", storage=storage, bank_rows=1001
    )
    assert isinstance(store.layer3, np.memmap)
    assert not isinstance(store.layer2, np.memmap)


def test_rounding_a_bank_takes_the_memory_of_its_halves_and_of_one_block():
    vectors = np.random.default_rng(0).standard_normal((6 * BLOCK_ROWS, 64), np.float32)
    frame = Frame(np.zeros(64), 1.0)
    tracemalloc.start()
    rows = frame.rows(vectors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows.nbytes + 12 * vectors[:BLOCK_ROWS].nbytes
    np.testing.assert_array_equal(rows[-5:], frame.rows(vectors[-5:]))
