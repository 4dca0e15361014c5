"""A folder's images -> the network's inputs in memory, T tiles of each, and their digest.

Several threads decode images, a few images ahead of the one that is stored next. The inputs keep
the order of the folder.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.config import WHITE_LEVELS, Config, plan_grid, plan_preprocessing
from patchcore_build.data.image_folder import ImageFolder
from patchcore_build.data.roi import plan_region
from patchcore_build.data.views import ANGLES, rotated, view_name
from patchcore_build.errors import DatasetError, SettingError, require
from patchcore_build.progress import Progress, silent
from patchcore_build.storage import ROW_BYTES, Storage
from patchcore_runtime.artifact.folder import file_digest
from patchcore_runtime.engine.session import usable_cores
from patchcore_runtime.errors import ImageError
from patchcore_runtime.files.names import shown_path
from patchcore_runtime.image.decode import image_size, largest_grey
from patchcore_runtime.image.preprocess import fit_to_input, read_photograph
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.manifest import WHITE_16_BITS, Preprocessing, RegionOfInterest
from patchcore_runtime.manifest.tiling import TileGrid
from patchcore_runtime.ordered_work import MemoryBudget, work_in_order


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Preprocessed training images, and what is to be said about images."""

    pixels: NDArray[np.uint8]  # (N·T, tile_height, tile_width, 3), an image's tiles together
    names: tuple[str, ...]  # paths of the N images below the folder, of views with their angle
    paths: tuple[Path, ...]
    skipped: tuple[str, ...]  # one line for each unreadable image: its name and the reason
    notes: tuple[str, ...]  # one line for each image that is almost black
    preprocessing: Preprocessing
    grid: TileGrid
    region: RegionOfInterest
    roi: Region | None  # None: the whole input counts
    # Views of each photograph, which follow each other; the first is not rotated.
    views: int = 1

    @cached_property
    def first_equal(self) -> NDArray[np.int64]:
        """Number of the first image with the same input as each image, (N,); its own if none is.

        A rotated view counts as equal to its photograph.
        """
        tiles = self.grid.tiles
        firsts: dict[bytes, int] = {}
        numbers = [
            firsts.setdefault(
                hashlib.sha256(self.pixels[image * tiles : (image + 1) * tiles].tobytes()).digest(),
                image,
            )
            for image in (number - number % self.views for number in range(len(self.names)))
        ]
        return np.array(numbers, np.int64)


def load_inputs(  # noqa: PLR0913 - independent keywords
    folder: ImageFolder,
    config: Config,
    storage: Storage,
    *,
    skip_bad: bool = False,
    roi: str | Path | None = None,
    frame: Preprocessing | None = None,
    progress: Progress = silent,
) -> Inputs:
    """Decode, resize and crop the training images.

    Args:
        folder: The images.
        config: Decides the input geometry, together with the images' sizes.
        storage: Allocates the array of inputs.
        skip_bad: Leave out unreadable images and list them, instead of raising an error.
        roi: Mask image or polygon of the region of interest; see `roi.plan_region`.
        frame: The input geometry, if it is known already; None: that of the config.
        progress: Called with the number of images that are done.

    Raises:
        ImageError: an image is unreadable and `skip_bad` is off, or `roi` is unreadable; the
            message names it.
        SettingError: a tile is larger than the input of these images.
        DatasetError: no readable image.
    """
    good, sizes, skipped = read_sizes(folder, skip_bad=skip_bad)
    if frame is None:
        white_level = _choose_white_level(config, good)
        settings, grid = plan_input(folder.root, config, sizes, white_level=white_level)
    else:
        settings, grid = frame, plan_grid(config, frame)
    angles = ANGLES if config.augment == "rotate" else ANGLES[:1]
    require(len(angles) == 1 or roi is None, "--augment", "none beside --roi", config.augment)
    region, found = plan_region(roi, settings, sizes, patch_px=grid.patch_px)
    shape = (len(good) * len(angles) * grid.tiles, *grid.tile_px, 3)
    # Reserve memory for the coreset selection first: ROW_BYTES for each patch.
    storage.set_aside(ROW_BYTES * math.prod(shape[:3]) // grid.patch_px**2)
    pixels = storage.allocate(shape, np.uint8)
    paths: list[Path] = []
    names: list[str] = []
    notes: list[str] = []
    work = partial(_try_preprocess, settings, notes, MemoryBudget())
    inputs = work_in_order(work, good, workers=usable_cores())
    for done, (path, read) in enumerate(zip(good, inputs, strict=True), start=1):
        if not isinstance(read, ImageError):
            for angle in angles:
                first = len(paths) * grid.tiles
                pixels[first : first + grid.tiles] = list(grid.cut(rotated(read, angle)))
                paths.append(path)
                names.append(view_name(folder.name(path), angle))
        elif skip_bad:
            skipped.append(_reason(read, path, folder))
        else:
            raise _with_advice(read)
        progress(done, len(good))
    _require_one(folder.root, len(paths))
    return Inputs(
        pixels=pixels[: len(paths) * grid.tiles],
        names=tuple(names),
        paths=tuple(paths),
        views=len(angles),
        skipped=tuple(skipped),
        notes=tuple(sorted(notes)),
        preprocessing=settings,
        grid=grid,
        region=region,
        roi=found,
    )


def keep_inputs(inputs: Inputs, kept: NDArray[np.int64]) -> Inputs:
    """Keep the images with these numbers, ascending; the input geometry stays the same."""
    tiles = inputs.grid.tiles
    return replace(
        inputs,
        pixels=inputs.pixels[(kept[:, None] * tiles + np.arange(tiles)).ravel()],
        names=tuple(inputs.names[image] for image in kept),
        paths=tuple(inputs.paths[image] for image in kept),
    )


def digest_images(inputs: Inputs) -> str:
    """SHA-256 of the names and contents of the images, in order."""
    digest = hashlib.sha256()
    for name, path in zip(inputs.names, inputs.paths, strict=True):
        digest.update(f"{file_digest(path)}  {name}\n".encode())
    return digest.hexdigest()


def read_sizes(
    folder: ImageFolder, *, skip_bad: bool
) -> tuple[list[Path], list[tuple[int, int]], list[str]]:
    """Readable images, the (height, width) of each, and a line for each unreadable one.

    Raises:
        ImageError: an image is unreadable and `skip_bad` is off.
        DatasetError: no readable image.
    """
    good: list[Path] = []
    sizes: list[tuple[int, int]] = []
    skipped: list[str] = []
    for path in folder.images:
        try:
            sizes.append(image_size(path))
            good.append(path)
        except ImageError as error:
            if not skip_bad:
                raise _with_advice(error) from None
            skipped.append(_reason(error, path, folder))
    _require_one(folder.root, len(good))
    return good, sizes, skipped


def plan_input(
    root: Path,
    config: Config,
    sizes: Sequence[tuple[int, int]],
    *,
    white_level: int = WHITE_16_BITS,
) -> tuple[Preprocessing, TileGrid]:
    """The input geometry of images of these (height, width), and its tiles.

    Raises:
        SettingError: a tile is larger than the input; the message names the folder `root`.
        DatasetError: no input fits the images.
    """
    try:
        settings = plan_preprocessing(config, sizes, white_level=white_level)
        return settings, plan_grid(config, settings)
    except SettingError as error:
        raise SettingError(f"{root}: {error}") from None
    except ValueError as error:
        raise DatasetError(f"{root}: no input fits these images ({error})") from None


def _choose_white_level(config: Config, images: Sequence[Path]) -> int:
    """The value of white in 16-bit grey: as set, or the smallest that the images fit in."""
    if config.white_level != "auto":
        return config.white_level
    largest = 0
    for found in work_in_order(_try_largest_grey, images, workers=usable_cores()):
        largest = max(largest, found)
    if largest == 0:  # no image has 16 bits
        return WHITE_LEVELS[-1]
    return next(level for level in WHITE_LEVELS if largest <= level)


def _try_largest_grey(path: Path) -> int:
    try:
        return largest_grey(path)
    except ImageError:  # refused or skipped where the inputs are read
        return 0


def _try_preprocess(
    settings: Preprocessing, notes: list[str], memory: MemoryBudget, path: Path
) -> NDArray[np.uint8] | ImageError:
    """An image's input, uint8 (H, W, 3), or the error that names what is wrong with it."""
    try:
        with memory.image() as reserve:
            photograph = read_photograph(path, settings, notes=notes, reserve=reserve)
            return fit_to_input(photograph, settings)[0]
    except ImageError as error:
        return error


def _with_advice(error: ImageError) -> ImageError:
    return ImageError(f"{error}; repair or remove it, or use --skip-bad")


def _reason(error: ImageError, path: Path, folder: ImageFolder) -> str:
    """Why an image was left out, for the manifest: without its folder on this machine."""
    reason = str(error).removeprefix(f"{shown_path(path)}: ")
    # Pillow repeats the whole path, perhaps cut off, in this one message.
    reason = re.sub(r"(cannot identify image file)[^)]*", r"\1", reason)
    return f"{folder.name(path)}: {reason}"


def _require_one(root: Path, count: int) -> None:
    if not count:
        raise DatasetError(f"{root}: expected at least one readable image, got none")
