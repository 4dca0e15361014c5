"""VisA as it is distributed (Zou et al. 2022, arXiv:2207.14315): images beside a split file.

ROOT/split_csv/1cls.csv (object,split,label,image,mask; paths below ROOT) -> the listings of
ROOT/OBJECT/Data/{Images,Masks}. Masks hold small class numbers: any value but 0 is a defect.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from patchcore_build.data.folder_layouts import Dataset, subfolders
from patchcore_build.data.image_folder import GOOD, ImageFolder, TestImage
from patchcore_build.errors import DatasetError
from patchcore_runtime.files.regular import open_regular

SPLIT_FILE = Path("split_csv", "1cls.csv")
_COLUMNS = ("object", "split", "label", "image", "mask")
_SPLITS = ("train", "test")
_LABELS = ("normal", "anomaly")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One image of the split file, with the line that names it."""

    where: str  # file:line
    category: str
    split: str
    label: str
    image: str
    mask: str


@dataclass(frozen=True, kw_only=True)
class VisaDataset(Dataset):
    """VisA: the split file says which images are for training and which for testing."""

    layout: str = "visa"

    def categories(self) -> tuple[str, ...]:
        """Objects of the split file, sorted."""
        return tuple(sorted({row.category for row in _read_split(self.root / SPLIT_FILE)}))

    def training_images(self, category: str) -> ImageFolder:
        """Images of the split `train`, named below ROOT/CATEGORY."""
        images = tuple(self._image(row) for row in self._rows(category, "train"))
        return ImageFolder(root=self.root / category, images=images)

    def test_images(self, category: str) -> list[TestImage]:
        """Images of the split `test`, with the masks that the split file names."""
        return [
            TestImage(
                path=self._image(row),
                defect=GOOD if row.label == "normal" else row.label,
                mask=self.root / _below(row, row.mask, category) if row.mask else None,
                root=self.root / category,
                mask_source=self.root / SPLIT_FILE,
                mask_level=1,
            )
            for row in self._rows(category, "test")
        ]

    def _rows(self, category: str, split: str) -> list[_Row]:
        """Rows of one category and split, sorted by image; at least one."""
        self.require(category)
        file = self.root / SPLIT_FILE
        rows = [row for row in _read_split(file) if (row.category, row.split) == (category, split)]
        if not rows:
            raise DatasetError(f"{file}: expected images of {category}, {split}; got none")
        return sorted(rows, key=lambda row: row.image)

    def _image(self, row: _Row) -> Path:
        path = self.root / _below(row, row.image, row.category)
        if not path.is_file():
            raise DatasetError(f"{row.where}: expected the image {path}, got no such file")
        return path


def is_visa(root: Path) -> bool:
    """Whether a folder has VisA's split file, or at least its folders of images."""
    return (root / SPLIT_FILE).is_file() or any(
        (folder / "Data" / "Images").is_dir() for folder in subfolders(root)
    )


def _read_split(file: Path) -> list[_Row]:
    """Read and validate the whole split file, whatever its line endings."""
    if not file.is_file():
        raise DatasetError(
            f"{file}: no such file; expected the split that VisA is distributed with"
        )
    first: dict[str, str] = {}
    rows = []
    # utf-8-sig and newline="": spreadsheets write a byte order mark and \r\n.
    with io.TextIOWrapper(open_regular(file), encoding="utf-8-sig", newline="") as stream:
        for row in _rows(file, csv.DictReader(stream, strict=True)):
            if row.image in first:
                raise DatasetError(
                    f"{row.where}: {row.image} is listed already at {first[row.image]}; keep one"
                )
            first[row.image] = row.where
            rows.append(row)
    return rows


def _rows(file: Path, reader: "csv.DictReader[str]") -> Iterator[_Row]:
    try:
        header = reader.fieldnames or ()
        if not set(_COLUMNS) <= set(header):
            raise DatasetError(
                f"{file}:1: expected the columns {','.join(_COLUMNS)}, got {','.join(header)!r}"
            )
        for cells in reader:
            yield _check(f"{file}:{reader.line_num}", cells)
    except (csv.Error, UnicodeDecodeError) as error:
        line = reader.line_num + 1
        raise DatasetError(f"{file}:{line}: expected comma-separated UTF-8 ({error})") from None


def _check(where: str, cells: dict[str, str]) -> _Row:
    # DictReader fills short rows with None, and keeps surplus values under the key None.
    if None in cells or None in cells.values():
        raise DatasetError(f"{where}: expected a value for each column, got another number of them")
    given = {name: cells[name].strip() for name in _COLUMNS}
    for name, allowed in (("split", _SPLITS), ("label", _LABELS)):
        if given[name] not in allowed:
            raise DatasetError(
                f"{where}: expected {name} {' or '.join(allowed)}, got {given[name]!r}"
            )
    if (given["split"], given["label"]) == ("train", "anomaly"):
        raise DatasetError(f"{where}: expected normal images to learn from, got an anomaly")
    return _Row(where=where, category=given.pop("object"), **given)


def _below(row: _Row, path: str, category: str) -> PurePosixPath:
    """A path of the split file; it must lie below ROOT/CATEGORY."""
    relative = PurePosixPath(path)
    if relative.parts[:1] != (category,) or ".." in relative.parts:
        raise DatasetError(f"{row.where}: expected a path below {category}/, got {path!r}")
    return relative
