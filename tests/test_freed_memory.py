"""Laws of `hand_back`: what a process freed is the system's again."""

import platform
import subprocess
import sys

import pytest

PINNED = """
import resource
from pathlib import Path
from patchcore_runtime.freed_memory import hand_back

def resident():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()

before = resident()
blocks = [bytes(1000) for _ in range(100_000)]
last = blocks[-1]  # above all others: glibc returns by itself only what lies above it
held = resident() - before
blocks.clear()
kept = resident() - before
hand_back()
print(held, kept, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_blocks_below_a_living_one_are_returned():
    done = subprocess.run(
        [sys.executable, "-c", PINNED], capture_output=True, text=True, check=True
    )
    held, kept, left = map(int, done.stdout.split())
    assert held > 80e6
    assert kept > 80e6  # else there is nothing to hand back
    assert left < 20e6
