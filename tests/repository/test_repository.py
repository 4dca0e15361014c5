"""The repository keeps its promises: README commands parse, targets exist, traps stay avoided."""

import subprocess

import pytest

from patchcore_runtime.cli import main as runtime_cli
from places import ROOT


def test_make_help_names_every_target_a_user_needs():
    done = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    named = {line.split()[0] for line in done.stdout.splitlines()}
    assert named >= {"demo", "test", "check", "fix", "wheels", "bench", "help"}


@pytest.mark.parametrize("target", ["test", "check"])
def test_the_cpp_runner_is_built_and_tested_with_the_rest(target):
    dry = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(dry, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "ctest" in done.stdout
    # The whole suite comes last: its parity tests need the program.
    assert done.stdout.index("ctest") < done.stdout.rindex(".venv/bin/python -m pytest")
    without = subprocess.run([*dry, "WITH_CPP=no"], cwd=ROOT, check=True, capture_output=True)
    assert b"ctest" not in without.stdout


def test_ci_runs_what_make_check_runs():
    assert "make check" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_folder_named_build_holds_sources_that_git_keeps():
    assert not (ROOT / "build" / "__init__.py").exists()  # it would break `python -m build`
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert not {"build", "build/", "/build/", "/build"} & set(ignored)


def test_the_golden_artifact_passes_its_own_check(capsys):
    assert runtime_cli.main(["check", str(ROOT / "artifacts" / "tiny")]) == 0
    assert "score: ok" in capsys.readouterr().out


def test_the_golden_artifact_stays_small():
    sizes = [path.stat().st_size for path in (ROOT / "artifacts" / "tiny").iterdir()]
    assert sum(sizes) < 100_000
