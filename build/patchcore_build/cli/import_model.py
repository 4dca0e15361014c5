"""`patchcore-build import`: a detector of anomalib or patchcore-inspection becomes an artifact.

parsed arguments -> a new artifact folder, figures on stdout.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_build.cli.options import add_signing_option, wrong_usage
from patchcore_build.errors import SettingError, require
from patchcore_runtime.cli.option_types import whole_number
from patchcore_runtime.cli.terminal import print_json
from patchcore_runtime.scoring.thresholds import describe_calibration

if TYPE_CHECKING:
    from patchcore_build.imports.original import Original

IMPORT_SUMMARY = "make an artifact of an anomalib or patchcore-inspection model"


def add_import_options(command: argparse.ArgumentParser) -> None:
    """Add the model, the good images and the output."""
    command.add_argument(
        "library", choices=("anomalib", "amazon"),
        help="anomalib 2, or amazon's patchcore-inspection",
    )  # fmt: skip
    command.add_argument(
        "model", type=Path, metavar="MODEL",
        help="anomalib: a .ckpt, or the .pt of a Torch export; amazon: the folder of "
        "patchcore_params.pkl",
    )  # fmt: skip
    command.add_argument(
        "--images", type=Path, metavar="DIR", required=True,
        help="good images, 30 or more if the line will be monitored: they give the self-test and "
        "the statistics of normal images, and are not learned",
    )  # fmt: skip
    command.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="artifact folder to create"
    )
    command.add_argument(
        "--category", metavar="NAME", help="what the images show (default: the folder's name)"
    )
    command.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="amazon: the network's weights, which the folder lacks (.pth, .safetensors, .ckpt)",
    )  # fmt: skip
    command.add_argument(
        "--resize-px", type=whole_number(32), metavar="N",
        help="amazon: the side before the crop, which the folder lacks (resize of its command)",
    )  # fmt: skip
    command.add_argument(
        "--threshold", type=float, metavar="T",
        help="image threshold in units of the model's scores (default: the model's)",
    )  # fmt: skip
    command.add_argument(
        "--pixel-threshold", type=float, metavar="T",
        help="pixel threshold in units of the model's maps (default: the model's)",
    )  # fmt: skip
    command.add_argument(
        "--target-fpr", type=float, metavar="R",
        help="estimate thresholds for this false-alarm rate from --images, which the model must "
        "not have learned (default: the model's thresholds)",
    )  # fmt: skip
    add_signing_option(command)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Import a model and print the figures of the artifact."""
    from patchcore_build.imports.artifact import ImportJob, import_detector
    from patchcore_build.imports.thresholds import given
    from patchcore_runtime.artifact.writing import check_new_folder

    with wrong_usage(parser):
        _check_usage(arguments)
        thresholds = given(arguments.threshold, arguments.pixel_threshold)
    check_new_folder(arguments.output)
    job = ImportJob(
        images=arguments.images,
        category=arguments.category or arguments.images.resolve().name,
        output=arguments.output,
        thresholds=thresholds,
        target_fpr=arguments.target_fpr,
        sign=arguments.sign,
    )
    report = import_detector(_open(arguments), job)
    if arguments.json:
        print_json(dataclasses.asdict(report))
        return 0
    height, width = report.input_size
    channels = " + ".join(map(str, report.channels))
    print(f"model: {report.library}, {report.backbone}; input {height} x {width} px")
    print(f"memory bank: {report.rows} rows of {channels} numbers")
    for name, words in describe_calibration(report.calibration).items():
        print(f"{name}: {words}")
    low, high = report.score_range
    print(
        f"good images: {report.images}, scores {low:.4g} to {high:.4g}, {report.alarms} above the "
        "threshold"
    )
    for line in report.warnings:
        print(f"warning: {line}")
    print(f"artifact: {report.artifact}")
    return 0


def _check_usage(arguments: argparse.Namespace) -> None:
    """Refuse options that the library does not use, and the lack of those that it needs."""
    if arguments.target_fpr is not None:
        rate, given = arguments.target_fpr, arguments.threshold or arguments.pixel_threshold
        require(given is None, "--target-fpr", "it without --threshold", given)
        require(0 < rate < 1, "--target-fpr", "in (0, 1)", rate)
    amazon = arguments.library == "amazon"
    for name, value in (("--weights", arguments.weights), ("--resize-px", arguments.resize_px)):
        if amazon and value is None:
            raise SettingError(f"{name}: expected it for amazon, whose folder lacks it, got none")
        if not amazon and value is not None:
            raise SettingError(
                f"{name}: expected none for anomalib, whose file has it, got {value}"
            )


def _open(arguments: argparse.Namespace) -> "Original":
    if arguments.library == "anomalib":
        from patchcore_build.imports.anomalib import open_anomalib

        return open_anomalib(arguments.model)
    from patchcore_build.imports.amazon import open_amazon

    return open_amazon(arguments.model, weights=arguments.weights, resize_px=arguments.resize_px)
