"""A folder of photographs -> its images, sorted by name; other files are counted and never read.

This module also defines what every data set layout returns: a listing of training images, and test
images with their masks.
"""

from dataclasses import dataclass
from pathlib import Path

from patchcore_build.errors import DatasetError
from patchcore_runtime.errors import ImageError
from patchcore_runtime.files.names import shown_path
from patchcore_runtime.image.listing import find_images

GOOD = "good"
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless ones: JPEG blurs a mask's border


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images below a folder, and a line about its other files, which are ignored."""

    root: Path
    images: tuple[Path, ...]
    left_out: str = ""  # empty if there are no other files

    def name(self, image: Path) -> str:
        """An image's name: its path below the folder, as `files.names.shown` shows it."""
        return shown_path(image.relative_to(self.root))


@dataclass(frozen=True, kw_only=True)
class TestImage:
    """One test image: its kind of defect, and its mask if one is needed and found."""

    path: Path
    defect: str  # `good` for an image without a defect, whatever the data set calls it
    mask: Path | None
    root: Path | None = None  # the folder below which the image is named
    mask_source: Path | None = None  # the folder or list where its mask was looked for
    mask_level: int = 128  # mask pixels of this value (of 255) or more belong to the defect

    @property
    def name(self) -> str:
        """The shown path below `root`; unique in its test set."""
        return shown_path(self.path.relative_to(self.root) if self.root else self.path.name)

    @property
    def is_anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect != GOOD


def list_images(folder: Path) -> ImageFolder:
    """Find images by suffix in a folder and below, in the order of their names.

    Raises:
        DatasetError: the folder does not exist, or holds no image.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one with images")
    found = find_images(folder)
    try:
        found.require_images()
    except ImageError as error:
        raise DatasetError(str(error)) from None
    return ImageFolder(root=folder, images=found.images, left_out=found.left_out)


def find_mask(folder: Path, stem: str) -> Path | None:
    """The mask of the image named `stem`: NAME_mask.png or NAME.png; then bmp, tif, tiff."""
    for suffix in _MASK_SUFFIXES:
        for name in (f"{stem}_mask{suffix}", f"{stem}{suffix}"):
            if (folder / name).is_file():
                return folder / name
    return None
