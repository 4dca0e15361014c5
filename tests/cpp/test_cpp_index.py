"""Both programs write the same index.onnx for a bank: C++ accepts Python's file, to the byte."""

import json
import shutil

import numpy as np
import pytest

from artifact_factory import write_sums
from cpp_binary import needs_binary
from cpp_runs import run
from patchcore_runtime.artifact.folder import MANIFEST, MEMORY_BANK, Artifact
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.search.exact_graph import write_bank
from places import TINY

pytestmark = needs_binary


def bank_of(rows, precision):
    rng = np.random.default_rng(0)
    layer2, layer3 = (rng.random((rows, c)).astype(precision) for c in (8, 12))
    norms = (layer2.astype(np.float32) ** 2).sum(1) + (layer3.astype(np.float32) ** 2).sum(1)
    return MemoryBank(
        layers=(layer2, layer3),
        norms=norms.astype(np.float32),
        origins=np.zeros((rows, 3), np.int32),
        neighbours=np.arange(rows, dtype=np.int32)[:, None],
    )


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("rows", [1, 64, 4170])  # a rest, one whole group, several blocks
def test_the_index_of_any_bank_is_accepted(rows, precision, upsampling, tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "made")
    for path in folder.iterdir():
        path.chmod(0o644)
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    document["memory_bank"] = {"rows": rows, "neighbours": 1, "precision": precision}
    document["features"]["layer3_upsampling"] = upsampling
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    write_sums(folder)
    features = Artifact.open(folder).manifest.features
    write_bank(folder, bank_of(rows, precision), features)
    write_sums(folder)
    assert (folder / MEMORY_BANK).stat().st_size > 0
    code, out, err = run(folder, folder / "selftest.png", "--search", "engine")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
