"""The command `patchcore-runtime score`: images and folders -> JSON lines, maps, a table.

argv -> one line per image on stdout, in order; refusals on stderr.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from patchcore_runtime.cli.command_line import add_roi_option
from patchcore_runtime.cli.explain import add_explain_options, explain_row, sheet_path
from patchcore_runtime.cli.freed_memory import loading
from patchcore_runtime.cli.table import score_table
from patchcore_runtime.detector import Detector
from patchcore_runtime.engine.session import usable_cores
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.listing import list_image_files
from patchcore_runtime.image.preprocess import fit_to_input
from patchcore_runtime.ordered_work import work_in_order, workers_for
from patchcore_runtime.result import Result


def add_score_options(command: argparse.ArgumentParser) -> None:
    """Declare the images and the options of `score`."""
    command.add_argument(
        "images", nargs="+", metavar="IMAGE_OR_FOLDER", type=Path,
        help="image files, and folders whose images are found at any depth",
    )  # fmt: skip
    command.add_argument("--maps", metavar="DIR", type=Path, help="write a heat map PNG per image")
    command.add_argument(
        "--csv", metavar="FILE", type=Path, help="also write the scores as a CSV table"
    )
    add_verdict_options(command)
    add_explain_options(command)


def add_verdict_options(command: argparse.ArgumentParser) -> None:
    """Declare the options for a region and thresholds that replace the artifact's."""
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


def score_images(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Print a line for each image and return the exit code."""
    sources = list(list_image_files(arguments.images))
    if arguments.maps is not None:
        _refuse_shared(sources, partial(_map_path, arguments.maps), "heat map")
    if arguments.explain is not None:
        _refuse_shared(sources, partial(sheet_path, arguments.explain), "sheet")
    with score_table(arguments.csv) as add_to_table:  # an unusable path fails before any scoring
        detector, workers = open_detector(arguments, len(sources))
        score = partial(_score_and_explain, detector, arguments)
        refused = False
        for row in work_in_order(score, sources, workers=workers):
            refused |= "error" in row
            print_row(row)
            add_to_table(row)
    return 1 if refused else 0


def _score_and_explain(
    detector: Detector, arguments: argparse.Namespace, source: tuple[Path, str]
) -> dict[str, Any]:
    scored = score_one(detector, arguments.maps, source)
    if scored.image is None or scored.result is None:
        return scored.row
    return scored.row | explain_row(arguments, detector, scored.image, scored.result, source[1])


def open_detector(arguments: argparse.Namespace, sources: int) -> tuple[Detector, int]:
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


def print_row(row: dict[str, Any]) -> None:
    """Print one JSON line; a refusal is also printed on stderr."""
    if "error" in row:
        print(f"patchcore-runtime: {row['error']}", file=sys.stderr)
    print(json.dumps(row), flush=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """The line of one image, with image and result; both are None if it cannot be read."""

    row: dict[str, Any]
    image: Image.Image | None = None
    result: Result | None = None


def score_one(
    detector: Detector, maps: Path | None, source: tuple[Path, str], *, measure: bool = False
) -> Scored:
    """Score one image, and write its heat map if a folder is given.

    Args:
        detector: The detector that scores the image.
        maps: Folder for heat maps, or None.
        source: The image's path, and its name below `maps`.
        measure: Also measure the image as a whole, for a monitor.
    """
    path, name = source
    try:
        image = read_image(path)
        pixels, placement = fit_to_input(image, detector.manifest.preprocess)
        result = detector.predict_input(pixels, placement, measure=measure)
    except ImageError as error:
        reason = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
        return Scored(row={"image": str(path), "error": reason})
    row = {
        "image": str(path),
        "score": result.score,
        "threshold": result.threshold,
        "score_ratio": result.score_ratio,
        "p_value": result.p_value,
        "is_anomalous": result.is_anomalous,
        "peak": list(result.peak),
    }
    if maps is not None:
        target = _map_path(maps, name)
        _write_heatmap(detector, image, result, target)
        row["map"] = str(target)
    return Scored(row=row, image=image, result=result)


def _write_heatmap(detector: Detector, image: Image.Image, result: Result, target: Path) -> None:
    import numpy as np

    from patchcore_runtime.explain.heatmap import save_heatmap

    target.parent.mkdir(parents=True, exist_ok=True)
    verdict = "anomalous" if result.is_anomalous else "normal"
    title = f"{verdict}: score {result.score:.3g}, threshold {result.threshold:.3g}"
    photograph = np.asarray(image)
    save_heatmap(target, photograph, result.map_on(image), detector.heatmap_scale, title=title)


def _refuse_shared(
    sources: Sequence[tuple[Path, str]], target: Callable[[str], Path], what: str
) -> None:
    seen: set[str] = set()
    for _, name in sources:
        if name in seen:
            raise ImageError(
                f"{target(name)}: two images would get this {what}; "
                "score their common folder, or one after the other with two folders"
            )
        seen.add(name)


def _map_path(maps: Path, name: str) -> Path:
    return maps / f"{name}.heatmap.png"
