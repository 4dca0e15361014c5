"""`patchcore-build merge`: one artifact that knows the good images of two.

parsed arguments -> a new artifact folder, figures on stdout.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from patchcore_build.cli.options import add_public_key_option

MERGE_SUMMARY = "one artifact with the memory banks of two of the same network"


def add_merge_options(command: argparse.ArgumentParser) -> None:
    """Which two, and where to."""
    command.add_argument("first", type=Path, metavar="A", help="an artifact; gives the self-test")
    command.add_argument("second", type=Path, metavar="B", help="another of the same network")
    command.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="the artifact folder to make"
    )
    add_public_key_option(command)


def run(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Merge and print what became of it."""
    from patchcore_build.merge import merge

    report = merge(
        arguments.first, arguments.second, arguments.output, public_key=arguments.public_key
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report), default=str))
        return 0
    print(f"images: {sum(report.images)}, {report.images[0]} and {report.images[1]}")
    print(f"memory bank: {sum(report.rows)} rows, {report.rows[0]} and {report.rows[1]}")
    print(
        f"thresholds: the larger of both, image {report.image_threshold:.4g}, pixel "
        f"{report.pixel_threshold:.4g}"
    )
    print(f"monitoring: as {arguments.first} knows its images")
    if report.dropped:
        print(f"left out: {', '.join(report.dropped)}; the search is exact")
    print(f"artifact: {report.artifact}")
    return 0
