"""The options of the C++ runner are described where a user looks."""

import re

from cpp_binary import needs_binary
from cpp_runs import run
from places import ROOT

pytestmark = needs_binary


def test_the_page_of_options_names_what_the_help_names():
    page = (ROOT / "docs" / "reference" / "cli-infer.md").read_text(encoding="utf-8")
    table = page.partition("\n## Options\n")[2].partition("\n### ")[0]
    described = set(
        re.findall(r"`(--[a-z-]+)`", "\n".join(re.findall(r"^\| ([^|]*)", table, re.MULTILINE)))
    )
    code, shown, _ = run("--help")
    assert code == 0
    assert described == set(re.findall(r"^ +(?:-h,)?(--[a-z-]+)", shown, re.MULTILINE))
    assert len(described) > 10
