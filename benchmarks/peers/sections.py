"""The sections of `make bench-peers`: contestants and their jobs -> records for the page.

Every record has case, threads, who, seconds and the other figures of the page (`table`).
"""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.arena.race import Contestant, Record, race, summary
from benchmarks.peers.arena import AMAZON, ANOMALIB, OURS, SEARCH, Arena
from benchmarks.peers.targets import INT8, OPENVINO, SHARES, TORCH, WIDE

SEARCH_ROWS = (15_680, 1_638)  # 10 % of 200 images' patches, 1 % of 209 images'


def fit(arena: Arena) -> list[Record]:
    """Fit each once: a fit is long enough to average over itself."""
    return [
        record
        for threads, backbone in product(arena.threads, arena.backbones)
        for record in _fit(arena, backbone, threads)
    ]


def _fit(arena: Arena, backbone: str, threads: int) -> Iterator[Record]:
    dim = 1536 if backbone == WIDE else 384
    patches = arena.patches()
    shared = {"backbone": backbone, "weights": arena.weights(backbone)}
    for share in SHARES:
        answer = arena.stable.once(arena.fit_job(backbone, arena.rows(share)), threads)
        yield _record(f"{backbone}, {share}", threads, "ours", **_our_fit(answer["result"]))
    job = shared | {"task": "fit", "images": arena.images(), "ratio": SHARES["1 %"]}
    bank = str(arena.stable.folder / f"amazon-{backbone}.npy")
    start = {"task": "projection", "rows": patches, "dim": dim}
    for who, program in (("anomalib", ANOMALIB), ("amazon's method", AMAZON)):
        imports = arena.stable.once((program, {"task": "imports"}), threads)["peak_mb"]
        answer = arena.stable.once((program, job | {"bank": bank}), threads)
        before = 0.0
        if program == ANOMALIB:  # its coreset's seconds include the projection
            before = arena.stable.once((program, start), threads)["seconds"][0]
        stages, peak = answer["result"]["stages"], answer["peak_mb"]
        note = f"imports alone {imports:.0f} MB"
        yield _record(
            f"{backbone}, 1 %", threads, who,
            seconds=sum(stages.values()), runs=1, peak_mb=peak, note=f"{_told(stages)}; {note}",
        )  # fmt: skip
        if arena.full:
            job10 = job | {"bank": bank, "ratio": SHARES["10 %"]}
            answer = arena.stable.once((program, job10), threads)
            stages, peak = answer["result"]["stages"], answer["peak_mb"]
        else:
            picks = arena.rows("10 %") / arena.rows("1 %")
            stages = stages | {"coreset": before + (stages["coreset"] - before) * picks}
            note = f"loop extrapolated from its {arena.rows('1 %')} picks at 1 %"
        yield _record(
            f"{backbone}, 10 %", threads, who,
            seconds=sum(stages.values()), runs=1, peak_mb=peak, note=f"{_told(stages)}; {note}",
        )  # fmt: skip


def _our_fit(result: Record) -> Record:
    stages = result["stages"]
    counted = {name: stages[name] for name in ("features", "projection", "coreset")}
    return {
        "seconds": sum(counted.values()),
        "runs": 1,
        "peak_mb": result["peak_mb"],
        "note": f"{_told(counted)}; whole fit {sum(stages.values()):.0f} s, whose peak this is",
    }


def inference(arena: Arena) -> list[Record]:
    """Score one image; all contestants take turns."""
    quantize = arena.can_quantize()
    records: list[Record] = []
    for backbone, share in product(arena.backbones, SHARES):
        contestants = dict(_scorers(arena, backbone, share, quantize=quantize))
        for threads in arena.threads:
            figures = race(
                arena.stable,
                contestants,
                threads=threads,
                rounds=arena.rounds,
                laps=arena.laps,
                warm_up=arena.laps,
            )
            for who, figure in figures.items():
                result = figure.pop("result")
                note = f"score {result['score']:.6g}"
                if "precision" in result:
                    note += f", runs in {result['precision']}"
                records.append(_record(f"{backbone}, {share}", threads, who, **figure, note=note))
    return records


def _scorers(
    arena: Arena, backbone: str, share: str, *, quantize: bool
) -> Iterator[tuple[str, Contestant]]:
    rows = arena.rows(share)
    image = {"image": arena.images("test.npy")}
    network = image | {"backbone": backbone, "weights": arena.weights(backbone)}
    yield (
        "ours",
        (OURS, image | {"task": "inference", "artifact": arena.artifact(backbone, rows)}),
    )
    if quantize:
        artifact = arena.artifact(backbone, rows, "int8")
        yield INT8, (OURS, image | {"task": "inference", "artifact": artifact})
    bank = arena.bank(backbone, rows)["bank"]
    yield TORCH, (ANOMALIB, network | {"task": "torch", "bank": bank})
    exported = str(arena.stable.folder / f"openvino-{backbone}-{rows}")
    job = network | {"bank": bank, "folder": exported}
    arena.stable.once((ANOMALIB, job | {"task": "export"}), max(arena.threads))
    for who, precision in ((OPENVINO, "f32"), ("anomalib, OpenVINO as it comes", None)):
        yield who, (ANOMALIB, job | {"task": "openvino", "precision": precision})
    bank = str(arena.stable.folder / f"amazon-{backbone}.npy")
    if not Path(bank).is_file():
        job = {"task": "fit", "images": arena.images(), "ratio": SHARES["1 %"], "bank": bank}
        arena.stable.once((AMAZON, network | job), max(arena.threads))
    yield "amazon's method", (AMAZON, network | {"task": "inference", "bank": bank, "rows": rows})


def search(arena: Arena) -> list[Record]:
    """Find the nearest row of each of 784 patches."""
    records: list[Record] = []
    for threads, rows in product(arena.threads, SEARCH_ROWS):
        shared = arena.bank(WIDE, rows)
        artifact = arena.artifact(WIDE, rows)
        ours = {"task": "search", "artifact": artifact, "image": arena.images("test.npy")}
        contestants = {
            "ours": (OURS, ours | {"search": "exact"}),
            "ours, --search pca": (OURS, ours | {"search": "pca"}),
            "faiss IndexFlatL2": (SEARCH, shared | {"task": "faiss"}),
            "scikit-learn brute": (SEARCH, shared | {"task": "scikit-learn"}),
        }
        figures = race(
            arena.stable, contestants, threads=threads, rounds=arena.rounds, laps=2, warm_up=1
        )
        winners = figures["ours"]["result"]["rows"]
        for who, figure in figures.items():
            theirs = figure.pop("result")["rows"]
            same = sum(a == b for a, b in zip(winners, theirs, strict=True))
            note = "" if who == "ours" else f"{same} of {len(winners)} winners are ours"
            case = f"{len(winners)} x {rows:,} x 1536"
            records.append(_record(case, threads, who, **figure, note=note))
    return records


def coreset(arena: Arena) -> list[Record]:
    """Run greedy k-centre on real projected features."""
    records: list[Record] = []
    features = {"features": arena.features()}
    slow = {
        "NumPy gemv loop": (OURS, "numpy loop"),
        "torch loop, cdist": (ANOMALIB, "torch loop"),
        "anomalib KCenterGreedy": (ANOMALIB, "coreset"),
    }
    for threads in arena.threads:
        jobs = {
            share: (OURS, features | {"task": "coreset", "count": arena.rows(share)})
            for share in SHARES
        }
        ours = race(arena.stable, jobs, threads=threads, rounds=3)
        records += [_record(s, threads, "ours", **_plain(ours[s])) for s in SHARES]
        for who, (program, task) in slow.items():
            job = features | {"task": task, "count": arena.rows("1 %")}
            figure = _plain(summary(*_once(arena, (program, job), threads)))
            records.append(_record("1 %", threads, who, **figure))
            factor = (arena.rows("10 %") - 1) / (arena.rows("1 %") - 1)
            note = "extrapolated from 1 %"
            if arena.full:
                job["count"] = arena.rows("10 %")
                figure, note = _plain(summary(*_once(arena, (program, job), threads))), ""
            else:
                figure["seconds"] *= factor
            figure["p95"] = None
            records.append(_record("10 %", threads, who, **figure, note=note))
    return sorted(records, key=lambda record: (-record["threads"], len(record["case"])))


def _once(arena: Arena, contestant: Contestant, threads: int) -> tuple[list[float], Record]:
    answer = arena.stable.once(contestant, threads)
    return answer["seconds"], answer


def _plain(figure: Record) -> Record:
    return {name: value for name, value in figure.items() if name != "result"}


def _record(case: str, threads: int, who: str, **figures: Any) -> Record:
    return {"case": case, "threads": threads, "who": who, **figures}


def _told(stages: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items()) + " s"


ABOUT = {
    "fit": """\
Features of all bottle images (224 px) and their coreset: for us the stages features, projection
and coreset of `patchcore-build fit`, for anomalib the forward passes (batches of 8, like ours) and
`subsample_embedding`. Decoding is counted on neither side. Our peak memory is that of the whole
command, exports and calibration included; the peers' is that of these two steps alone, of which
the imports of a CUDA build of torch are a part: a CPU build needs less.""",
    "inference": """\
One preprocessed image to score and map: `Detector.predict_input` (which also normalises) against
the forward pass on a tensor that is normalised already. The same weights, image and bank, so the
scores must agree, int8 roughly; amazon's method has its own vectors and a bank of the same number
of rows, and its score is a squared distance. The OpenVINO process imports no torch.""",
    "search": """\
Exact nearest row of each patch of one image; the peers get the whole patch vectors, we the two
layers as they leave the network.""",
    "coreset": """\
Greedy k-centre on projected ResNet-18 features of the bottle images (all 209: 163,856 x 296).""",
}
SECTIONS: dict[str, Callable[[Arena], list[Record]]] = {
    "fit": fit,
    "inference": inference,
    "search": search,
    "coreset": coreset,
}
