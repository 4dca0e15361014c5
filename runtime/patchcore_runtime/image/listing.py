"""Files and folders named on a command line -> the images there, in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import SUFFIXES


def list_image_files(sources: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each image, and the name by which files made of it are called.

    Raises:
        ImageError: a folder has no images.
    """
    for source in sources:
        if not source.is_dir():
            yield source, source.name
            continue
        found = sorted(
            path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not found:
            raise ImageError(f"{source}: expected images ({', '.join(sorted(SUFFIXES))}), got none")
        for path in found:
            yield path, path.relative_to(source).as_posix()
