"""`patchcore-build demo-data`: draw a data set, which needs no download.

parsed arguments -> a category folder, its path on stdout.
"""

import argparse
from pathlib import Path

from patchcore_runtime.cli.option_types import whole_number
from patchcore_runtime.cli.terminal import print_json


def add_demo_options(command: argparse.ArgumentParser) -> None:
    """Add the output folder and the seed."""
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="folder in which the category is created"
    )
    command.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N",
        help="seed of the drawing (default 0)",
    )  # fmt: skip


def run(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Draw the images and print their folder."""
    from patchcore_build.data.demo import write_demo_dataset

    folder = write_demo_dataset(arguments.folder, seed=arguments.seed)
    if arguments.json:
        print_json({"category": folder})
    else:
        print(f"category: {folder}")
    return 0
