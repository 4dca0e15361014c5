"""A folder of photographs -> its images, sorted by name; strays are counted and never read.

The words of every data set: a listing to learn from, a test image and where its mask lies.
"""

from dataclasses import dataclass
from pathlib import Path

from patchcore_build.errors import DatasetError
from patchcore_runtime.image.decode import SUFFIXES

GOOD = "good"
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless ones: JPEG blurs a mask's border


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images below a folder, and how many other files were passed over."""

    root: Path
    images: tuple[Path, ...]
    strays: int

    def name(self, image: Path) -> str:
        """An image's path below the folder, with forward slashes."""
        return image.relative_to(self.root).as_posix()


@dataclass(frozen=True, kw_only=True)
class TestImage:
    """One test image: its kind of defect, and its mask where one is needed and found."""

    path: Path
    defect: str  # `good` where there is none, however the data set calls it
    mask: Path | None
    root: Path | None = None  # the folder below which the image is named
    mask_source: Path | None = None  # the folder or list where its mask was looked for
    mask_level: int = 128  # a mask's pixel from this value (of 255) on belongs to the defect

    @property
    def name(self) -> str:
        """The path below `root`, with forward slashes; unique in its test set."""
        return self.path.relative_to(self.root).as_posix() if self.root else self.path.name

    @property
    def is_anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect != GOOD


def list_images(folder: Path) -> ImageFolder:
    """Find images by suffix in a folder and below, in the order of their names.

    Raises:
        DatasetError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one with images")
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    images = tuple(path for path in files if path.suffix.lower() in SUFFIXES)
    if not images:
        raise DatasetError(
            f"{folder}: expected images ({', '.join(sorted(SUFFIXES))}), "
            f"got none among {len(files)} files"
        )
    return ImageFolder(root=folder, images=images, strays=len(files) - len(images))


def find_mask(folder: Path, stem: str) -> Path | None:
    """The mask of the image named `stem`: NAME_mask.png or NAME.png; then bmp, tif, tiff."""
    for suffix in _MASK_SUFFIXES:
        for name in (f"{stem}_mask{suffix}", f"{stem}{suffix}"):
            if (folder / name).is_file():
                return folder / name
    return None


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
