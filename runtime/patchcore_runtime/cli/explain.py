"""The options `score --explain DIR --regions`: why an image has its score, and where.

image + result -> entries of its JSON line, and an image sheet that explains the score.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from PIL import Image

from patchcore_runtime.detector import Detector
from patchcore_runtime.result import Result


def add_explain_options(command: argparse.ArgumentParser) -> None:
    """Declare --explain and --regions."""
    command.add_argument(
        "--explain",
        metavar="DIR",
        type=Path,
        help="write a sheet per image: its strangest patches beside their nearest normal patches "
        "(shows training images if the artifact was made with --keep-thumbnails)",
    )
    command.add_argument(
        "--regions",
        action="store_true",
        help="add the areas above the pixel threshold to the JSON line: box, area, peak, contour",
    )


def explain_row(
    arguments: argparse.Namespace, detector: Detector, image: Image.Image, result: Result, name: str
) -> dict[str, Any]:
    """Write an image's sheet; return the entries that the options add to its JSON line."""
    row: dict[str, Any] = {}
    if arguments.regions:
        row["regions"] = [dataclasses.asdict(region) for region in result.regions()]
    if arguments.explain is not None:
        from patchcore_runtime.explain.heatmap import save_png
        from patchcore_runtime.explain.sheet import explain_sheet

        target = sheet_path(arguments.explain, name)
        evidence = detector.explain(result)
        sheet = explain_sheet(
            detector.artifact, image, result, evidence, scale=detector.heatmap_scale, name=name
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        save_png(target, sheet)
        row["sheet"] = str(target)
        row["patches"] = [dataclasses.asdict(one) for one in evidence]
    return row


def sheet_path(folder: Path, name: str) -> Path:
    """Return the path of an image's sheet."""
    return folder / f"{name}.explain.png"
