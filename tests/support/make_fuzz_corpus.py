"""Write the fuzzers' first examples: `python tests/support/make_fuzz_corpus.py out/corpus`.

Each kind of file has one folder, with files of the golden artifact and the tests' unusual images.
Inputs that fuzzers have found are kept.
"""

import json
import shutil
import sys
from pathlib import Path

from fuzz_python import MOST_BYTES, small_bank
from hostile.odd_images import bombs, odd_images
from operator_cases import content_of, networks
from patchcore_build.indexes.hnsw_build import write_hnsw
from places import TINY

FROM_TINY = {
    "manifest": ["manifest.json"],
    "memory_bank": ["memory_bank.bin"],
    "onnx": ["features.onnx"],
    "image": ["selftest.png"],
    "exif": [],
}


def with_gate(manifest: bytes) -> bytes:
    """Return a manifest that has a gate, which the golden one leaves out."""
    document = json.loads(manifest)
    document["calibration"]["gate"] = {
        "usual_distance": 1.5, "largest_distance": 2.5, "usual_rows": 30, "fewest_rows": 12,
    }  # fmt: skip
    return json.dumps(document, indent=2).encode()


def write_corpus(folder: Path) -> None:
    """Create the folders and their first examples."""
    for kind, names in FROM_TINY.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(TINY / name, folder / kind / name)
    gated = with_gate((TINY / "manifest.json").read_bytes())
    (folder / "manifest" / "gate.json").write_bytes(gated)
    for number, model in enumerate(networks()):
        (folder / "onnx" / f"operator{number}.onnx").write_bytes(content_of(model))
    small = {name: content for name, content, _ in odd_images()}
    small |= {name: content for name, content in bombs().items() if len(content) < MOST_BYTES}
    for name, content in small.items():
        (folder / "image" / name).write_bytes(content)
    (folder / "hnsw").mkdir(exist_ok=True)
    for links in (2, 3):
        path = folder / "hnsw" / f"links{links}"
        write_hnsw(path, small_bank(), links=links, ef_construction=8)


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
