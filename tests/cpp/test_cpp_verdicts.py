"""Both programs accept and refuse the same damaged files; tests/support/compare_programs.py."""

import pytest

from compare_programs import KINDS, compare, mutations
from cpp_binary import BINARY, needs_binary
from places import TINY

pytestmark = needs_binary

TOOL = BINARY.parent / "tests" / "dump_verdicts"
FILES = {"manifest": "manifest.json", "sums": "SHA256SUMS", "network": "features.onnx"}


@pytest.mark.skipif(not TOOL.is_file(), reason="dump_verdicts is not built; `make cpp` builds it")
@pytest.mark.parametrize("kind", KINDS)
def test_both_programs_give_the_same_verdict_about_damaged_files(kind, tmp_path):
    whole = (TINY / FILES[kind]).read_bytes()
    draw = mutations(kind, [whole], seed=1)
    accepted, _ = compare(TOOL, kind, [whole, *(draw() for _ in range(300))], tmp_path)
    assert 0 < accepted < 300
