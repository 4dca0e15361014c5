"""Time the coreset against the loops it replaces and against the machine's own limit.

    python benchmarks/coreset.py [--rows 163856 --dim 296 --ratio 0.01] [--json]

synthetic patch features (P, D), or --features FILE.npy -> median seconds of each way to pick M
rows, the ratios between them, and whether the rows are those of the plain float64 loop. All ways
take turns in one run, so the ratios hold on a busy machine too. Exit code 1 if rows differ.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from patchcore_build.coreset import coreset_size, select_coreset

GRID = 28  # patches along a side of layer2 for a 224 px picture
Picks = NDArray[np.int64]


def synthetic_features(rows: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Draw (P, D) features of aligned photographs: one common scene plus smooth variation.

    64 factors with a decaying spectrum, correlated over neighbouring patches, unequal in strength
    from patch to patch, and a little white noise: as redundant as projected ResNet features.
    """
    rng = np.random.default_rng(seed)
    images, factors = -(-rows // GRID**2), 64
    fields = rng.standard_normal((images + 1, GRID, GRID, factors), dtype=np.float32)
    for axis in (1, 2):
        fields += np.roll(fields, 1, axis)
        fields += np.roll(fields, 2, axis)
    strength = rng.gamma(2.0, 0.25, (images, GRID, GRID, 1)).astype(np.float32)
    latent = (fields[:1] + strength * fields[1:]).reshape(-1, factors)[:rows]
    spectrum = np.arange(1, factors + 1)[:, None] ** -0.8
    loading = (rng.standard_normal((factors, dim)) * spectrum / dim**0.5).astype(np.float32)
    noise = rng.standard_normal((rows, dim), dtype=np.float32) * np.float32(0.3 / dim**0.5)
    return np.asarray(latent @ loading + noise, dtype=np.float32)


def select_coreset_plain(
    features: NDArray[np.float32], count: int, first: int, dtype: type = np.float64
) -> Picks:
    """Pick one row at a time: one matrix-vector product over all rows for each pick."""
    points = (features - features.mean(axis=0, dtype=np.float64)).astype(dtype)
    norms = np.einsum("ij,ij->i", points, points)
    gaps = np.full(len(points), np.inf).astype(dtype)
    picked = np.empty(count, dtype=np.int64)
    picked[0] = first
    for step in range(1, count):
        last = picked[step - 1]
        distances = points @ points[last]
        distances *= -2
        distances += norms
        distances += norms[last]
        np.minimum(gaps, distances, out=gaps)
        gaps[last] = -1.0
        picked[step] = gaps.argmax()
    return picked


def select_coreset_torch(features: NDArray[np.float32], count: int, first: int) -> Picks:
    """Pick one row at a time with torch.cdist, as most published code does."""
    import torch  # no dependency of ours: measured only where it is to be had

    points = torch.from_numpy(features)
    gaps = torch.full((len(points), 1), float("inf"))
    picked = [first]
    while len(picked) < count:
        gaps = torch.minimum(gaps, torch.cdist(points, points[picked[-1] : picked[-1] + 1]))
        gaps[picked[-1]] = -1.0
        picked.append(int(gaps.argmax()))
    return np.array(picked)


def one_product(features: NDArray[np.float32], count: int) -> None:
    """Multiply P x D by D x M once and do nothing else: no exact greedy does less arithmetic."""
    others = np.ascontiguousarray(features[:count].T)
    product = np.empty((4096, count), dtype=np.float32)
    for start in range(0, len(features), 4096):
        block = features[start : start + 4096]
        np.matmul(block, others, out=product[: len(block)])


def ways_to_measure(
    features: NDArray[np.float32], count: int, seed: int
) -> dict[str, Callable[[], Picks | None]]:
    """Name every way that this machine can run."""
    first = int(select_coreset(features, 1, seed=seed)[0])
    ways: dict[str, Callable[[], Picks | None]] = {
        "lazy batches (ours)": lambda: select_coreset(features, count, seed=seed),
        "one product (limit)": lambda: one_product(features, count),
        "NumPy loop float32": lambda: select_coreset_plain(features, count, first, np.float32),
        "NumPy loop float64": lambda: select_coreset_plain(features, count, first),
    }
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed: its loop is left out", file=sys.stderr)
    else:
        ways["torch loop cdist"] = lambda: select_coreset_torch(features, count, first)
    return ways


def measure(ways: dict[str, Callable[[], Picks | None]], repeats: int) -> list[dict[str, object]]:
    """Run all ways in turn, `repeats` times; one record a way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    picks: dict[str, Picks | None] = {}
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            picks[name] = run()
            seconds[name].append(time.perf_counter() - start)
    ours = statistics.median(seconds["lazy batches (ours)"])
    truth = picks["NumPy loop float64"]
    records: list[dict[str, object]] = []
    for name, picked in picks.items():
        median = statistics.median(seconds[name])
        record: dict[str, object] = {"name": name, "seconds": median, "ratio": median / ours}
        if picked is not None and truth is not None:
            record["same_order"] = bool((picked == truth).all())
            record["same_rows"] = set(picked.tolist()) == set(truth.tolist())
        records.append(record)
    return records


def main() -> int:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--rows", type=int, default=163_856, help="patches P (default: %(default)s)"
    )
    parser.add_argument(
        "--dim", type=int, default=296, help="feature size D (default: %(default)s)"
    )
    parser.add_argument("--ratio", type=float, default=0.01, help="share to keep (%(default)s)")
    parser.add_argument("--features", help="measure this float32 (P, D) .npy file instead")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.features:
        features = np.load(args.features, allow_pickle=False)
    else:
        features = synthetic_features(args.rows, args.dim, args.seed)
    rows, dim = features.shape
    count = coreset_size(rows, args.ratio)
    records = measure(ways_to_measure(features, count, args.seed), args.repeats)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}"
    if args.json:
        sizes = {"rows": rows, "dim": dim, "count": count}
        print(json.dumps({**sizes, "machine": machine, "results": records}))
    else:
        print(f"{rows} x {dim}, {count} rows kept; {machine}; median of {args.repeats}")
        for record in records:
            same = ""
            if "same_order" in record:
                same = f"same order {record['same_order']}, same rows {record['same_rows']}"
            print(f"{record['name']:22}{record['seconds']:8.2f} s  x{record['ratio']:6.2f}  {same}")
    return 0 if records[0]["same_order"] else 1


if __name__ == "__main__":
    sys.exit(main())
