"""Laws of the layout: rooms import downwards only, every folder is a package, every test is run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

PACKAGES = (ROOT / "runtime" / "patchcore_runtime", ROOT / "build" / "patchcore_build")


@pytest.fixture
def copy(tmp_path):
    """A copy of both packages and the contracts, to plant imports in."""
    for package in PACKAGES:
        shutil.copytree(
            package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder):
    """Exit code and output of import-linter on the packages in a folder."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = 'lint-imports'\n"
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    options = ["--no-cache", "--config", folder / "pyproject.toml"]
    command = [sys.executable, "-c", program, folder, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_rooms_import_downwards_only(copy):
    code, said = lint(copy)
    assert (code, "3 kept, 0 broken" in said) == (0, True), said


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("patchcore_runtime/image/decode.py", "patchcore_runtime.detector"),
        ("patchcore_runtime/engine/session.py", "patchcore_runtime.bank.memory_bank"),
        ("patchcore_runtime/detector.py", "patchcore_build.config"),
        ("patchcore_build/report/html.py", "patchcore_build.fitting.fit"),
        ("patchcore_build/coreset/select.py", "patchcore_build.backbone.network"),
    ],
)
def test_a_planted_upward_or_sideways_import_is_found(copy, importer, imported):
    path = copy / importer
    path.write_text(f"{path.read_text()}\n\ndef planted():\n    import {imported}\n")
    code, said = lint(copy)
    assert code == 1
    assert imported in said


def test_a_room_without_a_place_in_the_layers_is_found(copy):
    room = copy / "patchcore_build" / "attic"
    room.mkdir()
    (room / "__init__.py").write_text("")
    code, said = lint(copy)
    assert code == 1
    assert "patchcore_build.attic" in said


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_folder_with_modules_is_a_package_that_says_what_is_in_it(package):
    """Hatchling would ship one without `__init__`, and no checker would see it."""
    rooms = {path.parent for path in package.rglob("*.py")}
    assert len(rooms) > 10
    for room in rooms:
        lines = (room / "__init__.py").read_text(encoding="utf-8")
        assert lines.startswith('"""'), room
        # Importing a room loads nothing: names are imported from the module that defines them.
        assert room == package or "import" not in lines.split('"""')[2], room


def test_pytest_collects_every_test_file():
    """A file that pytest passes by would be green for ever."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("needs git's list of files; a clone of the repository runs it")
    names = [name for name in listed.stdout.split() if Path(name).name.startswith("test_")]
    there = {name for name in names if name.endswith(".py") and (ROOT / name).exists()}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    collected = {
        line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("tests/")
    }
    assert len(there) > 80
    assert collected == there


def test_no_file_of_the_repository_is_ignored_by_git():
    """Global ignore files often name folders such as build/ or data/."""
    sources = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in package.rglob("*")
        if path.suffix in {".py", ".css", ".csv", ".j2", ".js", ".typed"}
        and "__pycache__" not in path.parts
    ]
    done = subprocess.run(
        ["git", "check-ignore", *sources], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert len(sources) > 150
