"""Detect the layout of a data set by the names of its folders alone, never by an image.

root -> Dataset. `folder_layouts` and `visa` describe each layout. If none of them fits, or two do,
the error says which folders each layout has, and which ones were found.
"""

from pathlib import Path

from patchcore_build.data.folder_layouts import (
    CategoryFolders,
    Dataset,
    PlainFolders,
    folder_kind,
    is_plain,
    subfolders,
)
from patchcore_build.data.visa import VisaDataset, is_visa
from patchcore_build.errors import DatasetError

__all__ = ["LAYOUTS", "Dataset", "open_dataset"]

# Name of each layout, and the folders or files by which it is detected.
LAYOUTS = {
    "mvtec": "CATEGORY/train/good or CATEGORY/test",
    "mvtec-ad-2": "CATEGORY/test_public",
    "btad": "CATEGORY/train/ok or CATEGORY/test/{ok,ko}",
    "visa": "split_csv/1cls.csv or CATEGORY/Data/Images",
    "plain": "normal, abnormal, train/normal or test/abnormal",
}
_NAMES_SHOWN = 8  # names in an error message about a folder that is no data set


def open_dataset(root: Path) -> Dataset:
    """Detect the layout of a data set by the names of its folders.

    Args:
        root: The folder above the categories; for the plain layout, the category itself.

    Returns:
        The data set; its `layout` is a key of LAYOUTS.

    Raises:
        DatasetError: the folder does not exist, no layout fits, or more than one fits.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected a data set")
    signs = _signs(root)
    if len(signs) > 1:
        found = " and ".join(f"{layout} ({sign})" for layout, sign in sorted(signs.items()))
        raise DatasetError(f"{root}: expected one layout, got {found}; keep them in two folders")
    if not signs:
        raise DatasetError(_why_no_dataset(root))
    (layout,) = signs
    if layout == "visa":
        return VisaDataset(root=root)
    if layout == "plain":
        return PlainFolders(layout=layout, root=root)
    return _category_folders(layout, root)


def _category_folders(layout: str, root: Path) -> CategoryFolders:
    if layout == "btad":
        return CategoryFolders(layout=layout, root=root, good="ok")
    if layout == "mvtec-ad-2":
        test = "test_public"
        return CategoryFolders(layout=layout, root=root, test=test, truth=f"{test}/ground_truth")
    return CategoryFolders(layout=layout, root=root)


def _signs(root: Path) -> dict[str, str]:
    """Layouts that fit, each with the folder or file that shows it."""
    signs: dict[str, str] = {}
    for folder in subfolders(root):
        kind = folder_kind(folder)
        if kind is not None:
            signs.setdefault(kind, f"{folder.name}/")
    if is_visa(root):
        signs["visa"] = LAYOUTS["visa"]
    if is_plain(root):
        signs["plain"] = LAYOUTS["plain"]
    return signs


def _why_no_dataset(root: Path) -> str:
    if folder_kind(root) is not None:
        place = root.resolve()
        return (
            f"{root}: expected a data set, got one category of it; "
            f"use --dataset {place.parent} --category {place.name}"
        )
    looked_for = "; ".join(f"{layout}: {sign}" for layout, sign in LAYOUTS.items())
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    shown = ", ".join(names[:_NAMES_SHOWN]) or "nothing"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return (
        f"{root}: expected a data set ({looked_for}), found {shown}{more}; "
        "any folder of good images: fit --normal DIR"
    )
