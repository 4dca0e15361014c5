"""The command `patchcore-build`: build, evaluate, sign, convert weights, make demo images.

argv -> progress on stderr, results on stdout; exit code 0 for success, 1 for an error, 2 for wrong
usage, 130 and 143 if it was interrupted or terminated. Everything else is imported when the
command runs, so that an interrupt is cleaned up from the first moment on.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from patchcore_runtime.stopping import stoppable

if TYPE_CHECKING:
    import argparse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; by default with the process's arguments."""
    last = argv is None or list(argv) == sys.argv[1:]
    return stoppable("patchcore-build", lambda: _run(argv), last=last)


def _run(argv: Sequence[str] | None) -> int:
    from patchcore_runtime.cli.command_line import run_command_line

    return run_command_line(_parser(), argv)


def _parser() -> "argparse.ArgumentParser":
    from patchcore_build.cli.commands import build_parser

    return build_parser()
