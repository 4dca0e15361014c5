"""Every option that a message, a help text or a document names exists in the parser it is for."""

import argparse
import ast
import re
from pathlib import Path

import pytest

from patchcore_build.cli.main import _parser as build_parser
from patchcore_runtime.cli.main import _parser as runtime_parser
from places import ROOT

OPTION = re.compile(r"(?<![\w/-])--[a-z][a-zA-Z0-9_-]*\w")
# Sentences that advise something without naming an option of that kind.
VAGUE = re.compile(r"\ballow \w+ing\b")
PACKAGES = ("build/patchcore_build", "runtime/patchcore_runtime")
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "runtime/README.md")),
    ROOT / "artifacts" / "FORMAT.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Commands of others whose options the documents name, in a code span or a line of a block.
OTHERS = re.compile(
    r"\b(apt-get|bash|cmake|converter_lite|ctest|docker|git|make|npm|openssl|tritonserver|pip3?|pytest|python3?|ruff|"
    r"benchmarks?|clang|mypy|sphinx|uv|virtualenv|patchcore_infer|run_infer_cpp|run_infer_cpp\.sh)\b"
)


def options(parser):
    """Return every option of a parser and of its commands."""
    found = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options(command)
    return found


RUNTIME, BUILD = options(runtime_parser()), options(build_parser())
CPP_SOURCE = "".join(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "ascend310_infer").rglob("*.[ch]pp"))
    if "tests" not in path.parts
)
CPP = set(OPTION.findall(CPP_SOURCE))


def strings(path):
    """Yield every string of a module, with its line, docstrings and f-strings among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def modules():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_message_names_options_that_exist(path):
    known = BUILD | RUNTIME | CPP  # the workshop's messages may advise the line's options
    if "patchcore_runtime" in path.parts:
        known = RUNTIME | {
            "--keep-thumbnails",
            "--output",
            "--roi",
            "--white-level",
        }  # of fit, in help texts
    for line, text in strings(path):
        unknown = set(OPTION.findall(text)) - known
        assert not unknown, f"{path.relative_to(ROOT)}:{line}: {unknown}"
        assert not VAGUE.search(text), f"{path.relative_to(ROOT)}:{line}: name the option"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_options_that_exist(path):
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    if path.name.startswith("coming-from-"):  # the first column names another project's
        text = re.sub(r"^\|[^|\n]*\|", "", text, flags=re.MULTILINE)
    for line in text.splitlines():
        if OTHERS.search(line):
            continue
        unknown = set(OPTION.findall(line)) - BUILD - RUNTIME - CPP
        assert not unknown, f"{path.relative_to(ROOT)}: {line}"


def test_this_test_finds_an_option_that_does_not_exist():
    assert set(OPTION.findall("use --no-such or --threads")) - RUNTIME == {"--no-such"}
    assert {"--threads", "--search"} <= RUNTIME & CPP
    assert Path(ROOT / "build").is_dir()
