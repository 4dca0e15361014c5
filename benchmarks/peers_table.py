"""Figures of `make bench-peers` -> the page: ratios first, then every section's table.

results {"measured": ..., "sections": {name: {"about": ..., "records": [...]}}} -> Markdown. A
record has case, threads, who, seconds, and may have p95, runs, peak_mb and note.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Target:
    """How many times as much a peer has to take as one of ours."""

    words: str
    section: str
    case: str
    peer: str
    at_least: float
    us: str = OURS
    field: str = "seconds"


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old results with the sections just measured in place of their former selves."""
    sections = dict(old.get("sections", {})) | dict(new["sections"])
    return dict(old) | dict(new) | {"sections": sections}


def page(results: Mapping[str, Any], targets: Sequence[Target]) -> str:
    """The whole page."""
    lines = [
        "# Beside other implementations",
        "",
        "Written by `make bench-peers`. Every row of a table was measured in one run, each in a",
        "process of its own, taking turns on the same cores. Machines are shared: trust ratios",
        "before times. A ratio is the other's figure divided by ours, so above 1 we are ahead.",
        "",
        *_headlines(results["sections"], targets),
    ]
    for name, section in results["sections"].items():
        lines += ["", f"## {name.capitalize()}", "", section["about"], ""]
        lines += [f"Measured: {section['measured']}.", "", *_table(section["records"])]
    return "\n".join(lines) + "\n"


def _headlines(sections: Mapping[str, Any], targets: Sequence[Target]) -> list[str]:
    lines = ["| ratio | threads | aim | measured | |", "|---|--:|--:|--:|---|"]
    for target in targets:
        records = sections.get(target.section, {"records": []})["records"]
        for threads in sorted({record["threads"] for record in records}, reverse=True):
            measured = ratio(records, target, threads)
            if measured is None:
                continue
            verdict = "reached" if measured >= target.at_least else "not reached"
            aim, got = f"≥ {target.at_least:g}", f"**{measured:.2f}**"
            lines.append(f"| {target.words} | {threads} | {aim} | {got} | {verdict} |")
    return lines


def ratio(records: Sequence[Record], target: Target, threads: int) -> float | None:
    """The peer's figure by ours; `None` where one of them was not measured."""
    figures = {
        record["who"]: record.get(target.field)
        for record in records
        if record["case"] == target.case and record["threads"] == threads
    }
    theirs, ours = figures.get(target.peer), figures.get(target.us)
    return theirs / ours if theirs and ours else None


def _table(records: Sequence[Record]) -> list[str]:
    lines = [
        "| case | threads | | median | p95 | runs | ratio | peak MB | ratio | |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for record in records:
        base = _ours(records, record)
        cells = [
            record["case"],
            str(record["threads"]),
            record["who"],
            _time(record["seconds"]),
            _time(record.get("p95")),
            str(record.get("runs", "")),
            _ratio(record, base, "seconds"),
            f"{record['peak_mb']:.0f}" if record.get("peak_mb") else "",
            _ratio(record, base, "peak_mb"),
            record.get("note", ""),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _ours(records: Sequence[Record], like: Record) -> Record:
    """Our record of the same case and threads, or nothing."""
    for record in records:
        same = record["case"] == like["case"] and record["threads"] == like["threads"]
        if same and record["who"] == OURS:
            return record
    return {}


def _ratio(record: Record, base: Record, field: str) -> str:
    if record.get(field) and base.get(field):
        return f"{record[field] / base[field]:.2f}"
    return ""


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
