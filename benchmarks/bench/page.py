"""Figures of `make bench` -> the page: ratios and their aims first, then the sections' tables.

results {"sections": {name: {"measured": ..., "records": [...]}}} -> Markdown.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bench.targets import ABOUT, TARGETS
from benchmarks.harness.headlines import Record, headlines
from benchmarks.harness.tables import table, time_text

ORDER = ("fit", "score", "searches", "int8", "float16", "coldstart")


def page(results: Mapping[str, Any]) -> str:
    """Return the whole page."""
    sections = results["sections"]
    lines = [
        "# Measured on this machine",
        "",
        "Written by `make bench`; random weights where they say nothing about speed",
        "(wide_resnet50_2), ImageNet's for resnet18. Machines are shared: trust ratios, whose two",
        "sides take turns in one run, before times.",
        "",
        *headlines(sections, TARGETS),
    ]
    for name in (name for name in ORDER if name in sections):
        section = sections[name]
        title, about = ABOUT[name]
        lines += ["", f"## {title}", "", about, "", f"Measured: {section['measured']}.", ""]
        lines += _TABLES[name](section["records"])
    return "\n".join(lines) + "\n"


def _fit(records: Sequence[Record]) -> list[str]:
    stages = list(dict.fromkeys(stage for record in records for stage in record["stages"]))
    rows = []
    for record in records:
        cells = [f"{record['stages'].get(stage, 0):.1f}" for stage in stages]
        after = record["seconds"] - record["stages"]["start MindSpore"]
        rows.append([record["case"], *cells, f"{after:.1f}", f"{record['peak_mb']:.0f}"])
    return table(["case", *stages, "total after import", "peak MB"], rows)


def _score(records: Sequence[Record]) -> list[str]:
    best = limits(records)
    head = ["case", "threads", "part", "median", "p95", "p99", "peak MB"]
    rows = [
        [*_who(record), *_times(record), *_work(record, best.get(record["threads"]))]
        for record in records
        if "seconds" in record
    ]
    shown = [
        f"{threads} thread{'s'[: threads - 1]}: {gflops:.0f} GFLOP/s"
        for threads, gflops in best.items()
    ]
    lines = [f"Limit, the best float32 product of this run: {', '.join(shown)}.", ""]
    return lines + table([*head, "GFLOP", "GFLOP/s", "of the limit"], rows, left=(0, 2))


def limits(records: Sequence[Record]) -> dict[int, float]:
    """Return the GFLOP/s of the best matrix product for each number of threads."""
    best: dict[int, float] = {}
    for record in records:
        if "gflops" in record:
            threads = record["threads"]
            best[threads] = max(best.get(threads, 0.0), record["gflops"])
    return best


def _work(record: Record, limit: float | None) -> Iterator[str]:
    yield f"{record['peak_mb']:.0f}" if "peak_mb" in record else ""
    if "gflop" not in record or not limit:
        yield from ("", "", "")
        return
    speed = record["gflop"] / record["seconds"]
    yield from (f"{record['gflop']:.2f}", f"{speed:.0f}", f"{speed / limit:.0%}")


def _raced(records: Sequence[Record]) -> list[str]:
    head = ["case", "threads", "", "median", "p95", "p99", "to the first", "peak MB"]
    firsts: dict[tuple[str, int], float] = {}
    rows = []
    for record in records:
        first = firsts.setdefault((record["case"], record["threads"]), record["seconds"])
        share = f"{record['seconds'] / first:.2f}"
        rows.append([*_who(record), *_times(record), share, f"{record['peak_mb']:.0f}"])
    return table(head, rows, left=(0, 2))


def _float16(records: Sequence[Record]) -> list[str]:
    head = ["case", "bank", "bank MB", "image AUROC", "largest score difference", "of the score"]
    rows = []
    for record in records:
        cells = [record["case"], record["who"], f"{record['bank_mb']:.1f}"]
        cells.append(f"{record['auroc']:.6f}")
        if "score_change" in record:
            cells += [f"{record['score_change']:.2g}", f"{record['relative_change']:.2%}"]
        rows.append([*cells, "", ""][: len(head)])
    return table(head, rows, left=(0, 1))


def _coldstart(records: Sequence[Record]) -> list[str]:
    parts = list(records[0]["parts"])
    rows = [
        [
            record["case"],
            time_text(record["seconds"]),
            time_text(record["p95"]),
            str(record["runs"]),
        ]
        + [time_text(record["parts"][part]) for part in parts]
        for record in records
    ]
    return table(["case", "median", "p95", "starts", *parts], rows)


def _who(record: Record) -> list[str]:
    return [record["case"], str(record["threads"]), record["who"]]


def _times(record: Record) -> list[str]:
    return [time_text(record.get(name)) for name in ("seconds", "p95", "p99")]


_TABLES: dict[str, Callable[[Sequence[Record]], list[str]]] = {
    "fit": _fit,
    "score": _score,
    "searches": _raced,
    "int8": _raced,
    "float16": _float16,
    "coldstart": _coldstart,
}
