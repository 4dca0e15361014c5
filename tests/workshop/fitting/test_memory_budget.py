"""Laws of `--memory-budget-gb`: what a fit holds in arrays stays within it, whatever it is for."""

import importlib
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from patchcore_build.config import make_config
from patchcore_build.data.dataset import list_images
from patchcore_build.data.training_inputs import load_inputs
from patchcore_build.export.index_mindir import BLOCK_ROWS, Frame
from patchcore_build.features.store import extract_features
from patchcore_build.fitting.learner import Learner
from patchcore_build.progress import Stopwatch
from patchcore_build.storage import Storage

IMAGES, SIDE, CHANNELS = 60, 256, 64
PATCHES = IMAGES * (SIDE // 8) ** 2
PASSING_BYTES = 16 * 2**20  # blocks of work: they do not grow with the images


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(IMAGES):
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


def make_learner(folder, *, ratio, budget):
    settings = {"resize_px": SIDE, "coreset_ratio": ratio, "folds": 2, "target_fpr": 0.1}
    return Learner(
        config=make_config("full-frame", **settings),
        device="cpu",
        groups=None,
        checkpoints=None,
        storage=Storage(folder, budget_bytes=budget),
        clock=Stopwatch(),
    )


def peak_of_a_fit(photos, folder, *, budget):
    """The most bytes of arrays at a time, from images to held-out scores."""
    learner = make_learner(folder, ratio=0.005, budget=budget)
    importlib.import_module("scipy.stats")  # else thresholds would, whose arrays it is not
    tracemalloc.start()
    try:
        inputs = load_inputs(photos, learner.config, learner.storage)
        images = learner.prepare(learner.features(network, inputs), inputs)
        learner.bank(images, learner.choose(images, "bank"))
        learner.calibrate(images)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("ratio", "copied"), [(0.049, False), (0.05, True)])
def test_patches_are_copied_in_cluster_order_only_for_many_rows(tmp_path, photos, ratio, copied):
    learner = make_learner(tmp_path, ratio=ratio, budget=2**30)
    inputs = load_inputs(photos, learner.config, learner.storage)
    images = learner.prepare(learner.features(network, inputs), inputs)
    assert bool(images.cloud.loaded) == copied


def test_all_arrays_of_a_fit_stay_within_the_budget(tmp_path, photos):
    budget = 20 * 2**20
    assert peak_of_a_fit(photos, tmp_path, budget=budget) < budget + PASSING_BYTES
    arrays = PATCHES * (192 + 4 * CHANNELS + CHANNELS + 4 * 2 * CHANNELS)
    assert arrays > budget + PASSING_BYTES  # so they cannot all have been in memory


@pytest.mark.parametrize("missing", [0, 1])
def test_room_for_the_coreset_is_set_aside_before_the_inputs_get_any(tmp_path, photos, missing):
    config = make_config("full-frame", resize_px=SIDE)
    storage = Storage(tmp_path, budget_bytes=PATCHES * (192 + 100) - missing)
    assert isinstance(load_inputs(photos, config, storage).pixels, np.memmap) == bool(missing)


@pytest.mark.parametrize("missing", [0, 1])
def test_room_for_the_bank_is_set_aside_before_the_features_get_any(tmp_path, missing):
    inputs = np.zeros((IMAGES, SIDE, SIDE, 3), np.uint8)
    banks = 5 * 1000 * 4 * 2 * CHANNELS
    storage = Storage(tmp_path, budget_bytes=banks + PATCHES * (4 + 1) * CHANNELS - missing)
    store = extract_features(
        network, inputs, upsampling="bilinear", storage=storage, bank_rows=1000
    )
    assert not isinstance(store.layers[0], np.memmap)
    assert isinstance(store.layers[1], np.memmap) == bool(missing)


def test_rounding_a_bank_takes_the_memory_of_its_halves_and_of_one_block():
    vectors = np.random.default_rng(0).standard_normal((6 * BLOCK_ROWS, 64), np.float32)
    frame = Frame(np.zeros(64), 1.0)
    tracemalloc.start()
    rows = frame.rows(vectors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows.nbytes + 12 * vectors[:BLOCK_ROWS].nbytes
    np.testing.assert_array_equal(rows[-5:], frame.rows(vectors[-5:]))
