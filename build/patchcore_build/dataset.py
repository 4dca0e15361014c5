"""Folders of photographs -> lists of pictures, sorted by name, strays counted and never read.

MVTec layout (Bergmann et al. 2019): CATEGORY/train/good, CATEGORY/test/{good,DEFECT},
CATEGORY/ground_truth/DEFECT/NAME_mask.png. Or any plain folder of good pictures.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.config import Config, plan_preprocessing
from patchcore_build.errors import DatasetError
from patchcore_build.features import Storage
from patchcore_build.progress import Progress, silent
from patchcore_runtime.artifact import file_digest
from patchcore_runtime.errors import ImageError
from patchcore_runtime.manifest import Preprocessing
from patchcore_runtime.preprocess import SUFFIXES, Placement, picture_size, preprocess, read_image
from patchcore_runtime.session import usable_cores

GOOD = "good"
_READ_AHEAD = 16  # pictures decoded before they are needed
_MASK_LEVEL = 127  # a mask's pixel above it belongs to the defect
MIN_TRAINING_IMAGES = 2  # one to learn from, one to hold out


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The pictures below a folder, and how many other files were passed over."""

    root: Path
    images: tuple[Path, ...]
    strays: int

    def name(self, image: Path) -> str:
        """A picture's path below the folder, with forward slashes."""
        return image.relative_to(self.root).as_posix()


@dataclass(frozen=True, kw_only=True)
class TestImage:
    """One test picture: its kind of defect, and its mask where one is needed and found."""

    path: Path
    defect: str
    mask: Path | None

    @property
    def is_anomalous(self) -> bool:
        """Whether the picture shows a defect."""
        return self.defect != GOOD


def list_images(folder: Path) -> ImageFolder:
    """Find pictures by suffix in a folder and below, in the order of their names.

    Raises:
        DatasetError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one with pictures")
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    images = tuple(path for path in files if path.suffix.lower() in SUFFIXES)
    if not images:
        raise DatasetError(
            f"{folder}: expected pictures ({', '.join(sorted(SUFFIXES))}), "
            f"got none among {len(files)} files"
        )
    return ImageFolder(root=folder, images=images, strays=len(files) - len(images))


def training_folder(dataset: Path, category: str) -> Path:
    """CATEGORY/train/good of a data set in MVTec layout.

    Raises:
        DatasetError: it does not exist; names the categories that do.
    """
    folder = dataset / category / "train" / GOOD
    if not folder.is_dir():
        found = sorted(path.parent.parent.name for path in dataset.glob(f"*/train/{GOOD}"))
        hint = f"categories here: {', '.join(found)}" if found else "no category found here"
        raise DatasetError(
            f"{folder}: no such folder; {hint}; for a plain folder of pictures use --normal DIR"
        )
    return folder


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Preprocessed training pictures, and the ones that could not be read."""

    pixels: NDArray[np.uint8]  # (N, H, W, 3)
    names: tuple[str, ...]  # of the N pictures, below the folder
    paths: tuple[Path, ...]
    skipped: tuple[str, ...]  # one reason each
    preprocessing: Preprocessing


def load_inputs(
    folder: ImageFolder,
    config: Config,
    storage: Storage,
    *,
    skip_bad: bool = False,
    progress: Progress = silent,
) -> Inputs:
    """Decode, resize and crop the training pictures.

    Args:
        folder: The pictures.
        config: Decides the input geometry, together with the pictures' sizes.
        storage: Where the inputs are put.
        skip_bad: Leave out unreadable pictures and list them, instead of refusing.
        progress: Told how many pictures are done.

    Raises:
        ImageError: a picture is unreadable and `skip_bad` is off; names it.
        DatasetError: fewer than two pictures are left.
    """
    good, sizes, skipped = _read_sizes(folder, skip_bad=skip_bad)
    try:
        settings = plan_preprocessing(config, sizes)
    except ValueError as error:
        raise DatasetError(f"{folder.root}: no input fits these pictures ({error})") from None
    pixels = storage.allocate((len(good), settings.height, settings.width, 3), np.uint8)
    paths: list[Path] = []
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for done, (path, read) in enumerate(_ahead(pool, good, settings), start=1):
            try:
                pixels[len(paths)] = read.result()[0]
                paths.append(path)
            except ImageError as error:
                if not skip_bad:
                    raise _with_advice(error) from None
                skipped.append(_reason(error, path, folder))
            progress(done, len(good))
    _require_enough(folder.root, len(paths))
    return Inputs(
        pixels=pixels[: len(paths)],
        names=tuple(folder.name(path) for path in paths),
        paths=tuple(paths),
        skipped=tuple(skipped),
        preprocessing=settings,
    )


def digest_images(inputs: Inputs) -> str:
    """SHA-256 over names and contents of the pictures, in order."""
    digest = hashlib.sha256()
    for name, path in zip(inputs.names, inputs.paths, strict=True):
        digest.update(f"{file_digest(path)}  {name}\n".encode())
    return digest.hexdigest()


def _read_sizes(
    folder: ImageFolder, *, skip_bad: bool
) -> tuple[list[Path], list[tuple[int, int]], list[str]]:
    good: list[Path] = []
    sizes: list[tuple[int, int]] = []
    skipped: list[str] = []
    for path in folder.images:
        try:
            sizes.append(picture_size(path))
            good.append(path)
        except ImageError as error:
            if not skip_bad:
                raise _with_advice(error) from None
            skipped.append(_reason(error, path, folder))
    _require_enough(folder.root, len(good))
    return good, sizes, skipped


def _ahead(
    pool: ThreadPoolExecutor, paths: list[Path], settings: Preprocessing
) -> Iterator[tuple[Path, "Future[tuple[NDArray[np.uint8], Placement]]"]]:
    """Preprocess in other threads, a bounded number of pictures ahead of the consumer."""
    waiting: deque[tuple[Path, Future[tuple[NDArray[np.uint8], Placement]]]] = deque()
    for path in paths:
        waiting.append((path, pool.submit(preprocess, path, settings)))
        if len(waiting) > _READ_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _with_advice(error: ImageError) -> ImageError:
    return ImageError(f"{error}; repair or remove it, or use --skip-bad")


def _reason(error: ImageError, path: Path, folder: ImageFolder) -> str:
    """Why a picture was left out, for the manifest: without the place on this machine."""
    told = str(error).removeprefix(f"{path}: ")
    # Pillow repeats the whole path in this one message; it may arrive cut off.
    told = re.sub(r"(cannot identify image file)[^)]*", r"\1", told)
    return f"{folder.name(path)}: {told}"


def _require_enough(root: Path, count: int) -> None:
    if count < MIN_TRAINING_IMAGES:
        raise DatasetError(
            f"{root}: expected at least {MIN_TRAINING_IMAGES} readable pictures "
            f"(one to learn from, one to hold out), got {count}"
        )


def list_test_images(dataset: Path, category: str) -> list[TestImage]:
    """CATEGORY/test, each defect matched with its mask by name (000.png with 000_mask.png).

    Raises:
        DatasetError: no test folder or no pictures in it.
    """
    root = dataset / category / "test"
    folder = list_images(root)
    masks = dataset / category / "ground_truth"
    listed = []
    for path in folder.images:
        parts = path.relative_to(root).parts
        if len(parts) < 2:
            raise DatasetError(
                f"{path}: expected a folder that names the defect (or `good`) between test/ and "
                "the picture; move the picture into one"
            )
        mask = None if parts[0] == GOOD else _find_mask(masks / Path(*parts[:-1]), path.stem)
        listed.append(TestImage(path=path, defect=parts[0], mask=mask))
    return listed


def read_mask(image: TestImage, placement: Placement, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Bring a picture's mask to the input's geometry.

    Args:
        image: A test picture; good ones have nothing marked.
        placement: Where the input lies on the photograph.
        shape: (H, W) of the input.

    Returns:
        bool (H, W), True on the defect; nearest neighbour, so that nothing is invented.

    Raises:
        DatasetError: the mask is missing, unreadable, empty, or of another size than the picture.
    """
    height, width = shape
    if not image.is_anomalous:
        return np.zeros((height, width), np.bool_)
    if image.mask is None:
        raise DatasetError(f"{image.path}: no mask found under ground_truth/{image.defect}")
    try:
        mask = read_image(image.mask).convert("L")
    except ImageError as error:
        raise DatasetError(str(error)) from None
    if mask.size != (placement.photo_width, placement.photo_height):
        raise DatasetError(
            f"{image.mask}: expected {placement.photo_width} x {placement.photo_height} px as its "
            f"picture, got {mask.size[0]} x {mask.size[1]}"
        )
    largest = int(np.asarray(mask).max())
    if largest <= _MASK_LEVEL:
        raise DatasetError(
            f"{image.mask}: expected a marked defect (over {_MASK_LEVEL} of 255), got an empty "
            f"mask, its largest value is {largest}"
        )
    resized = mask.resize(
        (placement.resized_width, placement.resized_height), Image.Resampling.NEAREST
    )
    top, left = placement.top, placement.left
    return np.asarray(resized)[top : top + height, left : left + width] > _MASK_LEVEL


def _find_mask(folder: Path, stem: str) -> Path | None:
    for name in (f"{stem}_mask.png", f"{stem}.png", f"{stem}_mask.bmp", f"{stem}.bmp"):
        if (folder / name).is_file():
            return folder / name
    return None


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
