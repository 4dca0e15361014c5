"""Laws of the feature store: nothing is lost by keeping the two layers on their own grids."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.distance import cdist

from patchcore_build.errors import OutputError
from patchcore_build.features.store import BATCH_IMAGES, FeatureStore, extract_features, make_bank
from patchcore_build.storage import Storage

N, H2, W2, C2, C3 = 3, 4, 6, 5, 7


def make_store(upsampling="bilinear", *, seed=0, images=N):
    rng = np.random.default_rng(seed)
    return FeatureStore(
        layers=(
            rng.standard_normal((images, H2, W2, C2)).astype(np.float32),
            rng.standard_normal((images, H2 // 2, W2 // 2, C3)).astype(np.float32),
        ),
        upsampling=upsampling,
    )


def materialise(store):
    """All patch vectors (N·P, C2 + C3) in float64, layer3 interpolated by SciPy."""
    order = 1 if store.upsampling == "bilinear" else 0
    y, x = np.mgrid[: store.layers[0].shape[1], : store.layers[0].shape[2]]
    # Half-pixel centres; a fine cell's centre lies a quarter of a coarse cell off.
    places = np.stack([(y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5])
    fine = np.empty((*store.layers[0].shape[:3], store.layers[1].shape[3]))
    for image in range(store.images):
        for channel in range(store.layers[1].shape[3]):
            coarse = store.layers[1][image, :, :, channel].astype(np.float64)
            fine[image, :, :, channel] = map_coordinates(
                coarse, places, order=order, mode="nearest"
            )
    whole = np.concatenate([store.layers[0], fine], axis=3)
    return whole.reshape(-1, whole.shape[3])


def small_network(images):
    """Strided picks of each image's own pixels, as a network would give them."""
    planes = images.transpose(0, 3, 1, 2).astype(np.float32)
    return planes[:, :, ::8, ::8], planes[:, :2, ::16, ::16] + 0.5


def draw_images(count):
    return np.random.default_rng(1).integers(0, 256, (count, 32, 64, 3), np.uint8)


def extract(images, folder, *, budget_bytes=2**20):
    storage = Storage(folder, budget_bytes=budget_bytes)
    return extract_features(small_network, images, upsampling="bilinear", storage=storage)


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_projecting_equals_upsampling_concatenating_and_multiplying(upsampling):
    store = make_store(upsampling)
    matrix = np.random.default_rng(1).standard_normal((C2 + C3, 4)).astype(np.float32)
    target = np.full((N * H2 * W2, 4), np.nan, np.float32)
    store.project(matrix, target)
    np.testing.assert_allclose(target, materialise(store) @ matrix, atol=2e-5)


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_taking_rows_equals_picking_from_the_materialised_patches(upsampling):
    store = make_store(upsampling)
    rows = np.random.default_rng(2).permutation(N * H2 * W2)[:40]
    rows = np.concatenate([rows, rows[:3]])  # any order, repeats allowed
    layer2, layer3 = store.take(rows)
    wanted = materialise(store)[rows]
    np.testing.assert_array_equal(layer2, wanted[:, :C2])
    np.testing.assert_allclose(layer3, wanted[:, C2:], atol=1e-6)


def test_origins_name_image_row_and_column():
    store = make_store()
    rows = np.arange(N * H2 * W2)
    expected = np.stack(np.unravel_index(rows, (N, H2, W2)), axis=1)
    np.testing.assert_array_equal(store.origins(rows), expected)
    for row in (0, 17, 71):
        image, y, x = store.origins(np.array([row]))[0]
        np.testing.assert_array_equal(
            store.take(np.array([row]))[0][0], store.layers[0][image, y, x]
        )


def test_the_network_output_comes_back_as_it_went_in(tmp_path):
    images = draw_images(BATCH_IMAGES + 3)
    store = extract(images, tmp_path)
    for number in (0, BATCH_IMAGES - 1, BATCH_IMAGES, BATCH_IMAGES + 2):
        expected = small_network(images[number : number + 1])
        for got, wanted in zip(store.as_network_output(number), expected, strict=True):
            assert got.flags.c_contiguous
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    "count", [1, BATCH_IMAGES - 1, BATCH_IMAGES, BATCH_IMAGES + 1, 2 * BATCH_IMAGES + 5]
)
def test_every_image_is_extracted_once_whatever_the_last_batch_holds(tmp_path, count):
    seen, told = [], []

    def network(images):
        seen.append(len(images))
        return small_network(images)

    images = draw_images(count)
    store = extract_features(
        network,
        images,
        upsampling="nearest",
        storage=Storage(tmp_path, budget_bytes=2**20),
        progress=lambda done, total: told.append((done, total)),
    )
    assert store.images == count
    assert sum(seen) == count
    assert max(seen) <= BATCH_IMAGES
    assert told[-1] == (count, count)
    np.testing.assert_array_equal(
        store.layers[0], np.moveaxis(images, 3, 1)[:, :, ::8, ::8].transpose(0, 2, 3, 1)
    )


def test_arrays_beyond_the_budget_go_to_files_and_hold_the_same(tmp_path):
    images = draw_images(BATCH_IMAGES + 1)
    in_memory = extract(images, tmp_path)
    assert list(tmp_path.iterdir()) == []
    on_disk = extract(images, tmp_path, budget_bytes=0)
    assert isinstance(on_disk.layers[0], np.memmap)
    assert isinstance(on_disk.layers[1], np.memmap)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(in_memory.layers[0], on_disk.layers[0])
    np.testing.assert_array_equal(in_memory.layers[1], on_disk.layers[1])


def test_the_budget_is_spent_array_by_array_to_its_last_byte(tmp_path):
    storage = Storage(tmp_path, budget_bytes=100)
    kinds = [isinstance(storage.allocate((size,), np.uint8), np.memmap) for size in (60, 41, 40, 1)]
    assert kinds == [False, True, False, True]


def test_a_disk_without_room_is_one_line_and_not_a_killed_process(tmp_path):
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from patchcore_build.errors import OutputError\n"
        "from patchcore_build.features.store import Storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "storage = Storage(Path(sys.argv[1]), budget_bytes=0)\n"
        "try:\n"
        "    storage.allocate((1 << 20,))[:] = 1\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}: no room for 4194304 bytes" in done.stdout
    assert "TMPDIR" in done.stdout
    assert OutputError.__name__ not in done.stderr


@pytest.mark.parametrize("rows", [7, 600])  # one block, and more than one
def test_the_table_of_neighbours_equals_brute_force(rows):
    store = make_store(images=rows * 2 // (H2 * W2) + 1)
    chosen = np.random.default_rng(3).permutation(store.images * H2 * W2)[:rows]
    bank = make_bank(store, chosen, 5)
    whole = np.concatenate([bank.layers[0], bank.layers[1]], axis=1).astype(np.float64)
    distances = cdist(whole, whole)
    np.testing.assert_array_equal(
        bank.neighbours, np.argsort(distances, axis=1, kind="stable")[:, :5]
    )
    np.testing.assert_allclose(bank.norms, (whole**2).sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(bank.origins, store.origins(chosen))


def test_the_norms_of_a_bank_in_half_precision_are_those_of_its_rounded_rows():
    store = make_store(images=8)
    rows = np.arange(8 * H2 * W2)
    half, single = make_bank(store, rows, 3, precision="float16"), make_bank(store, rows, 3)
    assert half.layers[0].dtype == half.layers[1].dtype == np.float16
    stored = np.concatenate([half.layers[0], half.layers[1]], axis=1).astype(np.float64)
    np.testing.assert_allclose(half.norms, (stored**2).sum(axis=1), rtol=1e-6)
    assert np.abs(half.norms / single.norms - 1).max() > 1e-5  # rounding is seen


def test_each_row_is_its_own_first_neighbour_even_among_duplicates():
    flat = FeatureStore(
        layers=(
            np.full((2, H2, W2, C2), 0.3, np.float32),
            np.full((2, H2 // 2, W2 // 2, C3), 0.7, np.float32),
        ),
        upsampling="bilinear",
    )
    bank = make_bank(flat, np.arange(2 * H2 * W2), 4)
    np.testing.assert_array_equal(bank.neighbours[:, 0], np.arange(bank.rows))
    for row in bank.neighbours:
        assert len(set(row.tolist())) == 4


def test_neighbours_at_the_same_distance_come_in_the_order_of_their_numbers():
    # Small whole numbers: products are exact, so ties are ties.
    store = FeatureStore(
        layers=(np.zeros((1, 2, 16, 1), np.float32), np.zeros((1, 1, 8, 1), np.float32)),
        upsampling="nearest",
    )  # fmt: skip
    store.layers[0][0, :, :, 0] = np.random.default_rng(4).integers(0, 3, (2, 16))
    bank = make_bank(store, np.arange(32), 6)
    gaps = np.abs(bank.layers[0] - bank.layers[0].T)
    np.fill_diagonal(gaps, -1)
    np.testing.assert_array_equal(bank.neighbours, np.argsort(gaps, axis=1, kind="stable")[:, :6])


@pytest.mark.parametrize(("asked", "rows"), [(9, 1), (9, 3), (3, 3), (2, 3)])
def test_more_neighbours_than_rows_are_clipped(asked, rows):
    bank = make_bank(make_store(), np.arange(rows), asked)
    assert bank.neighbours.shape == (rows, min(asked, rows))
