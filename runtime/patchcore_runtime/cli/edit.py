"""The commands `learn` and `forget`: change the normal images of an artifact without a new fit.

parsed arguments -> a new artifact folder, a report on stdout.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_runtime.artifact.folder import SIGNATURE
from patchcore_runtime.cli.command_line import add_key_option
from patchcore_runtime.cli.terminal import print_error, print_json
from patchcore_runtime.files.names import shown_path
from patchcore_runtime.manifest.manifest import FORMAT_VERSION

if TYPE_CHECKING:
    from patchcore_runtime.edit.learn import LearnReport

LEARN_SUMMARY = "add good images that were refused to the memory bank; writes a new artifact"
FORGET_SUMMARY = "remove one training image from the memory bank; writes a new artifact"
UPGRADE_SUMMARY = "write an artifact of format 2 again in the present format"


def add_learn_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `learn`."""
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE_OR_FOLDER",
        type=Path,
        help="good images; everything they show will count as normal, so inspect them first",
    )
    _add_output(command)


def add_forget_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `forget`."""
    command.add_argument(
        "--image",
        required=True,
        metavar="NAME_OR_NUMBER",
        help="the training image, as `score --explain` names it",
    )
    _add_output(command)


def add_upgrade_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `upgrade`."""
    _add_output(command)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        type=Path,
        help="the artifact folder to create; the old one remains unchanged",
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    add_key_option(command)


def run_learn(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Run `learn` and print each image's score before and after; return the exit code."""
    from patchcore_runtime.edit.learn import learn
    from patchcore_runtime.image.listing import list_image_files

    images = [path for path, _ in list_image_files(arguments.images)]
    _tell_unsigned(arguments)
    report = learn(arguments.artifact, images, arguments.output, public_key=arguments.public_key)
    if arguments.json:
        print_json(dataclasses.asdict(report))
        return 0
    for image in report.images:
        print(
            f"{image.image}: {image.score_before:.4g} {_verdict(image.score_before, report)}, now "
            f"{image.score_after:.4g} {_verdict(image.score_after, report)}, {image.rows} rows"
        )
    added = report.rows_after - report.rows_before
    print(f"memory bank: {report.rows_after} rows, {added} of them new, radius {report.radius:.4g}")
    print("thresholds: unchanged; more rows can only lower patch distances")
    _print_end(report.dropped, report.artifact)
    return 0


def run_forget(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Run `forget` and print how many rows were removed; return the exit code."""
    from patchcore_runtime.edit.forget import forget

    _tell_unsigned(arguments)
    report = forget(
        arguments.artifact, arguments.image, arguments.output, public_key=arguments.public_key
    )
    if arguments.json:
        print_json(dataclasses.asdict(report))
        return 0
    gone = report.rows_before - report.rows_after
    print(f"forgotten: {report.image}")
    print(f"memory bank: {report.rows_after} rows, {gone} fewer")
    print(
        "thresholds: unchanged; patch distances may grow by at most "
        f"{report.largest_rise:.4g}: score some good images before you rely on the new artifact"
    )
    _print_end(report.dropped, report.artifact)
    return 0


def run_upgrade(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Run `upgrade` and print the new folder; return the exit code."""
    from patchcore_runtime.edit.upgrade import upgrade

    _tell_unsigned(arguments)
    written = upgrade(arguments.artifact, arguments.output, public_key=arguments.public_key)
    if arguments.json:
        print_json({"artifact": shown_path(written), "format_version": FORMAT_VERSION})
        return 0
    print(f"format: {FORMAT_VERSION}; scores and thresholds are unchanged")
    print(f"artifact: {written}")
    return 0


def _tell_unsigned(arguments: argparse.Namespace) -> None:
    if (arguments.artifact / SIGNATURE).exists():
        print_error(
            "patchcore-runtime",
            f"{arguments.output}: will not be signed, though {arguments.artifact} is; sign it "
            "with patchcore-build sign",
        )


def _verdict(score: float, report: "LearnReport") -> str:
    return "refused" if score > report.threshold else "accepted"


def _print_end(dropped: Sequence[str], artifact: Path) -> None:
    if dropped:
        print(
            f"left out: {', '.join(dropped)} (only patchcore-build can make it); the search is "
            "exact"
        )
    print(f"artifact: {artifact}")
