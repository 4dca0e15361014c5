"""Write the results of an evaluation: report.json, report.html and sheet.png in one folder.

Evaluation + gallery + manifest -> three files that appear whole; on a refusal none of them does.
"""

import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.errors import OutputError
from patchcore_build.evaluation.evaluate import Evaluation
from patchcore_build.report.facts import artifact_facts, kind_facts, report_dict
from patchcore_build.report.gallery import Gallery
from patchcore_build.report.html import four_digits
from patchcore_build.report.image_sheet import image_sheet
from patchcore_build.report.page import render_page
from patchcore_runtime.files.whole import check_writable, refuse_folders, written_together
from patchcore_runtime.manifest.manifest import Manifest

REPORT_JSON, REPORT_HTML, SHEET_PNG = "report.json", "report.html", "sheet.png"


def write_report(
    folder: Path, evaluation: Evaluation, gallery: Gallery, manifest: Manifest
) -> None:
    """Write the three files of a report.

    An older report in the folder is replaced; other files there are left alone. The same
    evaluation gives the same bytes.

    Args:
        folder: New or existing.
        evaluation: The figures.
        gallery: Its `visit` was given to `evaluate` for this very evaluation.
        manifest: Of the artifact under test.

    Raises:
        OutputError: the folder cannot be written; nothing is left behind.
        ValueError: the gallery belongs to another evaluation.
    """
    images = gallery.images(evaluation)
    page = render_page(
        evaluation, artifact_facts(manifest), kind_facts(evaluation), images, gallery.scale
    )
    title = (
        f"{evaluation.category}: median-scoring and most confusing image of each kind, "
        f"image threshold {four_digits(evaluation.image_confusion.threshold)}"
    )
    contents = {
        REPORT_JSON: _encode(_to_json(evaluation, manifest)),
        SHEET_PNG: _to_png(image_sheet(images, gallery.scale, title=title)),
        REPORT_HTML: _encode(page),
    }
    try:
        with written_together(folder) as aside:
            for name, content in contents.items():
                (aside / name).write_bytes(content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f"{folder}: expected a folder that can be written, got: {reason}; no report was kept, "
            "choose another folder"
        ) from error


def check_report(folder: Path) -> None:
    """Check before an evaluation that `write_report` can write into a folder.

    Raises:
        OutputError: the folder cannot be written, or has a folder with the name of a file.
    """
    check_writable(folder)
    refuse_folders(folder / name for name in (REPORT_JSON, SHEET_PNG, REPORT_HTML))


def _to_json(evaluation: Evaluation, manifest: Manifest) -> str:
    content = report_dict(evaluation, manifest)
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _encode(text: str) -> bytes:
    """UTF-8; lone surrogates of undecodable file names become JSON's escapes for them."""
    return text.encode("utf-8", "backslashreplace")


def _to_png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()
