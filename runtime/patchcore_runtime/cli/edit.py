"""`patchcore-runtime learn` and `forget`: change what an artifact calls normal, on the line.

parsed arguments -> a new artifact folder, what became of it on stdout.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_runtime.cli.command_line import add_key_option

if TYPE_CHECKING:
    from patchcore_runtime.edit.learn import LearnReport

LEARN_SUMMARY = "teach good images that were refused; writes a new artifact"
FORGET_SUMMARY = "take one training image out again; writes a new artifact"


def add_learn_options(command: argparse.ArgumentParser) -> None:
    """Which images are good after all."""
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE_OR_FOLDER",
        type=Path,
        help="good images; whatever is on them will count as normal, so look at them first",
    )
    _add_output(command)


def add_forget_options(command: argparse.ArgumentParser) -> None:
    """Which image was not good after all."""
    command.add_argument(
        "--image",
        required=True,
        metavar="NAME_OR_NUMBER",
        help="a training image, as `score --explain` names it",
    )
    _add_output(command)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        type=Path,
        help="the artifact folder to make; the old one stays as it is",
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    add_key_option(command)


def run_learn(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Learn, and print each image before and after."""
    from patchcore_runtime.edit.learn import learn
    from patchcore_runtime.image.listing import list_image_files

    images = [path for path, _ in list_image_files(arguments.images)]
    report = learn(arguments.artifact, images, arguments.output, public_key=arguments.public_key)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report), default=str))
        return 0
    for image in report.images:
        print(
            f"{image.image}: {image.score_before:.4g} {_verdict(image.score_before, report)}, now "
            f"{image.score_after:.4g} {_verdict(image.score_after, report)}, {image.rows} rows"
        )
    added = report.rows_after - report.rows_before
    print(f"memory bank: {report.rows_after} rows, {added} of them new, radius {report.radius:.4g}")
    print("thresholds: kept, more rows only lower patch distances")
    _print_end(report.dropped, report.artifact)
    return 0


def run_forget(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Forget, and print how many rows went."""
    from patchcore_runtime.edit.forget import forget

    report = forget(
        arguments.artifact, arguments.image, arguments.output, public_key=arguments.public_key
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report), default=str))
        return 0
    gone = report.rows_before - report.rows_after
    print(f"forgotten: {report.image}")
    print(f"memory bank: {report.rows_after} rows, {gone} fewer")
    print(
        f"thresholds: kept; patch distances may grow, by {report.largest_rise:.4g} at most: score "
        "some good images before you rely on it"
    )
    _print_end(report.dropped, report.artifact)
    return 0


def _verdict(score: float, report: "LearnReport") -> str:
    return "refused" if score > report.threshold else "accepted"


def _print_end(dropped: Sequence[str], artifact: Path) -> None:
    if dropped:
        print(
            f"left out: {', '.join(dropped)}, which only the workshop can make; the search is exact"
        )
    print(f"artifact: {artifact}")
