"""The sections of `make bench`: measurements -> records for the page.

Every record has case, threads, who, seconds and the other figures of the page (`headlines`).
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena.race import Contestant, race
from benchmarks.bench.arena import SHARES, WIDE, WORKER, Arena, Kind
from benchmarks.bench.cold_start import start_once, told_once
from benchmarks.harness.figures import graph_gflop, spread
from benchmarks.harness.headlines import Record
from patchcore_build.evaluation.metrics import auroc
from patchcore_runtime.artifact.folder import FEATURES_ONNX, INDEX_ONNX, MEMORY_BANK

IN_TURN, AT_ONCE = "8 images, one at a time", "8 images, several at once"


def fit(arena: Arena) -> list[Record]:
    """Fit each kind once, like a user: five folds, all cores."""
    records = []
    for backbone in arena.weights:
        answer = arena.fit(Kind(backbone=backbone), folds=5)
        result = answer["result"]
        records.append(
            _record(
                f"{backbone}, 1 %, {result['images']} images", max(arena.threads), "fit",
                seconds=sum(result["stages"].values()),
                stages=result["stages"],
                peak_mb=answer["peak_mb"],
            )
        )  # fmt: skip
    return records


def score(arena: Arena) -> list[Record]:
    """Time all stages of one image, then eight images, per network, bank and thread count."""
    records: list[Record] = []
    for threads in arena.threads:
        limits = arena.stable.once((WORKER, {"task": "yardstick"}), threads)["result"]
        for who, gflops in limits.items():
            records.append(_record("product of 1024 x 1024", threads, who, gflops=gflops))
        for backbone, share in product(arena.backbones, SHARES):
            records += _score(arena, Kind(backbone=backbone, share=share), threads)
    return records


def _score(arena: Arena, kind: Kind, threads: int) -> Iterator[Record]:
    case, artifact = f"{kind.backbone}, {kind.share}", arena.artifact(kind)
    print(f"  {case}, {threads} threads …", file=sys.stderr)
    job = {"artifact": artifact, "image": arena.image(), "rounds": arena.rounds, "warm_up": 5}
    seconds = arena.stable.once((WORKER, job | {"task": "stages"}), threads)["result"]["seconds"]
    gflop = {
        "features": graph_gflop(Path(artifact) / FEATURES_ONNX),
        "search": graph_gflop(Path(artifact) / INDEX_ONNX),
    }
    # This runs in a separate process, because the one above loads every session twice.
    alone = {"task": "predict", "artifact": artifact, "images": [arena.image()]}
    answer = arena.stable.once((WORKER, alone | {"in_order": False}), threads)
    for stage, taken in seconds.items():
        more = {"gflop": gflop[stage]} if stage in gflop else {}
        if stage == "predict":
            more = {"peak_mb": answer["peak_mb"]}
        yield _record(case, threads, stage, **spread(taken), **more)
    several = alone | {"images": arena.test_images()[0][:8]}
    contestants: dict[str, Contestant] = {IN_TURN: (WORKER, several | {"in_order": False})}
    if threads > 1:  # with one, both ways are the same
        contestants[AT_ONCE] = (WORKER, several | {"in_order": True})
    rounds = max(3, arena.rounds // 12)
    figures = race(arena.stable, contestants, threads=threads, rounds=rounds, warm_up=1)
    for who, figure in figures.items():
        each = figure.pop("result")["images"]
        times = {name: figure[name] / each for name in ("seconds", "p95")}
        yield _record(case, threads, who, **figure | times)


def searches(arena: Arena) -> list[Record]:
    """Compare options for a faster or smaller search with the default, taking turns."""
    records: list[Record] = []
    for backbone, threads in product(arena.backbones, arena.threads):
        exact = arena.artifact(Kind(backbone=backbone, share="10 %"))
        half = arena.artifact(Kind(backbone=backbone, share="10 %", bank_precision="float16"))
        kinds = {
            "exact": (exact, "exact"),
            "--search pca": (exact, "pca"),
            "float16 bank": (half, "exact"),
        }
        for task in ("search", "predict input"):
            jobs = {
                who: {"task": task, "artifact": folder, "search": search}
                for who, (folder, search) in kinds.items()
            }
            records += _race(arena, f"{backbone}, 10 %: {task}", threads, jobs)
    return records


def int8(arena: Arena) -> list[Record]:
    """Compare a network in float32 and in int8, taking turns."""
    folders = {
        "float32": arena.artifact(Kind(backbone=WIDE)),
        "int8": arena.artifact(Kind(backbone=WIDE, feature_precision="int8")),
    }
    records: list[Record] = []
    for threads, task in product(arena.threads, ("features", "predict input")):
        jobs = {
            who: {"task": task, "artifact": folder, "search": "exact"}
            for who, folder in folders.items()
        }
        records += _race(arena, f"{WIDE}, 1 %: {task}", threads, jobs)
    return records


def _race(
    arena: Arena, case: str, threads: int, jobs: dict[str, dict[str, Any]]
) -> Iterator[Record]:
    print(f"  {case}, {threads} threads …", file=sys.stderr)
    contestants = {who: (WORKER, job | {"image": arena.image()}) for who, job in jobs.items()}
    rounds = max(1, arena.rounds // 12)
    figures = race(arena.stable, contestants, threads=threads, rounds=rounds, laps=4, warm_up=2)
    for who, figure in figures.items():
        del figure["result"]
        yield _record(case, threads, who, **figure)


def float16(arena: Arena) -> list[Record]:
    """Compare the scores of a float16 bank with float32, on all test images."""
    images, defects = arena.test_images()
    wrong = np.array(defects)
    records = []
    for backbone, share in product(arena.backbones, SHARES):
        if arena.weights[backbone] == "random":  # its scores say nothing
            continue
        found = []
        for precision in ("float32", "float16"):
            folder = arena.artifact(Kind(backbone=backbone, share=share, bank_precision=precision))
            job = {"task": "scores", "artifact": folder, "images": images}
            answer = arena.stable.once((WORKER, job), max(arena.threads))
            found.append(np.array(answer["result"]["scores"]))
            figures: dict[str, Any] = {
                "auroc": auroc(found[-1][~wrong], found[-1][wrong]),
                "bank_mb": (Path(folder) / MEMORY_BANK).stat().st_size / 2**20,
                "images": len(images),
            }
            if precision == "float16":
                change = np.abs(found[1] - found[0])
                figures["score_change"] = float(change.max())
                figures["relative_change"] = float((change / found[0]).max())
            case = f"{backbone}, {share}"
            records.append(_record(case, max(arena.threads), precision, **figures))
    return records


def coldstart(arena: Arena) -> list[Record]:
    """Time the command with one image, from its start to its JSON line; networks take turns."""
    folders = {name: arena.artifact(Kind(backbone=name)) for name in arena.backbones}
    whole: dict[str, list[float]] = {name: [] for name in folders}
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in folders}
    for number in range(arena.starts + 1):
        for name, folder in folders.items():
            taken = start_once(folder, arena.image())
            told = told_once(folder, arena.image())
            if number > 0:  # the first brings the files into the cache
                whole[name].append(taken)
                parts[name].append(told)
            time.sleep(0.1)
    records = []
    for name in folders:
        shares = {
            part: statistics.median(one[part] for one in parts[name]) for part in parts[name][0]
        }
        figures = spread(whole[name])
        records.append(
            _record(f"{name}, 1 %", max(arena.threads), "score", **figures, parts=shares)
        )
    return records


def _record(case: str, threads: int, who: str, **figures: Any) -> Record:
    return {"case": case, "threads": threads, "who": who, **figures}


SECTIONS: dict[str, Callable[[Arena], list[Record]]] = {
    "fit": fit,
    "score": score,
    "searches": searches,
    "int8": int8,
    "float16": float16,
    "coldstart": coldstart,
}
