"""The C++ runner walks index.hnsw to the rows that Python finds, and refuses the same graphs."""

import subprocess

import numpy as np
import pytest

from artifact_factory import make_artifact, tiny_config, write_sums
from cpp_binary import BINARY
from cpp_dump import DUMP
from cpp_runs import assert_same, run, scores_of_both, write_noise
from hnsw_cases import hostile_files, needs_hnswlib
from patchcore_build.indexes.reindex import IndexJob, change_index
from patchcore_build.indexes.settings import IndexSettings
from patchcore_runtime import Artifact, Detector

ROWS = DUMP.with_name("dump_rows")

pytestmark = [
    needs_hnswlib,
    pytest.mark.skipif(
        not (BINARY.is_file() and ROWS.is_file()),
        reason=f"{BINARY.name} or {ROWS.name} is not built; `make cpp` builds them",
    ),
]


def with_hnsw(artifact, target, *, force=False, **settings):
    chosen = IndexSettings(kind="hnsw", **settings)
    change_index(IndexJob(artifact=artifact, output=target, settings=chosen, force=force))
    return target


@pytest.fixture(scope="module")
def fast(tmp_path_factory, photos):
    """A bank of 432 rows with a graph that is walked for a short while only."""
    folder = tmp_path_factory.mktemp("fast")
    exact = make_artifact(folder / "exact", photos, tiny_config("paper", coreset_ratio=0.9))
    return with_hnsw(exact, folder / "hnsw", links=4, ef_construction=20, effort=4, force=True)


def rows_in_cpp(artifact, image, search):
    command = [str(ROWS), str(artifact), str(image), search]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pairs = [line.split() for line in done.stdout.splitlines()]
    return [int(row) for row, _ in pairs], [float(distance) for _, distance in pairs]


@pytest.mark.parametrize("search", ["auto", "exact"])
def test_both_programs_walk_to_the_same_rows(search, fast, tmp_path):
    detector = Detector.load(fast, search=search)
    noise = write_noise(tmp_path / "noise", [(80, 120), (64, 64), (200, 150)])
    for image in sorted(noise.iterdir()):
        result = detector.predict(image)
        rows, distances = rows_in_cpp(fast, image, search)
        assert rows == result.nearest_rows.ravel().tolist()
        np.testing.assert_allclose(distances, result.patch_distances.ravel(), rtol=1e-5)


@pytest.mark.parametrize("search", ["auto", "exact"])
@pytest.mark.parametrize("recipe", ["full-frame", "paper", "modelzoo"])
def test_both_programs_give_the_same_scores(recipe, search, photos, tmp_path, capsys):
    exact = make_artifact(tmp_path / "exact", photos, tiny_config(recipe, bank_precision="float16"))
    artifact = with_hnsw(exact, tmp_path / "hnsw")
    noise = write_noise(tmp_path / "noise", [(80, 120), (51, 97)])
    assert_same(*scores_of_both(artifact, [photos, noise], capsys, "--search", search))


def test_the_walk_is_what_an_artifact_with_a_graph_gets(fast, tmp_path):
    (noise,) = write_noise(tmp_path / "noise", [(80, 120)]).iterdir()
    by_default, exact, portable = (
        run(fast, noise, *options)[1]
        for options in ([], ["--search", "exact"], ["--search", "portable"])
    )
    assert by_default == run(fast, noise, "--search", "auto")[1] == run(fast, noise)[1]
    assert rows_in_cpp(fast, noise, "auto") != rows_in_cpp(fast, noise, "portable")
    assert run(fast, "--selftest")[0] == 0
    assert exact
    assert portable


def test_the_number_of_threads_changes_nothing(fast, photos):
    one, four = (run(fast, photos, "--threads", count)[1] for count in (1, 4))
    assert one == four


def test_both_programs_refuse_the_same_graphs(tmp_path, photos, fast):
    exact = make_artifact(tmp_path / "exact", photos, tiny_config(coreset_ratio=0.2))
    artifact = with_hnsw(exact, tmp_path / "hnsw", links=4)
    path = artifact / "index.hnsw"
    bank = Artifact.open(artifact).memory_bank
    for what, content, message in list(hostile_files(path.read_bytes(), bank)):
        path.write_bytes(content)
        write_sums(artifact)
        code, _, stderr = run(artifact, artifact / "selftest.png")
        assert code == 1, what
        assert stderr.startswith("patchcore_infer: ")
        assert message in stderr, what
        assert run(artifact, artifact / "selftest.png", "--search", "exact")[0] == 0
    path.write_bytes((fast / "index.hnsw").read_bytes())
    write_sums(artifact)
    assert "expected" in run(artifact, artifact / "selftest.png")[2]
