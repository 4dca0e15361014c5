"""The command `patchcore-runtime monitor`: score images in order, and watch the line.

argv -> the JSON line of `score` for each image, with the monitor's verdict.
"""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from patchcore_runtime.cli.score import (
    add_verdict_options,
    open_detector,
    print_row,
    score_one,
)
from patchcore_runtime.image.listing import list_image_files
from patchcore_runtime.monitor.monitor import DEFAULT_RATE, Monitor, Verdict
from patchcore_runtime.ordered_work import work_in_order


def add_monitor_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `monitor`."""
    command.add_argument(
        "images", nargs="+", metavar="IMAGE_OR_FOLDER", type=Path,
        help="image files, and folders whose images are found at any depth",
    )  # fmt: skip
    command.add_argument(
        "--state", metavar="FILE", type=Path, required=True,
        help="state file of the monitor; created if missing, written after each image",
    )  # fmt: skip
    command.add_argument(
        "--false-alarm-rate", metavar="R", type=float, default=1000 * DEFAULT_RATE,
        help="false alarms per 1,000 good images (default: %(default)g)",
    )  # fmt: skip
    add_verdict_options(command)


def monitor(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Print a line for each image and return the exit code; unreadable images do not count."""
    images = list(list_image_files(arguments.images))
    detector, workers = open_detector(arguments, len(images))
    watch = Monitor(
        detector.manifest, state=arguments.state, rate=arguments.false_alarm_rate / 1000
    )
    refused = False
    score = partial(score_one, detector, None, measure=True)
    for scored in work_in_order(score, images, workers=workers):
        refused |= scored.result is None
        row = scored.row
        if scored.result is not None:
            row = {**row, "monitor": _line(watch.update(scored.result))}
        print_row(row)
    return 1 if refused else 0


def _line(verdict: Verdict) -> dict[str, Any]:
    return {
        "images": verdict.images,
        "alarm": verdict.alarm,
        "began": verdict.began,
        "candidates": [asdict(candidate) for candidate in verdict.candidates],
    }
