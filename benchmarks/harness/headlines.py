"""What a benchmark is to show: one record's figure, or its ratio to another's, against an aim.

records of sections + targets -> a table with verdicts. A record has case, threads, who, seconds,
and may have p95, p99, runs, peak_mb, note and figures of its section's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.tables import table

Record = dict[str, Any]
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Target:
    """How many times as much a peer takes as one of ours; without `us`, what it takes itself."""

    words: str
    section: str
    case: str
    peer: str
    at_least: float | None = None
    at_most: float | None = None  # with neither, the figure is told without a verdict
    us: str | None = OURS
    field: str = "seconds"


def headlines(sections: Mapping[str, Any], targets: Sequence[Target]) -> list[str]:
    """One line per target and number of threads, as far as both were measured."""
    rows = []
    for target in targets:
        records = sections.get(target.section, {"records": []})["records"]
        for threads in sorted({record["threads"] for record in records}, reverse=True):
            measured = ratio(records, target, threads)
            if measured is not None:
                aim, verdict = judge(target, measured)
                rows.append([target.words, str(threads), aim, f"**{measured:.2f}**", verdict])
    return table(["ratio", "threads", "aim", "measured", ""], rows, left=(0, 4))


def ratio(records: Sequence[Record], target: Target, threads: int) -> float | None:
    """The peer's figure by ours; `None` where one of them was not measured."""
    figures: dict[str | None, float | None] = {
        record["who"]: record.get(target.field)
        for record in records
        if record["case"] == target.case and record["threads"] == threads
    }
    theirs = figures.get(target.peer)
    ours = figures.get(target.us) if target.us is not None else 1.0
    return theirs / ours if theirs and ours else None


def judge(target: Target, measured: float) -> tuple[str, str]:
    """The aim and whether it was reached, in words."""
    if target.at_least is not None:
        aim, reached = f"≥ {target.at_least:g}", measured >= target.at_least
    elif target.at_most is not None:
        aim, reached = f"≤ {target.at_most:g}", measured <= target.at_most
    else:
        return "", ""
    return aim, "reached" if reached else "not reached"
