"""Includes of the C++ runner point one way, in the layers that the Python packages have, too."""

import re
from pathlib import Path

import pytest

from places import ROOT

SOURCES = ROOT / "ascend310_infer"
# From the top down; a file may include what is below its own layer, and files of its own room.
LAYERS = (
    {"cli", "capi"},
    {"selftest"},
    {"detector"},
    {"scoring", "explain"},
    {"search"},
    {"artifact"},
    {"engine", "bank", "image"},
    {"manifest"},
    {"files"},
    {
        "errors",
        "tensor",
        "half",
        "messages",
        "cores",
        "threads",
        "version",
        "function_clones",
        "memory_budget",
    },
)
LEVELS = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
NOT_THE_PROGRAM = {"tests", "fuzz"}  # they may include any of it
FOREIGN = "include/api/"  # MindSpore's own headers, named as its documentation names them
TABLES = ".csv"  # numbers that both languages read


def program_files(root):
    """Every source and header of the program, by its path from the root."""
    files = [path for kind in ("hpp", "cpp", "h") for path in root.rglob(f"*.{kind}")]
    paths = [path.relative_to(root) for path in files]
    return sorted(path for path in paths if path.parts[0] not in NOT_THE_PROGRAM)


def room_of(path):
    """The folder of a file; of a file beside CMakeLists.txt its name."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def includes_of(root, path):
    text = (root / path).read_text()
    found = re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE)
    return [name for name in found if not name.startswith(FOREIGN) and not name.endswith(TABLES)]


def complaints(root):
    """One line for each include that breaks the order, and for each unknown room or header."""
    lines = []
    for path in program_files(root):
        room = room_of(path)
        if room not in LEVELS:
            lines.append(f"{path}: {room} is in no layer")
            continue
        for name in includes_of(root, path):
            target = room_of(Path(name))
            if not (root / name).is_file():
                lines.append(f"{path}: {name}: no such header below {root.name}")
            elif target not in LEVELS:
                lines.append(f"{path}: {target} is in no layer")
            elif target != room and LEVELS[target] <= LEVELS[room]:
                lines.append(f"{path} includes {name}, which is not below it")
    return lines


def test_includes_point_downwards_only():
    assert len(program_files(SOURCES)) > 50
    assert complaints(SOURCES) == []


def test_every_room_of_the_layers_exists():
    assert {room_of(path) for path in program_files(SOURCES)} == set(LEVELS)


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("bank/memory_bank.hpp", '#include "search/exact.hpp"', "which is not below it"),
        ("engine/backend.cpp", '  # include "bank/memory_bank.hpp"', "which is not below it"),
        ("errors.hpp", '#include "tensor.hpp"', "which is not below it"),
        ("files/protobuf.cpp", '#include "strict_json.hpp"', "no such header"),
        ("attic/new.cpp", '#include "errors.hpp"', "attic is in no layer"),
        ("helpers.hpp", "", "helpers is in no layer"),
    ],
)
def test_the_law_sees_a_planted_breach(file, line, complaint, tmp_path):
    for path in program_files(SOURCES):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((SOURCES / path).read_text())
    planted = tmp_path / file
    planted.parent.mkdir(exist_ok=True)
    before = planted.read_text() if planted.exists() else ""
    planted.write_text(f"{line}\n{before}")
    (found,) = complaints(tmp_path)
    assert found.startswith(file)
    assert complaint in found


def test_tests_and_harnesses_include_by_path_from_the_root():
    paths = [*(SOURCES / "tests").rglob("*.?pp"), *(SOURCES / "fuzz").rglob("*.?pp")]
    assert len(paths) > 30
    for path in paths:
        for name in includes_of(SOURCES, path.relative_to(SOURCES)):
            assert (SOURCES / name).is_file(), f"{path}: {name}"
