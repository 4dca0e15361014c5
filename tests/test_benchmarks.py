"""The page of `make bench-peers`: ratios, verdicts, and sections measured at different times."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def peers_table(monkeypatch):
    """The module; benchmarks are programs, so their folder is on the path only while they run."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers_table

    yield peers_table
    del sys.modules["peers_table"]


def record(who, seconds, *, threads=2, case="1 %", **more):
    return {"case": case, "threads": threads, "who": who, "seconds": seconds, **more}


def section(*records):
    return {"about": "About.", "measured": "today", "records": list(records)}


def target(peers_table, at_least, **more):
    return peers_table.Target(
        words="x / ours", section="fit", case="1 %", peer="x", at_least=at_least, **more
    )


def test_a_ratio_is_the_peers_figure_by_ours_of_the_same_case_and_threads(peers_table):
    records = [
        record("ours", 2.0),
        record("x", 8.0),
        record("ours", 1.0, threads=1),
        record("x", 3.0, threads=1),
        record("x", 90.0, case="10 %"),
    ]
    assert peers_table.ratio(records, target(peers_table, 1), 2) == 4.0
    assert peers_table.ratio(records, target(peers_table, 1), 1) == 3.0


def test_a_ratio_can_be_one_of_memory_or_stand_on_another_of_our_rows(peers_table):
    records = [
        record("ours", 2.0, peak_mb=100),
        record("ours, int8", 1.0),
        record("x", 8.0, peak_mb=250),
    ]
    assert peers_table.ratio(records, target(peers_table, 2, field="peak_mb"), 2) == 2.5
    assert peers_table.ratio(records, target(peers_table, 3, us="ours, int8"), 2) == 8.0


def test_what_was_not_measured_has_no_ratio_and_no_headline(peers_table):
    results = {"sections": {"fit": section(record("x", 8.0))}}
    aim = target(peers_table, 3)
    assert peers_table.ratio(results["sections"]["fit"]["records"], aim, 2) is None
    assert "x / ours" not in peers_table.page(results, [aim])


@pytest.mark.parametrize(("theirs", "verdict"), [(8.0, "reached"), (7.9, "not reached")])
def test_a_headline_says_whether_the_aim_was_reached(peers_table, theirs, verdict):
    results = {"sections": {"fit": section(record("ours", 1.0), record("x", theirs))}}
    line = f"| x / ours | 2 | ≥ 8 | **{theirs:.2f}** | {verdict} |"
    assert line in peers_table.page(results, [target(peers_table, 8)]).splitlines()


def test_every_row_of_a_table_has_as_many_cells_as_its_head(peers_table):
    full = record("ours", 0.01, p95=0.02, runs=3, peak_mb=10.0, note="n")
    results = {"sections": {"fit": section(full, record("x", 2.0))}}
    rows = [line for line in peers_table.page(results, []).splitlines() if "|" in line][2:]
    assert {row.count("|") for row in rows} == {11}
    assert "| x | 2.0 s |  |  | 200.00 |  |  |  |" in rows[-1]


def test_merging_replaces_the_sections_measured_now_and_keeps_the_others(peers_table):
    old = {"sections": {"fit": section(record("ours", 1.0)), "search": section()}}
    new = {"sections": {"fit": section(record("ours", 2.0))}}
    merged = peers_table.merged(old, new)
    assert merged["sections"]["fit"] == new["sections"]["fit"]
    assert merged["sections"]["search"] == old["sections"]["search"]
    assert old["sections"]["fit"]["records"][0]["seconds"] == 1.0
