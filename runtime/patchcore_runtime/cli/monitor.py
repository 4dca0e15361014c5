"""The command `patchcore-runtime monitor`: score images in order, and watch the line.

argv -> the JSON line of `score` for each image, with the monitor's verdict.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from patchcore_runtime.cli.score import PROGRAM, add_score_options, scoring
from patchcore_runtime.cli.terminal import print_error
from patchcore_runtime.errors import MonitorError
from patchcore_runtime.monitor.monitor import DEFAULT_RATE, Monitor, Verdict
from patchcore_runtime.monitor.state import locked_state


def add_monitor_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `monitor`: those of `score`, and its own."""
    add_score_options(command)
    command.add_argument(
        "--state", metavar="FILE", type=Path, required=True,
        help="state file of the monitor; created if missing, written after each image",
    )  # fmt: skip
    command.add_argument(
        "--false-alarm-rate", metavar="R", type=float, default=1000 * DEFAULT_RATE,
        help="false alarms per 1,000 good images (default: %(default)g)",
    )  # fmt: skip


def run_monitor(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print a line for each image and return the exit code; unreadable images do not count."""
    rate = arguments.false_alarm_rate / 1000
    problems: list[str] = []
    with locked_state(arguments.state), scoring(arguments, parser) as run:
        watch = Monitor(run.detector.manifest, state=arguments.state, rate=rate)
        for scored in run.images(measure=True):
            if scored.result is None:
                run.report(scored.row)
                continue
            verdict = watch.judge(scored.result)
            run.report({**scored.row, "monitor": _line(verdict)})
            _save(watch, problems)  # after the verdict, which a full disk must not hide
    return 1 if problems else run.exit_code(fail_on_anomaly=arguments.fail_on_anomaly)


def _save(watch: Monitor, problems: list[str]) -> None:
    """Write the state file; print each problem once, because the next image may succeed."""
    try:
        watch.save()
    except MonitorError as error:
        if str(error) not in problems:
            problems.append(str(error))
            print_error(PROGRAM, error)


def _line(verdict: Verdict) -> dict[str, Any]:
    return {
        "images": verdict.images,
        "alarm": verdict.alarm,
        "began": verdict.began,
        "candidates": [asdict(candidate) for candidate in verdict.candidates],
    }
