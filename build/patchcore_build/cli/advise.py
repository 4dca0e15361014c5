"""`patchcore-build advise`: recommend the index and bank size for an artifact on this machine.

parsed arguments -> a table and a recommendation on stdout.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_build.cli.options import add_public_key_option
from patchcore_runtime.cli.option_types import number, whole_number
from patchcore_runtime.cli.terminal import print_json

if TYPE_CHECKING:
    from patchcore_build.indexes.advise import Advice, Option

_ABOUT = """Builds every kind of index whose library is installed, scores some images with each, and
recommends the one that changes scores least among those within both limits. If none is within the
limits, it recommends a smaller memory bank, which needs a new fit. The artifact is only read."""

_LIMIT = number("a number above 0", lambda value: value > 0)


def add_advise_options(command: argparse.ArgumentParser) -> None:
    """Add the artifact and the limits."""
    command.description = f"{command.description or ''}\n\n{_ABOUT}".strip()
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the artifact folder")
    command.add_argument(
        "--target-ms", type=_LIMIT, metavar="N", help="longest time of an image, end to end"
    )
    command.add_argument(
        "--max-mb", type=_LIMIT, metavar="N", help="largest artifact, in millions of bytes"
    )
    command.add_argument(
        "--images", type=Path, metavar="DIR",
        help="measure on up to 32 of these images, preferably held-out ones (default: images made "
        "from the self-test image, which is a training image and gives optimistic results)",
    )  # fmt: skip
    command.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="threads (default: available cores)"
    )
    add_public_key_option(command)


def run(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Measure and print; the exit code is 1 if no option is within the limits."""
    from patchcore_build.indexes.advise import AdviceJob, advise

    advice = advise(
        AdviceJob(
            artifact=arguments.artifact,
            target_ms=arguments.target_ms,
            max_mb=arguments.max_mb,
            images=arguments.images,
            threads=arguments.threads,
            public_key=arguments.public_key,
        )
    )
    if arguments.json:
        print_json(dataclasses.asdict(advice))
    else:
        _print_advice(advice)
    return 0 if advice.recommended else 1


def _print_advice(advice: "Advice") -> None:
    heads = ("index", "rows", "ms per image", "search ms", "MB", "recall", "score change")
    rows = [heads, *(_cells(option) for option in advice.options)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]))
    for reason in advice.left_out:
        print(f"left out: {reason}")
    print(f"measured on: {advice.measured_on}")
    print("recall and score change: compared with the exact search of the whole bank")
    print(advice.sentence)
    if advice.recommended:
        print(f"command: {advice.command or 'none, the artifact has this index already'}")


def _cells(option: "Option") -> tuple[str, ...]:
    name: str = option.kind
    if option.coreset_ratio is not None:
        name += f", new fit at {option.coreset_ratio:.3g}"
    return (
        name,
        str(option.rows),
        f"{option.image_ms:.1f}",
        f"{option.search_ms:.1f}",
        f"{option.artifact_mb:.1f}",
        f"{option.recall:.4f}",
        f"{option.largest_score_change:.2g}",
    )
