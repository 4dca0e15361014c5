"""Options of the MindSpore Models PatchCore that are accepted and have no effect here.

parser + names with reasons -> the same parser; a used one is named in one line on stderr. Whoever
has scripts for the original can keep them: docs/explanation/coming-from-mindspore-models.md.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from patchcore_runtime.cli.terminal import print_error

_ELSEWHERE = "copy data before and the artifact after"
CLOUD = {"--train_url": _ELSEWHERE, "--data_url": _ELSEWHERE, "--isModelArts": _ELSEWHERE}


def add_unused_options(command: argparse.ArgumentParser, reasons: Mapping[str, str]) -> None:
    """Add options with one value that is ignored; each reason is shown in the help."""
    group = command.add_argument_group("of the MindSpore Models, accepted without effect")
    for name, reason in reasons.items():
        group.add_argument(
            name, action=_Unused, dest="unused", metavar="X", help=f"not used: {reason}"
        )


def tell_unused(arguments: argparse.Namespace, program: str) -> None:
    """Print one line on stderr that names the given options that have no effect, and why."""
    given: list[tuple[str, str]] = getattr(arguments, "unused", None) or []
    if given:
        told = "; ".join(f"{name} ({reason})" for name, reason in dict(given).items())
        print_error(program, f"not used here: {told}")


class _Unused(argparse.Action):
    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        _values: str | Sequence[Any] | None,
        _option_string: str | None = None,
    ) -> None:
        reason = (self.help or "").removeprefix("not used: ")
        so_far = getattr(namespace, self.dest, None) or []
        setattr(namespace, self.dest, [*so_far, (self.option_strings[0], reason)])
