"""The commands print JSON and errors through one module, which escapes what a terminal obeys."""

import ast

import pytest

from places import ROOT

ROOMS = [ROOT / "runtime/patchcore_runtime/cli", ROOT / "build/patchcore_build/cli"]
PRINTER = "terminal.py"


def raw_printing(source):
    """Return the lines that print JSON, or write to a standard stream, without the printer."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node)
        if text.startswith("print(") and ("json.dumps" in text or "file=sys.stderr" in text):
            found.append(node.lineno)
        if text.startswith(("sys.stdout.write", "sys.stderr.write")):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.parent.name)
def test_json_and_errors_go_through_the_printer(room):
    raw = {
        path.name: lines
        for path in sorted(room.glob("*.py"))
        if path.name != PRINTER and (lines := raw_printing(path.read_text(encoding="utf-8")))
    }
    assert raw == {}


@pytest.mark.parametrize(
    "planted", ["print(json.dumps(x))", "print('x', file=sys.stderr)", "sys.stderr.write('x')"]
)
def test_a_planted_print_is_found(planted):
    assert raw_printing(planted) == [1]
