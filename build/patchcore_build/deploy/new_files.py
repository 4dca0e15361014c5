"""Write new files beside each other so that all of them appear, or none.

target -> a staging folder; its files are moved beside the target when they are complete.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchcore_build.errors import OutputError
from patchcore_runtime.artifact.writing import flush_tree
from patchcore_runtime.files.staging import staging_folder
from patchcore_runtime.files.whole import check_writable
from patchcore_runtime.stopping import held


def data_file(target: Path) -> Path:
    """Return the file of the numbers of an ONNX file with external data."""
    return target.with_name(f"{target.name}.data")


def check_new_files(*targets: Path) -> None:
    """Check before long work that files of one folder can be written.

    Raises:
        OutputError: one of them exists, or the folder cannot be written.
    """
    for path in targets:
        if os.path.lexists(path):
            raise OutputError(
                f"{path}: exists already; choose another --output, or remove it first"
            )
    check_writable(targets[0].parent)


@contextmanager
def new_files(target: Path) -> Iterator[Path]:
    """Yield a staging folder; move its files beside `target` when the block succeeds.

    Missing parents are created, and removed again if the block fails.

    Raises:
        OutputError: a file of such a name exists in the meantime, or the disk is full.
    """
    try:
        with staging_folder(target) as staging:
            yield staging
            flush_tree(staging)
            with held():
                _move(sorted(staging.iterdir(), reverse=True), target.parent)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(f"{target}: cannot be written ({reason}); nothing was kept") from error


def _move(paths: list[Path], folder: Path) -> None:
    """Move files, numbers before the graph that refers to them; undo all if one cannot be moved."""
    moved: list[Path] = []
    try:
        for path in paths:
            target = folder / path.name
            check_new_files(target)
            path.replace(target)
            moved.append(target)
    except (OSError, OutputError):
        for target in moved:
            target.unlink(missing_ok=True)
        raise
