"""Laws of an import beside the library itself: the artifact scores like the model."""

import argparse
import dataclasses

import pytest

from places import ROOT, SHARED

PEERS = ROOT / "out" / "peers-venv" / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not (PEERS.exists() and (SHARED / "data" / "mvtec" / "bottle").is_dir()),
    reason="needs anomalib in out/peers-venv (`make bench-peers`) and ../shared/data/mvtec/bottle",
)


def test_ten_images_score_as_with_anomalib_itself(tmp_path):
    from benchmarks.parity.imports import CASES, measure

    options = argparse.Namespace(shared=SHARED, peers_python=PEERS, amazon=None)
    case = dataclasses.replace(CASES["r18"], ratio=0.0005)
    found = measure(case, options, tmp_path / "model")
    assert found["images"] == 10
    assert found["score_given"] < 1e-4
    assert found["map_given"] < 1e-3
    assert found["score_own"] < 0.01  # anomalib resizes in floating point, the artifact to 8 bits
