"""The C++ runner searches artifacts of the faiss kinds exactly, and says so."""

import pytest

from artifact_factory import make_artifact, tiny_config, write_sums
from cpp_binary import needs_binary
from cpp_runs import assert_same, run, scores_of_both
from faiss_cases import FAISS_KINDS, needs_faiss
from patchcore_build.indexes.reindex import IndexJob, change_index
from patchcore_build.indexes.settings import IndexSettings

pytestmark = [
    needs_faiss,
    needs_binary,
]


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_scores_are_those_of_the_exact_search_and_one_note_says_so(kind, photos, tmp_path, capsys):
    exact = make_artifact(tmp_path / "exact", photos, tiny_config("paper", coreset_ratio=0.9))
    made = tmp_path / "made"
    # One cell of one-byte codes: what it finds is often another row.
    poor = {"cells": 60, "probes": 1, "code_parts": 1} if kind == "faiss-ivfpq" else {}
    settings = IndexSettings(kind=kind, **poor)
    change_index(IndexJob(artifact=exact, output=made, settings=settings, force=True))
    assert_same(*scores_of_both(exact, [photos], capsys))
    code, by_default, stderr = run(made, photos)
    assert code == 0
    assert by_default == run(exact, photos)[1]
    (line,) = stderr.splitlines()
    assert "note: index.faiss is not read by this program" in line
    assert run(made, photos, "--search", "exact") == (0, by_default, "")
    if not poor:
        assert run(made, "--selftest")[0] == 0


def test_a_damaged_index_is_found_by_the_selftest_alone(tiny_artifact, tmp_path):
    made = tmp_path / "made"
    settings = IndexSettings(kind="faiss-flat")
    change_index(IndexJob(artifact=tiny_artifact, output=made, settings=settings))
    (made / "index.faiss").write_bytes(b"damaged")
    assert run(made, made / "selftest.png")[0] == 0  # it is never read
    code, _, stderr = run(made, "--selftest")
    assert code == 1
    assert "index.faiss: altered" in stderr
    write_sums(made)
    assert run(made, "--selftest")[0] == 0
