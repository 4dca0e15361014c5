"""The page of `make trust`: what is wrong is counted and shown; equal answers share a line."""

from benchmarks.trust.page import page


def _record(program, result, wrong=""):
    return {
        "program": program, "kind": "bank", "case": "a <case> | of two", "result": result,
        "wrong": wrong, "seconds": 0.25, "grown_mib": 3.0,
    }  # fmt: skip


def _page(*records):
    section = {"about": "About.", "measured": "today", "records": list(records)}
    return page({"sections": {"artifacts": section}})


def test_programs_that_say_the_same_share_a_line():
    text = _page(_record("Python", "refused"), _record("C++", "refused"))
    assert "2 cases, 0 not as they must be, 0 crashes or hangs" in text
    assert text.count(r"a &lt;case> \| of two") == 1
    assert "| Python, C++ | refused |" in text
    assert "| bank | Python | 1 | 1 | 0.25 s | 3 MiB |" in text


def test_what_is_wrong_is_counted_and_stands_out():
    bad = _record("C++", "dies with -11", wrong="a case: dies with -11")
    text = _page(_record("Python", "refused"), bad)
    assert "2 cases, 1 not as they must be, 1 crashes or hangs" in text
    assert "**WRONG: a case: dies with -11**" in text
    assert "| bank | C++ | 1 | 0 |" in text
