"""Files and folders named on a command line -> the pictures there, in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import SUFFIXES


def list_pictures(sources: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each picture, and the name by which files made of it are called.

    Raises:
        ImageError: a folder has no pictures.
    """
    for source in sources:
        if not source.is_dir():
            yield source, source.name
            continue
        found = sorted(
            path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not found:
            raise ImageError(
                f"{source}: expected pictures ({', '.join(sorted(SUFFIXES))}), got none"
            )
        for path in found:
            yield path, path.relative_to(source).as_posix()
