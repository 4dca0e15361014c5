"""`patchcore-build merge`: one artifact with the good images of two.

parsed arguments -> a new artifact folder, figures on stdout.
"""

import argparse
import dataclasses
from pathlib import Path

from patchcore_build.cli.options import add_public_key_option
from patchcore_runtime.cli.terminal import print_json

MERGE_SUMMARY = "merge the memory banks of two artifacts with the same network"


def add_merge_options(command: argparse.ArgumentParser) -> None:
    """Add the two artifacts and the output."""
    command.add_argument("first", type=Path, metavar="A", help="an artifact; gives the self-test")
    command.add_argument(
        "second", type=Path, metavar="B", help="another artifact with the same network"
    )
    command.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="artifact folder to create"
    )
    add_public_key_option(command)


def run(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Merge two artifacts and print the figures of the result."""
    from patchcore_build.merge import merge

    report = merge(
        arguments.first, arguments.second, arguments.output, public_key=arguments.public_key
    )
    if arguments.json:
        print_json(dataclasses.asdict(report))
        return 0
    print(f"images: {sum(report.images)}, {report.images[0]} and {report.images[1]}")
    print(f"memory bank: {sum(report.rows)} rows, {report.rows[0]} and {report.rows[1]}")
    print(
        f"thresholds: the larger of both, image {report.image_threshold:.4g}, pixel "
        f"{report.pixel_threshold:.4g}"
    )
    print(f"monitoring: statistics of the images of {arguments.first} alone")
    if report.dropped:
        print(f"left out: {', '.join(report.dropped)}; the search is exact")
    print(f"artifact: {report.artifact}")
    return 0
