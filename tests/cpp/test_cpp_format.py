"""The C++ sources are formatted as `.clang-format` says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

SOURCES = ROOT / "ascend310_infer"
VERSION = "14."  # other versions break some lines differently


def clang_format():
    """The program, from this Python's environment or from the system; None: not installed."""
    own = Path(sys.executable).parent / "clang-format"
    program = str(own) if own.is_file() else shutil.which("clang-format")
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return program if f"version {VERSION}" in said.stdout else None


@pytest.mark.skipif(
    clang_format() is None,
    reason="clang-format 14 is not installed; apt-get install clang-format on Debian 12, "
    "or pip install clang-format==14.0.6",
)
def test_sources_are_formatted():
    files = sorted(path for kind in ("cpp", "hpp", "h") for path in SOURCES.rglob(f"*.{kind}"))
    assert len(files) > 100
    command = [clang_format(), "--dry-run", "--Werror", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
