"""Figures of `make bench-peers` -> the page: ratios first, then every section's table.

results {"measured": ..., "sections": {name: {"about": ..., "records": [...]}}} -> Markdown. A
record has case, threads, who, seconds, and may have p95, runs, peak_mb and note.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.headlines import OURS, Record, Target, headlines
from benchmarks.harness.tables import table, time_text

_HEAD = ["case", "threads", "", "median", "p95", "runs", "ratio", "peak MB", "ratio", ""]


def page(results: Mapping[str, Any], targets: Sequence[Target]) -> str:
    """Return the whole page."""
    lines = [
        "# Beside other implementations",
        "",
        "Written by `make bench-peers`. Every row of a table was measured in one run, each in a",
        "process of its own, taking turns on the same cores. Machines are shared: trust ratios",
        "before times. A ratio is the other's figure divided by ours, so above 1 we are ahead.",
        "",
        *headlines(results["sections"], targets),
    ]
    for name, section in results["sections"].items():
        lines += ["", f"## {name.capitalize()}", "", section["about"], ""]
        lines += [f"Measured: {section['measured']}.", "", *_table(section["records"])]
    return "\n".join(lines) + "\n"


def _table(records: Sequence[Record]) -> list[str]:
    return table(
        _HEAD, [_cells(record, _ours(records, record)) for record in records], left=(0, 2, 9)
    )


def _cells(record: Record, base: Record) -> list[str]:
    return [
        record["case"],
        str(record["threads"]),
        record["who"],
        time_text(record["seconds"]),
        time_text(record.get("p95")),
        str(record.get("runs", "")),
        _ratio(record, base, "seconds"),
        f"{record['peak_mb']:.0f}" if record.get("peak_mb") else "",
        _ratio(record, base, "peak_mb"),
        record.get("note", ""),
    ]


def _ours(records: Sequence[Record], like: Record) -> Record:
    """Return our record of the same case and threads, or None."""
    for record in records:
        same = record["case"] == like["case"] and record["threads"] == like["threads"]
        if same and record["who"] == OURS:
            return record
    return {}


def _ratio(record: Record, base: Record, field: str) -> str:
    if record.get(field) and base.get(field):
        return f"{record[field] / base[field]:.2f}"
    return ""
