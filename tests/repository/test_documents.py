"""Every code block of the documents is run or checked, or says why it is not."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from patchcore_build.cli import main as build_cli
from patchcore_runtime.cli import main as runtime_cli
from places import ROOT, TINY

PARSERS = {"patchcore-build": build_cli._parser, "patchcore-runtime": runtime_cli._parser}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "runtime" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block."""

    where: str
    kind: str
    body: str
    excused: bool


def _blocks():
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            before = text[: fence.start()].rstrip().splitlines()
            number = text.count("\n", 0, fence.start()) + 1
            yield Block(
                where=f"{path.relative_to(ROOT)}:{number}",
                kind=fence["kind"].strip(),
                body=fence["body"],
                excused=bool(before) and NOT_RUN.fullmatch(before[-1].strip()) is not None,
            )


BLOCKS = list(_blocks())


def _lines(block):
    """Commands of a console block, continued lines joined."""
    for line in block.body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def _commands():
    for block in BLOCKS:
        if block.kind == "console":
            for words in _lines(block):
                if words[0] in PARSERS:
                    yield pytest.param(words, id=f"{block.where}: {' '.join(words)[:60]}")


def test_the_documents_have_blocks_of_every_kind():
    kinds = {block.kind for block in BLOCKS}
    assert kinds >= {"console", "python", "json", "text"}
    assert len(BLOCKS) > 60


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_is_checked_or_says_why_not(block):
    if block.excused or block.kind.startswith("{"):  # a directive: the site's build checks it
        return
    if block.kind == "console":
        known = [words for words in _lines(block) if words[0] in (*PARSERS, "make", "pip")]
        assert known, f"{block.where}: no command that a test knows; mark the block as not run"
    elif block.kind == "text":
        assert block.where.startswith("README.md"), f"{block.where}: mark the drawing as not run"
    else:
        assert block.kind in ("python", "json"), block.where


@pytest.mark.parametrize("words", list(_commands()))
def test_every_command_is_understood(words):
    arguments = PARSERS[words[0]]().parse_args(words[1:])
    assert callable(arguments.run)


def test_every_make_target_exists():
    named = {
        word
        for block in BLOCKS
        if block.kind == "console"
        for words in _lines(block)
        if words[0] == "make"
        for word in words[1:]
        if "=" not in word
    }
    assert {"demo", "test"} <= named <= TARGETS


PYTHON = [block for block in BLOCKS if block.kind == "python" and not block.excused]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_python_runs(block, tmp_path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "bottle").symlink_to(TINY)
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    subprocess.run([sys.executable, "-c", block.body], check=True, cwd=tmp_path)


def test_json_is_what_score_prints(capsys):
    (sample,) = (
        json.loads(block.body)
        for block in BLOCKS
        if block.kind == "json" and block.where.startswith("runtime/README.md")
    )
    assert runtime_cli.main(["score", str(TINY), str(TINY / "selftest.png")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == list(sample)
    assert [type(value) for value in printed.values()] == [type(v) for v in sample.values()]


def _table_keys(text, heading):
    """First cells of the table under a heading, without back-ticks."""
    part = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", part, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("document", ["runtime/README.md", "docs/reference/json-output.md"])
def test_every_key_of_score_is_described(document, tmp_path, capsys):
    options = ["--maps", str(tmp_path / "maps"), "--regions", "--explain", str(tmp_path / "why")]
    image = str(TINY / "selftest.png")
    runtime_cli.main(["score", str(TINY), image, str(tmp_path / "absent.png"), *options])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    heading = "The JSON of `score`" if document.startswith("runtime") else "score"
    described = _table_keys((ROOT / document).read_text(encoding="utf-8"), heading)
    assert {key for line in printed for key in line} <= described


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1200


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(path):
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_results_page_is_on_the_site():
    pages = {path.name for path in (ROOT / "benchmarks" / "results").glob("*.md")}
    shown = {path.name for path in (ROOT / "docs" / "reference" / "results").glob("*.md")}
    assert pages == shown - {"index.md"}
    for name in pages:
        stub = (ROOT / "docs" / "reference" / "results" / name).read_text(encoding="utf-8")
        assert f"benchmarks/results/{name}" in stub


def test_the_layers_that_are_drawn_are_those_that_are_checked():
    """The page asks the contracts in pyproject.toml; it holds no drawing of its own."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert "```{layers} patchcore_runtime" in page
    assert "```{layers} patchcore_build" in page


def test_documents_name_no_path_of_a_machine():
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(root|home|work|Users)/", text), Path(path).name
