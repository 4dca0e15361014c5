"""Layouts that consist of folders alone: MVTec AD, MVTec AD 2, BTAD, and a plain one.

root, category -> images to learn from, and test images with their masks. No image is opened.

    mvtec       CATEGORY/train/good  CATEGORY/test/{good,DEFECT}
                CATEGORY/ground_truth/DEFECT/NAME_mask.png              (Bergmann et al. 2019)
    mvtec-ad-2  CATEGORY/train/good  CATEGORY/test_public/{good,bad}
                CATEGORY/test_public/ground_truth/bad/NAME_mask.png     (Heckler-Kram et al. 2025)
    btad        CATEGORY/train/ok  CATEGORY/test/{ok,ko}
                CATEGORY/ground_truth/ko/NAME.{png,bmp}                 (Mishra et al. 2021)
    plain       normal  normal_test  abnormal  masks; or train/normal  test/{normal,abnormal,masks}

MVTec AD 2's validation/good is not used for training, as its authors prescribe. Its private test
sets have no published masks.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from patchcore_build.data.image_folder import GOOD, ImageFolder, TestImage, find_mask, list_images
from patchcore_build.errors import DatasetError

# Folders where a plain data set may keep each of its parts.
_NORMAL = ("normal", "train/normal")
_NORMAL_TEST = ("normal_test", "test/normal")
_ABNORMAL = ("abnormal", "test/abnormal")
_MASKS = ("masks", "test/masks")


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A data set whose layout is known; every listing is sorted by name."""

    layout: str
    root: Path

    @abstractmethod
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, sorted."""

    @abstractmethod
    def training_images(self, category: str) -> ImageFolder:
        """List the good images to learn from.

        Raises:
            DatasetError: no such category (the message names those that exist), or no images in it.
        """

    @abstractmethod
    def test_images(self, category: str) -> list[TestImage]:
        """List the test images, each defect with its mask if one is found.

        Raises:
            DatasetError: no such category (the message names those that exist), or no test images
                in it.
        """

    def require(self, category: str) -> None:
        """Check that a category exists.

        Raises:
            DatasetError: it does not; the message names those that do.
        """
        found = self.categories()
        if category not in found:
            raise DatasetError(
                f"{self.root}: no category {category!r} in this {self.layout} layout; categories "
                f"here: {', '.join(found)}; any folder of good images: fit --normal DIR"
            )


@dataclass(frozen=True, kw_only=True)
class CategoryFolders(Dataset):
    """MVTec AD and similar data sets: CATEGORY/train, and a test folder with one per defect."""

    good: str = GOOD  # name of the folders with good images
    test: str = "test"
    truth: str = "ground_truth"

    def categories(self) -> tuple[str, ...]:
        """Folders with images to learn from or to test, sorted."""
        return tuple(
            folder.name
            for folder in subfolders(self.root)
            if (folder / "train" / self.good).is_dir() or (folder / self.test).is_dir()
        )

    def training_images(self, category: str) -> ImageFolder:
        """Images of CATEGORY/train/good."""
        self.require(category)
        return list_images(self.root / category / "train" / self.good)

    def test_images(self, category: str) -> list[TestImage]:
        """Images of CATEGORY/test, each defect matched with its mask by name."""
        self.require(category)
        root = self.root / category / self.test
        truth = self.root / category / self.truth
        found = [path for path in list_images(root).images if not path.is_relative_to(truth)]
        if not found:
            raise DatasetError(f"{root}: expected test images, got masks only")
        return [self._test_image(path, root, truth) for path in found]

    def _test_image(self, path: Path, root: Path, truth: Path) -> TestImage:
        kind, *below = path.relative_to(root).parts
        if not below:
            raise DatasetError(
                f"{path}: expected a folder that names the defect (or `{self.good}`) between "
                f"{self.test}/ and the image; move the image into one"
            )
        if kind == self.good:
            return TestImage(path=path, defect=GOOD, mask=None, root=root)
        return _defect(path, kind, root=root, masks=truth.joinpath(kind, *below[:-1]))


@dataclass(frozen=True, kw_only=True)
class PlainFolders(Dataset):
    """One category in folders named `normal`, `normal_test`, `abnormal` and `masks`.

    Without `normal_test` (or test/normal) no good image is tested: the images of `normal` are used
    for training, and testing with them would make every figure too good.
    """

    def categories(self) -> tuple[str, ...]:
        """The one category; it has the name of the folder."""
        return (self.root.resolve().name,)

    def training_images(self, category: str) -> ImageFolder:
        """Images of `normal`."""
        self.require(category)
        return list_images(_one_of(self.root, _NORMAL) or self.root / _NORMAL[0])

    def test_images(self, category: str) -> list[TestImage]:
        """Images of `abnormal` and `normal_test`; a folder below `abnormal` names a defect."""
        self.require(category)
        good, bad = _one_of(self.root, _NORMAL_TEST), _one_of(self.root, _ABNORMAL)
        if good is None and bad is None:
            raise DatasetError(
                f"{self.root}: expected test images in {_ABNORMAL[0]}/ or {_NORMAL_TEST[0]}/, "
                "got neither folder"
            )
        listed = []
        if bad is not None:
            listed += [self._abnormal(path, bad) for path in list_images(bad).images]
        if good is not None:
            listed += [
                TestImage(path=path, defect=GOOD, mask=None, root=self.root)
                for path in list_images(good).images
            ]
        return sorted(listed, key=lambda image: image.name)

    def _abnormal(self, path: Path, folder: Path) -> TestImage:
        *below, _ = path.relative_to(folder).parts
        kind = below[0] if below else folder.name
        if kind == GOOD:
            raise DatasetError(f"{path}: expected a defect's name, got a folder named {GOOD!r}")
        masks = _one_of(self.root, _MASKS) or self.root / _MASKS[0]
        return _defect(path, kind, root=self.root, masks=masks.joinpath(*below))


def is_plain(root: Path) -> bool:
    """Whether a folder has one of the folders that only a plain data set has."""
    return any((root / name).is_dir() for name in _NORMAL + _ABNORMAL)


def folder_kind(category: Path) -> str | None:
    """The layout of a category's folder, by the names of its folders; None if none fits.

    Raises:
        DatasetError: two layouts fit; the message names the folders of both.
    """
    train, test = category / "train", category / "test"
    good = [folder for folder in (train / GOOD, test / GOOD) if folder.is_dir()]
    okay = [folder for folder in (train / "ok", test / "ok") if folder.is_dir()]
    if good and okay:
        raise DatasetError(
            f"{category}: expected one layout, got {okay[0].relative_to(category).as_posix()} "
            f"(btad) beside {good[0].relative_to(category).as_posix()} (mvtec); keep one"
        )
    if (category / "test_public").is_dir():
        return "mvtec-ad-2"
    if okay or ((test / "ko").is_dir() and not good):
        return "btad"
    return "mvtec" if good or test.is_dir() else None


def subfolders(root: Path) -> list[Path]:
    """Folders directly below `root`, sorted by name, without hidden ones."""
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _defect(path: Path, kind: str, *, root: Path, masks: Path) -> TestImage:
    mask = find_mask(masks, path.stem)
    return TestImage(path=path, defect=kind, mask=mask, root=root, mask_source=masks)


def _one_of(root: Path, names: tuple[str, ...]) -> Path | None:
    found = [root / name for name in names if (root / name).is_dir()]
    if len(found) > 1:
        raise DatasetError(f"{root}: expected one of {' and '.join(names)}, got both; keep one")
    return found[0] if found else None
