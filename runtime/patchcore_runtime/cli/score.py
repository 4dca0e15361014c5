"""The commands `score` and `monitor`: images and folders -> JSON lines, maps, masks, a table.

argv -> one line per image on stdout, in order; refusals, notes and a summary on stderr.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from patchcore_runtime.cli.command_line import add_roi_option
from patchcore_runtime.cli.freed_memory import loading
from patchcore_runtime.cli.outputs import Outputs, Source, add_output_options
from patchcore_runtime.cli.table import score_table
from patchcore_runtime.cli.terminal import print_error, print_json, print_notes, words_of
from patchcore_runtime.detector import Detector
from patchcore_runtime.engine.session import usable_cores
from patchcore_runtime.errors import ImageError, PatchCoreError
from patchcore_runtime.files.names import printable, shown_path
from patchcore_runtime.image.listing import list_image_files
from patchcore_runtime.image.preprocess import fit_to_input, read_photograph
from patchcore_runtime.ordered_work import MemoryBudget, work_in_order, workers_for
from patchcore_runtime.result import Result

PROGRAM = "patchcore-runtime"
REFUSED, ANOMALOUS = 1, 3  # exit codes
_STDIN = Path("-")


def add_score_options(command: argparse.ArgumentParser) -> None:
    """Declare the images and the options that `score` and `monitor` share."""
    command.add_argument(
        "images", nargs="+", metavar="IMAGE_OR_FOLDER", type=Path,
        help="image files, and folders whose images are found at any depth; - reads paths from "
        "stdin, one a line, or with a zero byte after each",
    )  # fmt: skip
    add_output_options(command)
    command.add_argument(
        "--fail-on-anomaly", action="store_true",
        help="end with exit code 3 if an image is not good and none was refused",
    )  # fmt: skip
    add_roi_option(command)
    either = command.add_mutually_exclusive_group()
    either.add_argument(
        "--threshold", type=float, metavar="X",
        help="image threshold that replaces the artifact's, in the unit of the score",
    )  # fmt: skip
    either.add_argument(
        "--target-fpr", type=float, metavar="R",
        help="false-alarm rate among good images that replaces the artifact's; both thresholds "
        "are recomputed from its held-out scores",
    )  # fmt: skip


def run_score(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print a line for each image and return the exit code."""
    with scoring(arguments, parser) as run:
        for scored in run.images():
            run.report(scored.row)
    return run.exit_code(fail_on_anomaly=arguments.fail_on_anomaly)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """The line of one image, and its result; None if it was not scored."""

    row: dict[str, Any]
    result: Result | None = None


class ScoringRun:
    """One run of a command over images: scores them in order, and counts what it reported."""

    def __init__(
        self,
        detector: Detector,
        sources: Sequence[Source],
        outputs: Outputs,
        *,
        workers: int,
        add_to_table: Callable[[dict[str, Any]], None],
        problems: list[str],
    ) -> None:
        self.detector = detector
        self._sources = sources
        self._outputs = outputs
        self._workers = workers
        self._add_to_table = add_to_table
        self._problems = problems
        self._memory = MemoryBudget()
        self.refused = self.anomalous = self.scored = 0

    def images(self, *, measure: bool = False) -> Iterator[Scored]:
        """Score the images in order; with `measure` also measure each as a whole."""
        score = partial(self._score, measure=measure)
        return work_in_order(score, self._sources, workers=self._workers)

    def report(self, row: dict[str, Any]) -> None:
        """Print the line of one image and add it to the table."""
        if "error" in row:
            self.refused += 1
            print_error(PROGRAM, row["error"])
        else:
            self.scored += 1
            self.anomalous += row["is_anomalous"]
            if "note" in row:
                print_error(PROGRAM, row["note"])
        print_json(row)
        self._add_to_table(row)

    def exit_code(self, *, fail_on_anomaly: bool) -> int:
        """Return 1 if an image was refused or the table lost, 3 for an anomaly that counts."""
        if self.refused or self._problems:
            return REFUSED
        return ANOMALOUS if fail_on_anomaly and self.anomalous else 0

    def _score(self, source: Source, *, measure: bool) -> Scored:
        """Score one image; any failure is the error of this image alone."""
        path, name = source
        where, result, notes = shown_path(path), None, list[str]()
        settings = self.detector.manifest.preprocess
        try:
            with self._memory.image() as reserve:
                image = read_photograph(
                    path, settings, notes=notes, reserve=reserve, drawn=self._outputs.drawn
                )
                pixels, placement = fit_to_input(image, settings)
                result = self.detector.predict_input(pixels, placement, measure=measure)
                row = {"image": where, **result.to_dict(), **({"note": notes[0]} if notes else {})}
                row |= self._outputs.write(self.detector, image, result, name)
        except Exception as error:  # whatever happens to one image, the others count
            return Scored(row={"image": where, "error": _reason(where, error)}, result=result)
        return Scored(row=row, result=result)


def _reason(where: str, error: Exception) -> str:
    """Return one line that begins with the image's name."""
    if isinstance(error, PatchCoreError | OSError):
        reason = printable(words_of(error))
    else:
        text = printable(" ".join(str(error).split()))[:200]
        reason = f"{type(error).__name__}{f': {text}' if text else ''}"
    return reason if reason.startswith(where) else f"{where}: {reason}"


@contextmanager
def scoring(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> Iterator["ScoringRun"]:
    """Check the options, load the detector, and yield a run over the images; sum up at its end."""
    outputs = Outputs.of(arguments, parser)
    notes: list[str] = []
    sources = list_image_files(_with_stdin(arguments.images), notes)
    print_notes(PROGRAM, notes)
    outputs.prepare(sources)
    began = time.monotonic()
    lost: list[str] = []
    # An unusable path fails before any scoring.
    with score_table(arguments.csv, lost) as add_to_table:
        detector, workers = _open_detector(arguments, len(sources))
        run = ScoringRun(
            detector, sources, outputs, workers=workers, add_to_table=add_to_table, problems=lost
        )
        yield run
    print_notes(PROGRAM, lost)
    seconds = time.monotonic() - began
    refused = f", {run.refused} refused" if run.refused else ""
    print_error(
        PROGRAM, f"{run.scored} images scored, {run.anomalous} anomalous{refused}, {seconds:.1f} s"
    )


def _open_detector(arguments: argparse.Namespace, sources: int) -> tuple[Detector, int]:
    """Load the detector; return it and the number of images to work on at once."""
    threads = arguments.threads or usable_cores()
    workers = workers_for(threads, sources)
    with loading():
        detector = Detector.load(
            arguments.artifact,
            threads=threads // workers,
            providers=arguments.providers,
            search=arguments.search,
            roi=arguments.roi,
            threshold=arguments.threshold,
            target_fpr=arguments.target_fpr,
            public_key=arguments.public_key,
            private=arguments.private,
        )
    return detector, workers


def _with_stdin(sources: Sequence[Path]) -> list[Path]:
    """Replace `-` by the paths on stdin."""
    listed: list[Path] = []
    for source in sources:
        if source != _STDIN:
            listed.append(source)
            continue
        content = sys.stdin.buffer.read()
        lines = content.split(b"\0") if b"\0" in content else content.splitlines()
        found = [Path(os.fsdecode(line)) for line in lines if line]
        if not found:
            raise ImageError("-: expected paths of images on stdin, got none")
        listed += found
    return listed
