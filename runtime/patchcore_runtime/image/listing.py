"""Files and folders named on a command line -> the images there, in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import SUFFIXES


def find_images(folder: Path) -> tuple[list[Path], int]:
    """Find the images in a folder and below it, by their suffix.

    Hidden files and all that lies in hidden folders are left out: macOS writes `._a.png` beside
    `a.png`, and it is no image.

    Returns:
        The images, sorted by their path below the folder with forward slashes; and how many other
        files, not hidden, the folder has.
    """
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    return images, len(files) - len(images)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


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
