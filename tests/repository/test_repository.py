"""The repository keeps its promises: README commands parse, targets exist, traps stay avoided."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from patchcore_build.cli import main as build_cli
from patchcore_runtime.cli import main as runtime_cli
from places import ROOT

PARSERS = {"patchcore-build": build_cli._parser, "patchcore-runtime": runtime_cli._parser}
READMES = ("README.md", "runtime/README.md")


def _blocks(readme, language):
    """Fenced blocks of a language, each with its lines; fences open and close in turn."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    pieces = re.split(r"^```(.*)\n", text, flags=re.MULTILINE)
    blocks = zip(pieces[1::4], pieces[2::4], strict=True)
    return [block for opened, block in blocks if opened == language]


def _commands():
    for readme in READMES:
        for block in _blocks(readme, ""):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] in PARSERS:
                    yield pytest.param(words, id=f"{readme}: {line[:60]}")


@pytest.mark.parametrize("words", list(_commands()))
def test_every_command_of_the_readmes_is_understood(words):
    arguments = PARSERS[words[0]]().parse_args(words[1:])
    assert callable(arguments.run)


def test_the_readmes_have_commands_to_test():
    assert len(list(_commands())) >= 6


@pytest.mark.parametrize("readme", READMES)
def test_the_python_of_the_readmes_runs(readme, tmp_path, monkeypatch):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "bottle").symlink_to(ROOT / "artifacts" / "tiny")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    blocks = _blocks(readme, "python")
    assert blocks
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True)


def test_the_readme_shows_the_keys_that_score_prints(capsys):
    (sample,) = (json.loads(block) for block in _blocks("README.md", "json"))
    image = str(ROOT / "artifacts" / "tiny" / "selftest.png")
    assert runtime_cli.main(["score", str(ROOT / "artifacts" / "tiny"), image]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(sample)


def test_make_help_names_every_target_a_user_needs():
    done = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    named = {line.split()[0] for line in done.stdout.splitlines()}
    assert named >= {"demo", "test", "check", "fix", "wheels", "bench", "help"}


@pytest.mark.parametrize("target", ["test", "check"])
def test_the_cpp_runner_is_built_and_tested_with_the_rest(target):
    dry = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(dry, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "ctest" in done.stdout
    assert done.stdout.index("ctest") < done.stdout.index("-m pytest")  # parity needs the program
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
