"""Laws of freed memory: the commands return it to the operating system."""

import platform
import subprocess
import sys

import pytest

MEASURE = """
import resource
from pathlib import Path
from patchcore_runtime.cli.freed_memory import return_freed_memory, freed_memory_returned

def resident():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
"""

PINNED = """
before = resident()
blocks = [bytes(1000) for _ in range(100_000)]
last = blocks[-1]  # the topmost block: glibc itself returns only memory above it
held = resident() - before
blocks.clear()
kept = resident() - before
return_freed_memory()
print(held, kept, resident() - before)
"""

LARGE = """
def kept(size):
    before = resident()
    block = b"x" * size
    above = bytes(100_000)
    del block
    return resident() - before, above

# Each is larger than the last, so that none fits where one was; after the first, which is mapped
# by itself, glibc takes blocks up to that size from its heap.
kept(31_000_000)
usually, first = kept(10_000_000)
with freed_memory_returned():
    within, second = kept(20_000_000)
afterwards, third = kept(25_000_000)
print(usually, within, afterwards)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def measured(program):
    """Run a program in a separate process and return the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE + program], capture_output=True, text=True, check=True
    )
    return map(int, done.stdout.split())


def test_freed_blocks_below_a_living_one_are_returned():
    held, kept, left = measured(PINNED)
    assert held > 80e6
    assert kept > 80e6  # otherwise nothing could be returned
    assert left < 20e6


def test_large_blocks_are_returned_at_once_inside_and_reused_afterwards():
    usually, within, afterwards = measured(LARGE)
    assert usually > 8e6
    assert within < 2e6
    assert afterwards > 15e6  # later large blocks are reused and need no new mapping
