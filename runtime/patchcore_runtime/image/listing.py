"""Files and folders -> the images among them, in order.

One listing for learning, scoring, monitoring and evaluating: they see the same images. Hidden files
and folders are left out; macOS writes one such file (`._NAME`) beside each image on other disks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import SUFFIXES


def find_images(folder: Path) -> tuple[list[Path], int]:
    """Images in a folder and below it, told by their suffixes.

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
    """Images named on a command line, each with the name for files that are made of it.

    Args:
        sources: Files, taken whatever their names, and folders, of which `find_images` lists.

    Raises:
        ImageError: a folder has no images.
    """
    for source in sources:
        if not source.is_dir():
            yield source, source.name
            continue
        found, others = find_images(source)
        if not found:
            raise ImageError(
                f"{source}: expected images ({', '.join(sorted(SUFFIXES))}), "
                f"got none among {others} files"
            )
        for path in found:
            yield path, path.relative_to(source).as_posix()


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
