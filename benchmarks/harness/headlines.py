"""The headlines of a benchmark: one record's figure, or a ratio of two, compared with an aim.

records of sections + targets -> a table with verdicts. A record has case, threads, who, seconds,
and may have p95, p99, runs, peak_mb, note and other figures of its section.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.tables import table

Record = dict[str, Any]
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The aimed ratio of a peer's figure to ours; without `us`, the aim of the figure itself."""

    words: str
    section: str
    case: str
    peer: str
    at_least: float | None = None
    at_most: float | None = None  # with neither, the figure has no verdict
    us: str | None = OURS
    field: str = "seconds"


def headlines(sections: Mapping[str, Any], targets: Sequence[Target]) -> list[str]:
    """Return one line per target and number of threads, if both figures were measured."""
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
    """Divide the peer's figure by ours; `None` if one of them was not measured."""
    figures: dict[str | None, float | None] = {
        record["who"]: record.get(target.field)
        for record in records
        if record["case"] == target.case and record["threads"] == threads
    }
    theirs = figures.get(target.peer)
    ours = figures.get(target.us) if target.us is not None else 1.0
    return theirs / ours if theirs and ours else None


def judge(target: Target, measured: float) -> tuple[str, str]:
    """Describe the aim and whether it was reached."""
    if target.at_least is not None:
        aim, reached = f"≥ {target.at_least:g}", measured >= target.at_least
    elif target.at_most is not None:
        aim, reached = f"≤ {target.at_most:g}", measured <= target.at_most
    else:
        return "", ""
    return aim, "reached" if reached else "not reached"
