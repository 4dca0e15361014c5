"""Laws of index.hnsw: reproducible, exact if it visits all rows, validated before loading."""

import subprocess
import sys

import numpy as np
import pytest

from hnsw_cases import describe, draw_layers, hostile_files, make_bank, needs_hnswlib
from patchcore_build.indexes.hnsw_build import write_hnsw
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank
from patchcore_runtime.search.hnsw_file import check_hnsw_file
from patchcore_runtime.search.hnsw_index import HnswIndex

pytestmark = needs_hnswlib


def write(folder, bank, *, links=4, ef_construction=50):
    path = folder / "index.hnsw"
    write_hnsw(path, bank, links=links, ef_construction=ef_construction)
    return path


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rows", [1, 2, 17, 300])
def test_a_walk_over_all_rows_equals_the_exact_search(rows, dtype, upsampling, tmp_path):
    bank = make_bank(rows, dtype=dtype)
    features = describe(bank, upsampling)
    exact = ExactIndex(write_bank(tmp_path, bank, features), bank, features, threads=1)
    graph = HnswIndex(write(tmp_path, bank), bank, features, effort=rows, threads=1)
    layers = draw_layers(features, 2)
    distances, found = graph.nearest(layers)
    expected, nearest = exact.nearest(layers)
    assert distances.dtype == expected.dtype
    assert found.dtype == nearest.dtype
    assert np.array_equal(found, nearest)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_distances_are_never_below_the_exact_ones_and_belong_to_their_rows(tmp_path):
    bank = make_bank(2000)
    features = describe(bank)
    exact = ExactIndex(write_bank(tmp_path, bank, features), bank, features, threads=1)
    graph = HnswIndex(write(tmp_path, bank, links=2), bank, features, effort=1, threads=1)
    layers = draw_layers(features, 1)
    distances, found = graph.nearest(layers)
    expected, nearest = exact.nearest(layers)
    assert (found != nearest).any()  # such a short walk misses some rows
    assert (distances >= expected * (1 - 1e-6)).all()
    own = layers[0][0][:, 0, 0] - bank.layers[0][found[0, 0, 0]]
    assert distances[0, 0, 0] ** 2 >= (own**2).sum() * (1 - 1e-6)


def test_a_patch_that_is_a_row_is_found_at_distance_zero(tmp_path):
    bank = make_bank(50)
    features = describe(bank, "nearest", height=2, width=2)
    graph = HnswIndex(write(tmp_path, bank), bank, features, effort=50, threads=1)
    layer2 = np.repeat(bank.layers[0][7], 4).reshape(1, -1, 2, 2)
    layer3 = bank.layers[1][7].reshape(1, -1, 1, 1)
    distances, rows = graph.nearest((layer2, layer3))
    assert (rows == 7).all()
    assert (distances == 0).all()


def test_neither_threads_nor_neighbours_in_a_batch_change_a_bit(tmp_path):
    bank = make_bank(500)
    features = describe(bank)
    path = write(tmp_path, bank)
    layers = draw_layers(features, 3)
    one = HnswIndex(path, bank, features, effort=8, threads=1).nearest(layers)
    many = HnswIndex(path, bank, features, effort=8, threads=4)
    for whole, again in zip(one, many.nearest(layers), strict=True):
        assert np.array_equal(whole, again)
    for image in range(3):
        alone = many.nearest([layer[image : image + 1] for layer in layers])
        assert np.array_equal(alone[1][0], one[1][image])
        np.testing.assert_allclose(alone[0][0], one[0][image], rtol=1e-6)


def test_the_same_bank_gives_the_same_bytes_in_another_process(tmp_path):
    bank = make_bank(700)
    mine = write(tmp_path, bank).read_bytes()
    assert write(tmp_path, bank).read_bytes() == mine
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from hnsw_cases import make_bank\n"
        "from patchcore_build.indexes.hnsw_build import write_hnsw\n"
        "write_hnsw(Path(sys.argv[1]), make_bank(700), links=4, ef_construction=50)\n"
    )
    other = tmp_path / "other.hnsw"
    subprocess.run([sys.executable, "-c", program, str(other), *sys.path], check=True)
    assert other.read_bytes() == mine


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    bank = make_bank(40, (2, 3))
    path = write(tmp_path, bank)
    content = path.read_bytes()
    check_hnsw_file(path, bank)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"index\.hnsw: .* expected .*copy the folder"):
            check_hnsw_file(path, bank)


def test_every_number_that_could_lead_out_of_the_graph_is_refused(tmp_path):
    bank = make_bank(40, (2, 3))
    path = write(tmp_path, bank)
    for what, content, message in list(hostile_files(path.read_bytes(), bank)):
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as refusal:
            check_hnsw_file(path, bank)
        assert message in str(refusal.value), what


def test_the_graph_of_another_bank_is_refused(tmp_path):
    path = write(tmp_path, make_bank(40))
    for other in (make_bank(41), make_bank(40, (6, 11)), make_bank(40, seed=1)):
        with pytest.raises(ArtifactError, match="expected"):
            check_hnsw_file(path, other)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        check_hnsw_file(tmp_path / "index.hnsw", make_bank(3))
