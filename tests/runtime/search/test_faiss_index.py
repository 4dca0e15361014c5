"""Laws of index.faiss: reproducible, readable by faiss, exact with all cells, validated."""

import struct
import subprocess
import sys

import numpy as np
import pytest

from faiss_cases import (
    FAISS_KINDS,
    hostile_faiss_files,
    needs_faiss,
    numbers_of,
    open_kind,
    write_faiss,
)
from hnsw_cases import describe, draw_layers, make_bank
from patchcore_build.errors import SearchError
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank
from patchcore_runtime.search.faiss_file import check_faiss_file

pytestmark = needs_faiss


def smallest(kind):
    """Return the number of rows of the smallest bank for a kind."""
    return 256 if kind == "faiss-ivfpq" else 1


def looking_at_all(folder, kind, bank, **grid):
    """Load an index of this kind that visits all rows and cells."""
    path, effort = write_faiss(folder, kind, bank)
    effort = {"faiss-flat": 0, "faiss-ivfpq": max(effort, 16)}[kind]
    return open_kind(path, kind, bank, effort, **grid)


def refusal_of(path, kind, bank):
    """Return the refusal of the check, or an empty text if it accepts the file."""
    try:
        check_faiss_file(path, kind, bank)
    except ArtifactError as refusal:
        return str(refusal)
    return ""


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("kind", "rows"),
    [(k, r) for k in FAISS_KINDS for r in (1, 2, 17, 256, 400) if r >= smallest(k)],
)
def test_visiting_every_row_equals_the_exact_search(kind, rows, dtype, upsampling, tmp_path):
    bank = make_bank(rows, dtype=dtype)
    features = describe(bank, upsampling)
    exact = ExactIndex(write_bank(tmp_path, bank, features), bank, features, threads=1)
    index = looking_at_all(tmp_path, kind, bank, upsampling=upsampling)
    layers = draw_layers(features, 2)
    distances, found = index.nearest(layers)
    expected, nearest = exact.nearest(layers)
    assert distances.dtype == expected.dtype
    assert found.dtype == nearest.dtype
    assert np.array_equal(found, nearest)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("faiss-ivfpq", {"cells": 40, "probes": 1})],
)
def test_distances_are_never_below_the_exact_ones_and_belong_to_their_rows(
    kind, settings, tmp_path
):
    bank = make_bank(2000)
    features = describe(bank)
    exact = ExactIndex(write_bank(tmp_path, bank, features), bank, features, threads=1)
    path, effort = write_faiss(tmp_path, kind, bank, **settings)
    assert effort == 1
    layers = draw_layers(features, 1)
    distances, found = open_kind(path, kind, bank, effort).nearest(layers)
    expected, nearest = exact.nearest(layers)
    assert (found != nearest).any()  # so few cells miss some rows
    assert (distances >= expected * (1 - 1e-6)).all()
    own = layers[0][0][:, 0, 0] - bank.layers[0][found[0, 0, 0]]
    assert distances[0, 0, 0] ** 2 >= (own**2).sum() * (1 - 1e-6)


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_a_patch_that_is_a_row_is_found_at_distance_zero(kind, tmp_path):
    bank = make_bank(max(50, smallest(kind)))
    index = looking_at_all(tmp_path, kind, bank, upsampling="nearest", height=2, width=2)
    layer2 = np.repeat(bank.layers[0][7], 4).reshape(1, -1, 2, 2)
    layer3 = bank.layers[1][7].reshape(1, -1, 1, 1)
    distances, rows = index.nearest((layer2, layer3))
    assert (rows == 7).all()
    assert (distances == 0).all()


def test_the_first_of_equal_rows_proposed_by_faiss_wins(tmp_path):
    bank = make_bank(256)
    for layer in (bank.layers[0], bank.layers[1]):
        layer[20:24] = layer[7]
    index = looking_at_all(tmp_path, "faiss-ivfpq", bank, upsampling="nearest", height=2, width=2)
    layer2 = np.repeat(bank.layers[0][7], 4).reshape(1, -1, 2, 2)
    layer3 = bank.layers[1][7].reshape(1, -1, 1, 1)
    assert (index.nearest((layer2, layer3))[1] == 7).all()


def emptied(content):
    """Return the file with the rows of its first cell moved to the second, its centre at 50."""
    places = {name: place for name, place, _ in numbers_of(content, "faiss-ivfpq")}
    parts = struct.unpack_from("<Q", content, places["code_size"])[0]
    first, second = sizes = struct.unpack_from("<2Q", content, places["list sizes"])
    lists, taken = places["ids"] - first * parts, []
    for size in sizes:
        taken += [content[lists : lists + size * parts]]
        taken += [content[lists + size * parts : lists + size * (parts + 8)]]
        lists += size * (parts + 8)
    altered = bytearray(content)
    struct.pack_into("<2Q", altered, places["list sizes"], 0, first + second)
    begin = lists - (first + second) * (parts + 8)
    altered[begin:lists] = taken[0] + taken[2] + taken[1] + taken[3]
    struct.pack_into("<16f", altered, places["size of centroids"] + 8, *[50.0] * 16)
    return bytes(altered)


def test_a_patch_whose_cells_are_empty_is_compared_with_all_rows(tmp_path):
    bank = make_bank(256)
    features = describe(bank)
    path, _ = write_faiss(tmp_path, "faiss-ivfpq", bank, cells=4)
    path.write_bytes(emptied(path.read_bytes()))
    layers = [np.full_like(layer, 50) for layer in draw_layers(features, 1)]
    exact = ExactIndex(write_bank(tmp_path, bank, features), bank, features, threads=1)
    distances, rows = open_kind(path, "faiss-ivfpq", bank, 1).nearest(layers)
    expected, nearest = exact.nearest(layers)
    assert np.array_equal(rows, nearest)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_neither_threads_nor_neighbours_in_a_batch_change_a_bit(kind, tmp_path):
    bank = make_bank(500)
    path, effort = write_faiss(tmp_path, kind, bank)
    layers = draw_layers(describe(bank), 3)
    one = open_kind(path, kind, bank, effort).nearest(layers)
    many = open_kind(path, kind, bank, effort, threads=4)
    for whole, again in zip(one, many.nearest(layers), strict=True):
        assert np.array_equal(whole, again)
    for image in range(3):
        alone = many.nearest([layer[image : image + 1] for layer in layers])
        assert np.array_equal(alone[1][0], one[1][image])
        np.testing.assert_allclose(alone[0][0], one[0][image], rtol=1e-6)


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_the_same_bank_gives_the_same_bytes_in_another_process(kind, tmp_path):
    import faiss

    mine = write_faiss(tmp_path, kind, make_bank(700))[0].read_bytes()
    before = faiss.omp_get_max_threads()
    assert write_faiss(tmp_path, kind, make_bank(700))[0].read_bytes() == mine
    assert faiss.omp_get_max_threads() == before
    program = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path; from hnsw_cases import make_bank\n"
        "from faiss_cases import write_faiss\n"
        "write_faiss(Path(sys.argv[1]), sys.argv[2], make_bank(700))\n"
    )
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run([sys.executable, "-c", program, other, kind, *sys.path], check=True)
    assert (other / "index.faiss").read_bytes() == mine


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_plain_faiss_reads_the_file(kind, tmp_path):
    import faiss

    bank = make_bank(300)
    path, effort = write_faiss(tmp_path, kind, bank)
    index = faiss.read_index(str(path))
    assert (index.d, index.ntotal, index.metric_type) == (16, 300, faiss.METRIC_L2)
    found = index.search(bank.whole_rows(slice(None)), 1)[1][:, 0]
    assert (found == np.arange(300)).mean() > 0.9
    if kind == "faiss-ivfpq":
        assert index.nprobe == effort
    else:
        assert np.array_equal(index.reconstruct(7), bank.whole_rows(slice(7, 8))[0])


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_a_file_cut_off_anywhere_is_refused(kind, tmp_path):
    bank = make_bank(max(40, smallest(kind)), (2, 3))
    path, _ = write_faiss(tmp_path, kind, bank)
    content = path.read_bytes()
    check_faiss_file(path, kind, bank)
    structure = range(min(1500, len(content)))
    for length in [*structure, *range(1500, len(content), 61), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"index\.faiss: .*expected .*copy the folder"):
            check_faiss_file(path, kind, bank)
    path.write_bytes(content + b"\0")
    with pytest.raises(ArtifactError, match="size: expected"):
        check_faiss_file(path, kind, bank)


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_every_number_that_could_lead_out_of_the_file_is_refused(kind, tmp_path):
    bank = make_bank(max(40, smallest(kind)), (2, 3))
    path, _ = write_faiss(tmp_path, kind, bank)
    damaged = list(hostile_faiss_files(path.read_bytes(), kind))
    assert len(damaged) > 40
    for what, content in damaged:
        path.write_bytes(content)
        assert "expected" in refusal_of(path, kind, bank), what


FUZZ = """
import sys; sys.path[:0] = sys.argv[4:]
from pathlib import Path
import numpy as np
from faiss_cases import write_faiss
from hnsw_cases import make_bank
from patchcore_runtime.errors import ArtifactError
from faiss_cases import open_kind
from hnsw_cases import describe, draw_layers
folder, kind, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
bank = make_bank(rows, (2, 3))
path, effort = write_faiss(folder, kind, bank)
content, random = path.read_bytes(), np.random.default_rng(0)
layers = draw_layers(describe(bank), 1)
taken = 0
for _ in range(400):
    altered = bytearray(content)
    for place in random.integers(0, len(content), 3):
        altered[place] = random.integers(0, 256)
    path.write_bytes(altered)
    try:
        distances, found = open_kind(path, kind, bank, effort).nearest(layers)
    except ArtifactError:
        continue
    taken += 1
    assert 0 <= found.min() and found.max() < rows and np.isfinite(distances).all()
print(taken)
"""


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_a_file_that_passes_the_check_cannot_crash_the_search(kind, tmp_path):
    rows = max(40, smallest(kind))
    command = [sys.executable, "-c", FUZZ, str(tmp_path), kind, str(rows), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert kind == "faiss-flat" or int(done.stdout) > 0  # some damage concerns only codes or links


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_the_index_of_another_bank_or_kind_is_refused(kind, tmp_path):
    path, _ = write_faiss(tmp_path, kind, make_bank(256))
    others = [make_bank(257), make_bank(256, (6, 11))]
    others += [make_bank(256, seed=1)] if kind != "faiss-ivfpq" else []
    for other in others:
        with pytest.raises(ArtifactError, match="expected"):
            check_faiss_file(path, kind, other)
    for other in set(FAISS_KINDS) - {kind}:
        with pytest.raises(ArtifactError, match="fourcc: expected"):
            check_faiss_file(path, other, make_bank(256))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_cells_and_codes_must_be_finite(value, tmp_path):
    bank = make_bank(256)
    path, _ = write_faiss(tmp_path, "faiss-ivfpq", bank)
    content = path.read_bytes()
    first_centre = 37 + 16 + 45
    altered = content[:first_centre] + struct.pack("<f", value) + content[first_centre + 4 :]
    path.write_bytes(altered)
    with pytest.raises(ArtifactError, match="quantizer: expected finite"):
        check_faiss_file(path, "faiss-ivfpq", bank)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        check_faiss_file(tmp_path / "index.faiss", "faiss-flat", make_bank(3))


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (255, {}, "expected 256 bank rows or more to train the codes on, got 255"),
        (256, {"cells": 257}, "--nlist: expected 256, the rows of the bank, or less, got 257"),
        (256, {"cells": 8, "probes": 9}, "--nprobe: expected 8, the number of cells"),
        (256, {"code_parts": 3}, "--pq-m: expected a divisor of 16, the length of a row, got 3"),
    ],
)
def test_settings_that_do_not_fit_the_bank_are_refused(rows, settings, message, tmp_path):
    with pytest.raises(SearchError, match="index: ") as refusal:
        write_faiss(tmp_path, "faiss-ivfpq", make_bank(rows), **settings)
    assert message in str(refusal.value)


def test_a_bank_of_equal_rows_leaves_cells_empty_and_is_refused(tmp_path):
    bank = make_bank(256)
    for layer in (bank.layers[0], bank.layers[1]):
        layer[:] = layer[0]
    with pytest.raises(SearchError, match="--nlist: expected rows in most of the 16 cells"):
        write_faiss(tmp_path, "faiss-ivfpq", bank)
