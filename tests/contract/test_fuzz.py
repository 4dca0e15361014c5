"""The fuzz targets run, and find what is planted: a short, seeded and blind walk for each kind."""

import random

import pytest

from fuzz_python import KINDS, _reader, fix_checksums, fuzz_blindly, make_target, mutate
from hnsw_cases import needs_hnswlib
from make_fuzz_corpus import write_corpus

pytestmark = [needs_hnswlib, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Examples of every kind."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_and_what_blind_mutation_makes_of_it_is_read_or_refused(kind, corpus):
    target = make_target(kind, corpus / f"input-{kind}")
    rng = random.Random(0)  # noqa: S311 inputs, no secrets
    examples = sorted((corpus / kind).iterdir())
    assert examples
    for path in examples:
        content = path.read_bytes()
        target(content)
        for _ in range(20):
            changed = mutate(content, rng)
            target(fix_checksums(changed) if kind == "image" else changed)


@pytest.mark.parametrize("kind", ["manifest", "memory_bank", "hnsw", "onnx"])
def test_the_examples_are_taken_so_that_mutation_starts_behind_the_checks(kind, corpus):
    examples = list((corpus / kind).iterdir())
    assert examples
    for path in examples:
        _reader(kind)(path)  # does not refuse


def test_a_finding_is_kept_and_ends_the_run(corpus):
    def planted(content):
        if len(content) % 7 == 3:
            raise IndexError("planted")

    with pytest.raises(IndexError, match="planted"):
        fuzz_blindly(planted, "manifest", corpus / "manifest", seconds=30, seed=0)
    assert len((corpus / "finding-manifest").read_bytes()) % 7 == 3
