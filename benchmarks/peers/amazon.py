"""The method of amazon's patchcore-inspection beside ours: fit and inference.

The module runs in out/peers-venv. That code is in no package registry, so this module implements
its pipeline after the paper (Roth et al. 2021) and its published defaults: 3x3 patches of layer2
and layer3, averaged to 1,024 values per layer and 1,024 in all, approximate greedy coreset in 128
dimensions, faiss.IndexFlatL2 with k = 1, maximum as score, Gaussian-blurred map. The protocol is
that of arena/worker.py.
"""

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch
import torchvision
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from benchmarks.arena.worker import Job, Step, nothing, serve
from benchmarks.peers.anomalib_model import BATCH, _normalised

DIM = 1024  # of a layer's patches and of the whole vector
PROJECTED = 128
STARTS = 10  # rows whose mean distance orders the first pick


def fit(job: Job) -> Step:
    """Compute features of all images, then the approximate greedy coreset at the ratio."""
    _use(job["threads"])
    network = _network(job)
    images = np.load(job["images"], mmap_mode="r")

    def step() -> dict[str, Any]:
        torch.manual_seed(0)
        start = time.perf_counter()
        parts = [
            network(torch.from_numpy(_normalised(images[first : first + BATCH])))
            for first in range(0, len(images), BATCH)
        ]
        features = torch.cat(parts)
        parts.clear()
        stages = {"features": time.perf_counter() - start}
        start = time.perf_counter()
        projected = features @ (torch.randn(DIM, PROJECTED) / PROJECTED**0.5)
        stages["projection"] = time.perf_counter() - start
        start = time.perf_counter()
        rows = approximate_greedy(projected, int(len(features) * job["ratio"]))
        stages["coreset"] = time.perf_counter() - start
        np.save(job["bank"], features[rows].numpy())
        return {"stages": stages, "rows": len(rows)}

    return step


def approximate_greedy(points: Tensor, count: int) -> list[int]:
    """Pick farthest points; the first gaps are mean distances to a few random rows."""
    starts = points[torch.randperm(len(points))[:STARTS]]
    gaps = _distances(points, starts).mean(dim=1)
    rows: list[int] = []
    for _ in range(count):
        rows.append(int(gaps.argmax()))
        gaps = torch.minimum(gaps, _distances(points, points[rows[-1]][None])[:, 0])
    return rows


def inference(job: Job) -> Step:
    """Score one image: network, flat search, score and map.

    A bank larger than that of its fit is padded with copies plus noise, because the time of a flat
    search does not depend on the values.
    """
    _use(job["threads"])
    network = _network(job)
    fitted = np.load(job["bank"])
    rng = np.random.default_rng(0)
    extra = fitted[rng.integers(len(fitted), size=max(0, job["rows"] - len(fitted)))]
    index = faiss.IndexFlatL2(DIM)
    index.add(fitted[: job["rows"]])
    index.add(extra + rng.standard_normal(extra.shape, dtype=np.float32))
    del extra
    image = torch.from_numpy(_normalised(np.load(job["image"])))
    side = image.shape[-1]

    def step() -> dict[str, Any]:
        squares, _ = index.search(network(image).numpy(), 1)
        levels = torch.from_numpy(squares).reshape(1, 1, side // 8, side // 8)
        fine = functional.interpolate(levels, size=(side, side), mode="bilinear")
        blurred = gaussian_filter(fine[0, 0].numpy(), sigma=4)
        return {"score": float(squares.max()), "peak": float(blurred.max())}

    return step


def imports(_job: Job) -> Step:
    """Only import what is imported above."""
    return nothing


def _network(job: Job) -> Callable[[Tensor], Tensor]:
    """Compute patch vectors (B·P, 1024) from images (B, 3, H, W)."""
    body = getattr(torchvision.models, job["backbone"])(weights=None).eval()
    body.load_state_dict(torch.load(job["weights"], weights_only=True), strict=False)
    stem = torch.nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool, body.layer1)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            layer2 = body.layer2(stem(images))
            layer3 = body.layer3(layer2)
            grid = layer2.shape[-2:]
            layers = [
                _patches(layer2),
                functional.interpolate(_patches(layer3), grid, mode="bilinear"),
            ]
            return _vectors(layers)

    return run


def _patches(layer: Tensor) -> Tensor:
    """Compute the 3x3 surroundings of every position, (B, C, h, w) -> (B, 9 C, h, w)."""
    count, _, height, width = layer.shape
    return functional.unfold(layer, 3, padding=1).reshape(count, -1, height, width)


def _vectors(layers: list[Tensor]) -> Tensor:
    """Average neighbouring values: (B, 9 C, h, w) of each layer -> (B·h·w, 1024)."""
    rows = [layer.permute(0, 2, 3, 1).flatten(0, 2) for layer in layers]
    pooled = [functional.adaptive_avg_pool1d(row[:, None], DIM)[:, 0] for row in rows]
    return functional.adaptive_avg_pool1d(torch.cat(pooled, dim=1)[:, None], DIM)[:, 0]


def _distances(points: Tensor, others: Tensor) -> Tensor:
    """Compute Euclidean distances (P, m) through one product."""
    squares = (points**2).sum(dim=1, keepdim=True) + (others**2).sum(dim=1) - 2 * points @ others.T
    return squares.clamp(min=0).sqrt()


def _use(threads: int) -> None:
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


if __name__ == "__main__":
    serve({"imports": imports, "fit": fit, "inference": inference})
