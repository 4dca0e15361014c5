"""The coreset of most published code: one row at a time with torch.cdist.

    python -m benchmarks.peers.torch_loop FEATURES.npy COUNT FIRST

float32 (P, D) -> one JSON line with seconds and picks. The module needs only torch and NumPy, so
that a separate interpreter can run it. A warm-up of three picks comes first.
"""

import json
import sys
import time

import numpy as np
import torch


def select(points: torch.Tensor, count: int, first: int) -> list[int]:
    """Pick the farthest row, again and again."""
    gaps = torch.full((len(points), 1), float("inf"))
    picked = [first]
    while len(picked) < count:
        gaps = torch.minimum(gaps, torch.cdist(points, points[picked[-1] : picked[-1] + 1]))
        gaps[picked[-1]] = -1.0
        picked.append(int(gaps.argmax()))
    return picked


def main() -> None:
    """Read the features, pick, print."""
    path, count, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    points = torch.from_numpy(np.load(path, allow_pickle=False))
    select(points, 3, first)
    start = time.perf_counter()
    picked = select(points, count, first)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "picked": picked, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
