"""Both programs accept and refuse the same damaged files; tests/support/compare_programs.py."""

import numpy as np
import pytest

from compare_programs import KINDS, compare, mutations
from cpp_binary import BINARY, needs_binary
from make_fuzz_corpus import with_gate
from operator_cases import content_of, networks, with_other_integers
from places import TINY

pytestmark = needs_binary

TOOL = BINARY.parent / "tests" / "dump_verdicts"
FILES = {"manifest": "manifest.json", "sums": "SHA256SUMS", "network": "features.onnx"}


@pytest.mark.skipif(not TOOL.is_file(), reason="dump_verdicts is not built; `make cpp` builds it")
@pytest.mark.parametrize("kind", KINDS)
def test_both_programs_give_the_same_verdict_about_damaged_files(kind, tmp_path):
    whole = [(TINY / FILES[kind]).read_bytes()]
    if kind == "manifest":
        whole.append(with_gate(whole[0]))
    draw = mutations(kind, whole, seed=1)
    accepted, _ = compare(TOOL, kind, [*whole, *(draw() for _ in range(300))], tmp_path)
    assert len(whole) <= accepted < 300


@pytest.mark.skipif(not TOOL.is_file(), reason="dump_verdicts is not built; `make cpp` builds it")
def test_both_programs_know_the_same_operators(tmp_path):
    models = networks()
    whole = [content_of(model) for model in models]
    assert compare(TOOL, "network", whole, tmp_path) == (len(whole), 0)
    draw, rng = mutations("network", whole, seed=2), np.random.default_rng(2)
    damaged = [draw() for _ in range(800)]
    damaged += [with_other_integers(model, rng) for model in models for _ in range(10)]
    accepted, different = compare(TOOL, "network", damaged, tmp_path)
    assert 50 < accepted < 1200
    assert different == 0
