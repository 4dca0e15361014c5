"""The table of `score --csv`: one line per image, in a file that appears whole or not at all.

JSON rows -> CSV. Each line is written as soon as its score arrives, so thousands of images need no
memory. The file gets its name after the last line.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from patchcore_runtime.errors import OutputError
from patchcore_runtime.files.names import cell
from patchcore_runtime.files.whole import written_whole

COLUMNS = (
    "image", "score", "threshold", "score_ratio", "p_value", "is_anomalous", "peak_y", "peak_x",
    "error",
)  # fmt: skip
_TEXTS = ("image", "error")  # columns that may begin like a formula


@contextmanager
def score_table(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that adds a row to the table; without a path it does nothing.

    Args:
        path: The CSV file to write or replace.

    Raises:
        OutputError: the folder does not exist, or a folder or a device has this name.
        OSError: the disk is full; an older file remains unchanged.
    """
    if path is None:
        yield lambda _: None
        return
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise OutputError(
            f"{path}: expected a file name in an existing folder; create the folder, or choose "
            "another name"
        )
    with (
        written_whole(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()

        def add(row: dict[str, Any]) -> None:
            y, x = row.get("peak", ("", ""))
            texts = {name: cell(row[name]) for name in _TEXTS if name in row}
            writer.writerow(row | texts | {"peak_y": y, "peak_x": x})

        yield add
