"""Files and folders -> the images among them, in order.

Learning, scoring, monitoring and evaluating use this one listing, so they see the same images.
Hidden files and folders are left out: on foreign disks macOS writes one (`._NAME`) per image.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.errors import ImageError
from patchcore_runtime.files.names import shown, shown_path

# The suffixes of the formats that `decode` reads; the C++ runner has the same list.
SUFFIXES = (
    ".bmp", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp",
)  # fmt: skip
_NAMED = 3  # files that the line about what was left out names


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files below a folder, sorted by their names below it."""

    folder: Path
    images: tuple[Path, ...]
    others: tuple[Path, ...]  # files with another suffix
    hidden: int  # files that are hidden, or in a hidden folder

    @property
    def left_out(self) -> str:
        """Return one line about the files that are not images; empty if there are none."""
        names = [shown(path.relative_to(self.folder).as_posix()) for path in self.others[:_NAMED]]
        more = ", ..." if len(self.others) > _NAMED else ""
        parts = []
        if self.others:
            parts.append(f"{len(self.others)} without an image's suffix ({', '.join(names)}{more})")
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        return f"{shown_path(self.folder)}: left out {', '.join(parts)}" if parts else ""

    def require_images(self) -> None:
        """Refuse a folder without images.

        Raises:
            ImageError: the message says which suffixes count, and how many other files there are.
        """
        if not self.images:
            others = len(self.others) + self.hidden
            raise ImageError(
                f"{shown_path(self.folder)}: expected images ({', '.join(SUFFIXES)}), got none "
                f"among {others} files"
            )


def find_images(folder: Path) -> Listing:
    """Find the images in an existing folder and below it, by their suffixes in any case."""
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda path: os.fsencode(path.relative_to(folder).as_posix()),
    )
    seen = [path for path in files if not _is_hidden(path, folder)]
    return Listing(
        folder=folder,
        images=tuple(path for path in seen if path.suffix.lower() in SUFFIXES),
        others=tuple(path for path in seen if path.suffix.lower() not in SUFFIXES),
        hidden=len(files) - len(seen),
    )


def list_image_files(
    sources: Sequence[Path], notes: list[str] | None = None
) -> list[tuple[Path, str]]:
    """List the images named on a command line, each with the base name for its output files.

    Args:
        sources: Files, accepted with any name, and folders, which `find_images` lists.
        notes: Receives a line about each folder's other files.

    Raises:
        ImageError: a folder has no images.
    """
    listed = []
    for source in sources:
        if not source.is_dir():
            listed.append((source, source.name))
            continue
        found = find_images(source)
        found.require_images()
        if notes is not None and found.left_out:
            notes.append(found.left_out)
        listed += [(path, path.relative_to(source).as_posix()) for path in found.images]
    return listed


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
