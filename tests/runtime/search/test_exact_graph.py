"""Laws of index.onnx: exact search, whatever the batch, the blocks and the upsampling."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.spatial.distance import cdist

from graphs import (
    BOTH,
    C2,
    C3,
    H2,
    W2,
    batch_of,
    build,
    describe,
    every_row,
    layout_of,
    make_store,
    whole,
)
from patchcore_build.features.store import FeatureStore
from patchcore_runtime.artifact.folder import INDEX_ONNX, MEMORY_BANK
from patchcore_runtime.bank.memory_bank import BankShape, MemoryBank, sections
from patchcore_runtime.search.exact_graph import BLOCK_ROWS, write_bank, write_index


@pytest.mark.parametrize("rows", [1, 64, 500, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS + 700])
@pytest.mark.parametrize("upsampling", BOTH)
def test_distances_and_rows_equal_brute_force(tmp_path, upsampling, rows):
    good = make_store(upsampling, images=90)
    chosen = np.random.default_rng(1).permutation(90 * H2 * W2)[:rows]
    bank, index = build(tmp_path, good, chosen)
    test = make_store(upsampling, images=2, seed=2)
    distances, found = index.nearest(batch_of(test))
    table = cdist(whole(test.take(every_row(test))), whole((bank.layers[0], bank.layers[1])))
    np.testing.assert_allclose(distances.ravel(), table.min(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.ravel(), table.argmin(axis=1))


@pytest.mark.parametrize("upsampling", BOTH)
def test_a_batch_has_the_same_results_as_single_images(tmp_path, upsampling):
    _, index = build(tmp_path, make_store(upsampling, images=40), np.arange(2300))
    layer2, layer3 = batch_of(make_store(upsampling, images=5, seed=1))
    distances, rows = index.nearest((layer2, layer3))
    assert distances.shape == rows.shape == (5, H2, W2)
    for image in range(5):
        one = index.nearest((layer2[image : image + 1], layer3[image : image + 1]))
        np.testing.assert_array_equal(distances[image], one[0][0])
        np.testing.assert_array_equal(rows[image], one[1][0])


@pytest.mark.parametrize("upsampling", BOTH)
def test_a_patch_that_is_in_the_bank_is_at_distance_exactly_zero(tmp_path, upsampling):
    # Quarters of small whole numbers are exact in float32, so equal patches are equal.
    store = make_store(upsampling, images=3, whole_numbers=True)
    _, index = build(tmp_path, store, every_row(store))
    distances, _ = index.nearest(batch_of(store))
    assert distances.max() == 0.0


@pytest.mark.parametrize("upsampling", BOTH)
def test_near_a_row_of_the_bank_the_distance_does_not_cancel(tmp_path, upsampling):
    """Far from the origin, |q|^2 - 2qm + |m|^2 would lose every digit of a small distance."""
    store = make_store(upsampling, images=2)
    far = FeatureStore(
        layers=(store.layers[0] + 300, store.layers[1] + 300), upsampling=store.upsampling
    )
    _, index = build(tmp_path, far, every_row(far))
    layer2, layer3 = batch_of(far)
    distances, _ = index.nearest((layer2 + np.float32(0.01), layer3))
    np.testing.assert_allclose(distances, 0.01 * np.sqrt(C2), rtol=0.05)


@pytest.mark.parametrize("gap", [1, 7, 64, BLOCK_ROWS, BLOCK_ROWS + 3])
def test_the_first_of_equal_rows_wins_within_and_across_blocks(tmp_path, gap):
    store = make_store("nearest", images=1, whole_numbers=True)
    # The image's 60 patches, then far rows, then the same 60 patches again.
    far = FeatureStore(
        layers=(
            np.concatenate([store.layers[0], store.layers[0] + 500]),
            np.concatenate([store.layers[1], store.layers[1] + 500]),
        ),
        upsampling="nearest",
    )
    own = np.arange(H2 * W2)
    bank, index = build(tmp_path, far, np.concatenate([own, np.full(gap, H2 * W2), own]))
    _, rows = index.nearest(batch_of(store))
    table = cdist(whole(store.take(own)), whole((bank.layers[0], bank.layers[1])))
    np.testing.assert_array_equal(rows.ravel(), table.argmin(axis=1))
    assert rows.max() < H2 * W2


@pytest.mark.parametrize("upsampling", BOTH)
def test_the_graph_passes_the_full_check_of_onnx(tmp_path, upsampling):
    store = make_store(upsampling, images=40)
    build(tmp_path, store, every_row(store))
    onnx.checker.check_model(tmp_path / INDEX_ONNX, full_check=True)


@pytest.mark.parametrize("upsampling", BOTH)
def test_a_bank_of_float16_is_searched_as_the_float32_bank_of_its_rounded_rows(
    tmp_path, upsampling
):
    store = make_store(upsampling, images=45)
    count = len(every_row(store))
    assert count > BLOCK_ROWS
    bank, index = build(tmp_path / "half", store, every_row(store), "float16")
    rounded = whole((bank.layers[0], bank.layers[1]))
    assert np.array_equal(rounded, whole(store.take(every_row(store))).astype(np.float16))
    queries = make_store(upsampling, images=2, seed=1)
    distances, rows = index.nearest(batch_of(queries))
    table = cdist(whole(queries.take(every_row(queries))), rounded)
    np.testing.assert_array_equal(rows.ravel(), table.argmin(axis=1))
    np.testing.assert_allclose(distances.ravel(), table.min(axis=1), rtol=1e-5)
    full = build(tmp_path / "full", store, every_row(store))[0]
    sizes = [(tmp_path / name / MEMORY_BANK).stat().st_size for name in ("half", "full")]
    tables = bank.norms.nbytes + bank.origins.nbytes + bank.neighbours.nbytes
    assert sizes[0] - tables == pytest.approx((sizes[1] - tables) / 2, abs=500)
    assert not np.array_equal(bank.norms, full.norms)


def external_places(model):
    """Return location, offset and length, as strings, of each tensor in the bank's file."""
    return [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.external_data
    ]


def test_the_graph_contains_no_byte_of_the_bank(tmp_path):
    store = make_store("bilinear", images=100)
    bank, _ = build(tmp_path, store, every_row(store))
    graph = (tmp_path / INDEX_ONNX).read_bytes()
    assert len(graph) < 16_384 < bank.layers[0].nbytes
    assert bank.layers[0][0].tobytes() not in graph
    model = onnx.load(tmp_path / INDEX_ONNX, load_external_data=False)
    places = external_places(model)
    size = (tmp_path / MEMORY_BANK).stat().st_size
    assert {place["location"] for place in places} == {MEMORY_BANK}
    assert all(int(place["offset"]) + int(place["length"]) <= size for place in places)


def test_no_byte_of_the_bank_is_mapped_twice(tmp_path):
    rows = 2 * BLOCK_ROWS + 700
    write_index(
        tmp_path / INDEX_ONNX,
        describe("bilinear"),
        sections(BankShape(rows, 2, (C2, C3), "float32")),
    )
    places = external_places(onnx.load(tmp_path / INDEX_ONNX, load_external_data=False))
    ranges = sorted((int(place["offset"]), int(place["length"])) for place in places)
    assert sum(length for _, length in ranges) == 4 * rows * (C2 + C3 + 1)
    assert all(start + length <= after for (start, length), (after, _) in pairwise(ranges))


def test_the_batch_is_the_only_free_size_of_the_graph(tmp_path):
    write_index(
        tmp_path / INDEX_ONNX, describe("bilinear"), sections(BankShape(5, 2, (C2, C3), "float32"))
    )
    graph = onnx.load(tmp_path / INDEX_ONNX, load_external_data=False).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "layer2": ["B", C2, H2, W2],
        "layer3": ["B", C3, H2 // 2, W2 // 2],
        "distances": ["B", H2, W2],
        "rows": ["B", H2, W2],
    }


def test_the_same_bank_gives_the_same_bytes(tmp_path):
    store = make_store("bilinear", images=40)
    for name in ("one", "two"):
        build(tmp_path / name, store, every_row(store))
    for name in (INDEX_ONNX, MEMORY_BANK):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc to tell mapped from copied"
)
def test_opening_and_searching_maps_the_bank_and_copies_none_of_it(tmp_path):
    rng = np.random.default_rng(0)
    rows, channels2, channels3 = 25_000, 400, 624  # 102 MB
    bank = MemoryBank(
        layers=(
            rng.random((rows, channels2), np.float32),
            rng.random((rows, channels3), np.float32),
        ),
        norms=np.ones(rows, np.float32),
        origins=np.zeros((rows, 3), np.int32),
        neighbours=np.zeros((rows, 1), np.int32),
    )
    layout = layout_of((channels2, channels3), (1, 2), (H2, W2))
    index = write_bank(tmp_path, bank, layout)
    program = f"""if True:
        import json, re, sys
        from pathlib import Path
        import numpy as np
        import onnxruntime
        from patchcore_runtime.search.exact import ExactIndex
        from patchcore_runtime.bank.memory_bank import read_memory_bank
        from patchcore_runtime.manifest.features import Layout, LayerShape

        def megabytes(kind):
            status = Path("/proc/self/status").read_text()
            return int(re.search(kind + r":\\s+(\\d+)", status)[1]) / 1e3

        before = megabytes("RssAnon"), megabytes("RssFile")
        bank = read_memory_bank(Path({str(tmp_path / MEMORY_BANK)!r}))
        index = ExactIndex(Path({str(index)!r}), bank, {layout!r}, threads=1)
        layer2 = np.zeros((1, {channels2}, {H2}, {W2}), np.float32)
        layer3 = np.zeros((1, {channels3}, {H2 // 2}, {W2 // 2}), np.float32)
        index.nearest((layer2, layer3))
        print(json.dumps([megabytes("RssAnon") - before[0], megabytes("RssFile") - before[1]]))
        """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    copied, mapped = json.loads(done.stdout)
    assert copied < 30, "MB of memory that is no file's"
    assert mapped > 90, "MB of the file were read where they are mapped"
