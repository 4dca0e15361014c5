"""Shared parts of the two command lines: declare commands, turn refusals into exit codes.

parser + argv -> exit code 0 done, 1 refused (one line on stderr), 2 wrong usage, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from patchcore_runtime.cli.terminal import drop_output, print_error, safe_terminal, words_of
from patchcore_runtime.errors import OutputError, PatchCoreError
from patchcore_runtime.stopping import is_stopping

Run = Callable[[argparse.Namespace, argparse.ArgumentParser], int]


def new_parser(
    program: str, description: str, examples: str, version: str
) -> tuple[argparse.ArgumentParser, Any]:
    """Return a parser with `--version` and examples, and the group that takes its commands."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    return parser, parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def add_command(
    commands: Any,
    name: str,
    run: Run,
    *,
    summary: str,
    examples: str,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Declare one command; `run(arguments, parser)` returns its exit code.

    Args:
        commands: Where commands are declared, from `new_parser`.
        name: Its name.
        run: What it does.
        summary: Its line in `--help`.
        examples: Text at the end of its own help.
        aliases: Other names of the same command.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        aliases=list(aliases),
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def run_command_line(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse the arguments, run the command and return the exit code; print refusals as one line."""
    with safe_terminal(parser.prog):
        arguments = parser.parse_args(argv)
        try:
            code: int = arguments.run(arguments, parser)
            sys.stdout.flush()
        except KeyboardInterrupt:
            if is_stopping():
                raise  # `stoppable` prints the line
            print_error(parser.prog, "interrupted")
            return 130
        except (PatchCoreError, OSError) as error:
            if is_stopping():
                return 1
            return _refuse(parser.prog, error)
        except MemoryError:
            if is_stopping():
                return 1
            print_error(parser.prog, "out of memory; free some, or use a smaller artifact")
            return 1
        return code


def _refuse(program: str, error: PatchCoreError | OSError) -> int:
    """Print why a command is refused, in one line, and return the exit code."""
    print_error(program, words_of(error))
    try:
        sys.stdout.flush()
    except OutputError:  # the reason, or a second one
        drop_output()
    return 1


def add_roi_option(command: argparse.ArgumentParser) -> None:
    """Declare the option for a region that replaces the artifact's own."""
    command.add_argument(
        "--roi", metavar="MASK", type=Path,
        help="mask image (white = inspect, black = ignore), inside the artifact's own region",
    )  # fmt: skip


def add_key_option(command: argparse.ArgumentParser) -> None:
    """Declare the option for the key that must have signed the artifact."""
    command.add_argument(
        "--public-key", metavar="PEM", type=Path,
        help="refuse an artifact that this ed25519 key has not signed (needs the extra `sign`)",
    )  # fmt: skip
