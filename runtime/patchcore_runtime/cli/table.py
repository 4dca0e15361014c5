"""The table of `score --csv`: one line per image, in a file that appears whole or not at all.

JSON rows -> CSV. Each line is written as soon as its score arrives, so thousands of images need no
memory. The file gets its name after the last line.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from patchcore_runtime.errors import OutputError
from patchcore_runtime.files.names import cell
from patchcore_runtime.files.whole import written_whole

COLUMNS = (
    "image", "score", "threshold", "score_ratio", "p_value", "is_anomalous", "verdict", "peak_y",
    "peak_x", "reasons", "error",
)  # fmt: skip
_TEXTS = ("image", "error")  # columns that may begin like a formula


@contextmanager
def score_table(
    path: Path | None, problems: list[str]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that adds a row to the table; without a path it does nothing.

    A disk that becomes full costs the table, but not the other outputs of the run.

    Args:
        path: The CSV file to write or replace.
        problems: Gets a line if the table cannot be finished; an older file remains unchanged.

    Raises:
        OutputError: the folder does not exist, or a folder or a device has this name.
        OSError: the table cannot be begun.
    """
    if path is None:
        yield lambda _: None
        return
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise OutputError(
            f"{path}: expected a file name in an existing folder; create the folder, or choose "
            "another name"
        )
    failed: list[OSError] = []
    with ExitStack() as files:
        unfinished = files.enter_context(written_whole(path))
        file = files.enter_context(
            unfinished.open("w", buffering=1, newline="", encoding="utf-8")  # line by line
        )
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()

        def add(row: dict[str, Any]) -> None:
            if failed:
                return
            y, x = row.get("peak", ("", ""))
            texts = {name: cell(row[name]) for name in _TEXTS if name in row}
            shown = {"peak_y": y, "peak_x": x, "reasons": "; ".join(row.get("reasons", ()))}
            try:
                writer.writerow(row | texts | shown)
            except OSError as error:
                failed.append(error)

        yield add
        try:
            with files.pop_all():
                if failed:
                    raise failed[0]
        except OSError as error:
            problems.append(f"{path}: cannot be written ({error.strerror}); free the disk")
