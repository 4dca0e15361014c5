"""Files and folders -> the images among them, in order.

Learning, scoring, monitoring and evaluating use this one listing, so they see the same images.
Hidden files and folders are ignored: on foreign disks macOS writes one (`._NAME`) per image.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import SUFFIXES


def find_images(folder: Path) -> tuple[list[Path], int]:
    """Find the images in a folder and below it, by their suffixes.

    Args:
        folder: An existing folder.

    Returns:
        The images, sorted by their names below the folder, and the number of other files that are
        not hidden.
    """
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    return images, len(files) - len(images)


def list_image_files(sources: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the images named on a command line, each with the base name for its output files.

    Args:
        sources: Files, accepted with any name, and folders, which `find_images` lists.

    Raises:
        ImageError: a folder has no images.
    """
    for source in sources:
        if not source.is_dir():
            yield source, source.name
            continue
        found, others = find_images(source)
        if not found:
            raise ImageError(no_images(source, others))
        for path in found:
            yield path, path.relative_to(source).as_posix()


def no_images(folder: Path, others: int) -> str:
    """Return the refusal of a folder in which `find_images` found nothing but other files."""
    suffixes = ", ".join(sorted(SUFFIXES))
    return f"{folder}: expected images ({suffixes}), got none among {others} files"


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
