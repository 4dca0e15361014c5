"""A file appears whole or not at all: bytes -> written beside, then renamed into place."""

import uuid
from pathlib import Path

from patchcore_build.errors import OutputError


def write_whole(path: Path, content: bytes) -> None:
    """Write or replace one file in an existing folder.

    Raises:
        OutputError: the folder cannot be written or the disk is full; an older file stays.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); create the folder or free the disk"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
