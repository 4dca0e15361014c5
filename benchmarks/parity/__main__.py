r"""DINOv2 and DINOv3 beside timm and Hugging Face, block by block -> results/parity.md, .json.

    python -m benchmarks.parity [--models dinov2_vits14 ...] [--patches 37x37 16x23]

Every pair has the same random weights, which go through a file with the peer's names. The figure of
a block is the largest difference of its patch tokens (after the final norm) over the largest token.
Results of models that are not measured are kept. Needs an environment with the workshop and
benchmarks/parity/requirements.txt.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.parity.peers import Peer, draw_official, hugging_face_peer, timm_peer
from benchmarks.places import RESULTS_FOLDER
from patchcore_build.backbone.device import open_device
from patchcore_build.benchmark.machine import describe_machine
from patchcore_build.vision_transformers import VITS, official_shapes
from patchcore_build.weights.match import match_weights
from patchcore_build.weights.read import read_weights

TARGET = RESULTS_FOLDER / "parity.md"
PEERS = {"timm": timm_peer, "transformers": hugging_face_peer}
LIMIT = 1e-4
GRIDS = ((37, 37), (16, 23))


def main() -> int:
    """Compare, print and write the table; return exit code 1 if a block is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=VITS, default=list(VITS))
    parser.add_argument("--patches", nargs="+", type=_sides, default=list(GRIDS))
    arguments = parser.parse_args()
    open_device()
    record = TARGET.with_suffix(".json")
    rows = json.loads(record.read_text("utf-8"))["rows"] if record.is_file() else []
    rows = [row for row in rows if row["model"] not in arguments.models]
    for name in arguments.models:
        official = draw_official(official_shapes(VITS[name]), seed=0)
        for project, make in PEERS.items():
            peer = make(VITS[name], official)
            for grid in arguments.patches:
                size = tuple(side * peer.shape.patch_px for side in grid)
                rows.append({"model": name, "peer": project, "input": size, **_row(peer, size)})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    rows.sort(key=lambda row: list(VITS).index(row["model"]))
    made = {"machine": describe_machine(), "versions": _versions(), "limit": LIMIT, "rows": rows}
    record.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    TARGET.write_text(_page(made), "utf-8")
    return int(max(max(row["blocks"]) for row in rows) > LIMIT)


def _sides(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _row(peer: Peer, size: tuple[int, int]) -> dict[str, Any]:
    images = np.random.default_rng(1).standard_normal((1, 3, *size)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(peer.state, path)
        found = match_weights(read_weights(path), official_shapes(peer.shape), source=str(path))
        make = partial(_cell, peer, found, size)
        ours = [layer.asnumpy() for layer in make()(_tensor(images))]
        return {"blocks": [_gap(a, b) for a, b in zip(ours, peer.run(images), strict=True)]}


def _cell(peer: Peer, official: dict[str, NDArray[np.float32]], size: tuple[int, int]) -> Any:
    import mindspore as ms

    from patchcore_build.backbone.vit.cell import VisionTransformer
    from patchcore_build.backbone.vit.prepare import prepare_parameters

    blocks = peer.shape.blocks
    cell = VisionTransformer(peer.shape, height=size[0], width=size[1], blocks=range(1, blocks + 1))
    prepared = prepare_parameters(official, peer.shape, blocks=blocks, grid=cell.grid)
    for name, parameter in cell.parameters_and_names():
        parameter.set_data(ms.Tensor(prepared[name]))
    return cell.set_train(False)


def _tensor(array: NDArray[np.float32]) -> Any:
    import mindspore as ms

    return ms.Tensor(array)


def _gap(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _versions() -> dict[str, str]:
    import mindspore
    import timm
    import torch
    import transformers

    return {
        project.__name__: project.__version__ for project in (mindspore, torch, timm, transformers)
    }


def _page(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    lines = [
        "# DINOv2 and DINOv3 beside their source libraries",
        "",
        f"Written by `python -m benchmarks.parity`; {machine}; {versions}.",
        "",
        "The same random weights, which our side reads from a file with the peer's names. A figure",
        "is the largest difference of a block's patch tokens after the final norm, relative to the",
        f"largest token; at most {record['limit']:g} at every block. timm antialiases positions of",
        "all models, and transformers uses no offset, so our cell takes the peer's rule here; the",
        "original's own rule is compared with torch in tests/workshop/backbone/test_vit_parity.py.",
        "",
        "| model | peer | input | first block | last block | worst block |",
        "|---|---|---|--:|--:|--:|",
    ]
    for row in record["rows"]:
        blocks, size = row["blocks"], "x".join(map(str, row["input"]))
        figures = " | ".join(f"{value:.1e}" for value in (blocks[0], blocks[-1], max(blocks)))
        lines.append(f"| {row['model']} | {row['peer']} | {size} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
