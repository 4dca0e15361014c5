"""A folder's images -> the network's inputs in memory, T tiles of each, and their digest.

Images are decoded in other threads, a few ahead of the one that is needed; the order is the
folder's.
"""

import hashlib
import math
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.config import Config, plan_grid, plan_preprocessing
from patchcore_build.data.image_folder import ImageFolder
from patchcore_build.data.roi import plan_region
from patchcore_build.errors import DatasetError
from patchcore_build.progress import Progress, silent
from patchcore_build.storage import ROW_BYTES, Storage
from patchcore_runtime.artifact.folder import file_digest
from patchcore_runtime.engine.session import usable_cores
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import image_size
from patchcore_runtime.image.preprocess import Placement, preprocess
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.manifest import Preprocessing, RegionOfInterest
from patchcore_runtime.manifest.tiling import TileGrid

_READ_AHEAD = 16  # images decoded before they are needed
MIN_TRAINING_IMAGES = 2  # one to learn from, one to hold out


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Preprocessed training images, and the ones that could not be read."""

    pixels: NDArray[np.uint8]  # (N·T, tile_height, tile_width, 3), an image's tiles together
    names: tuple[str, ...]  # of the N images, below the folder
    paths: tuple[Path, ...]
    skipped: tuple[str, ...]  # one reason each
    preprocessing: Preprocessing
    grid: TileGrid
    region: RegionOfInterest
    roi: Region | None  # None: the whole input counts


def load_inputs(
    folder: ImageFolder,
    config: Config,
    storage: Storage,
    *,
    skip_bad: bool = False,
    roi: str | Path | None = None,
    progress: Progress = silent,
) -> Inputs:
    """Decode, resize and crop the training images.

    Args:
        folder: The images.
        config: Decides the input geometry, together with the images' sizes.
        storage: Where the inputs are put.
        skip_bad: Leave out unreadable images and list them, instead of refusing.
        roi: Mask image or polygon of what counts; see `roi.plan_region`.
        progress: Told how many images are done.

    Raises:
        ImageError: an image is unreadable and `skip_bad` is off, or `roi` is; names it.
        DatasetError: fewer than two images are left.
    """
    good, sizes, skipped = _read_sizes(folder, skip_bad=skip_bad)
    try:
        settings = plan_preprocessing(config, sizes)
        grid = plan_grid(config, settings)
    except ValueError as error:
        raise DatasetError(f"{folder.root}: no input fits these images ({error})") from None
    region, found = plan_region(roi, settings, sizes)
    shape = (len(good) * grid.tiles, *grid.tile_px, 3)
    # First of all, what the coreset will hold of every patch of 8 x 8 pixels.
    storage.set_aside(ROW_BYTES * math.prod(shape[:3]) // 64)
    pixels = storage.allocate(shape, np.uint8)
    paths: list[Path] = []
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for done, (path, read) in enumerate(_ahead(pool, good, settings), start=1):
            try:
                tiles = list(grid.cut(read.result()[0]))
                pixels[len(paths) * grid.tiles : (len(paths) + 1) * grid.tiles] = tiles
                paths.append(path)
            except ImageError as error:
                if not skip_bad:
                    raise _with_advice(error) from None
                skipped.append(_reason(error, path, folder))
            progress(done, len(good))
    _require_enough(folder.root, len(paths))
    return Inputs(
        pixels=pixels[: len(paths) * grid.tiles],
        names=tuple(folder.name(path) for path in paths),
        paths=tuple(paths),
        skipped=tuple(skipped),
        preprocessing=settings,
        grid=grid,
        region=region,
        roi=found,
    )


def keep_inputs(inputs: Inputs, kept: NDArray[np.int64]) -> Inputs:
    """Some of the images only, by number, ascending; the geometry stays."""
    tiles = inputs.grid.tiles
    return replace(
        inputs,
        pixels=inputs.pixels[(kept[:, None] * tiles + np.arange(tiles)).ravel()],
        names=tuple(inputs.names[image] for image in kept),
        paths=tuple(inputs.paths[image] for image in kept),
    )


def digest_images(inputs: Inputs) -> str:
    """SHA-256 over names and contents of the images, in order."""
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
            sizes.append(image_size(path))
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
    """Preprocess in other threads, a bounded number of images ahead of the consumer."""
    waiting: deque[tuple[Path, Future[tuple[NDArray[np.uint8], Placement]]]] = deque()
    for path in paths:
        waiting.append((path, pool.submit(preprocess, path, settings)))
        if len(waiting) > _READ_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _with_advice(error: ImageError) -> ImageError:
    return ImageError(f"{error}; repair or remove it, or use --skip-bad")


def _reason(error: ImageError, path: Path, folder: ImageFolder) -> str:
    """Why an image was left out, for the manifest: without the place on this machine."""
    told = str(error).removeprefix(f"{path}: ")
    # Pillow repeats the whole path in this one message; it may arrive cut off.
    told = re.sub(r"(cannot identify image file)[^)]*", r"\1", told)
    return f"{folder.name(path)}: {told}"


def _require_enough(root: Path, count: int) -> None:
    if count < MIN_TRAINING_IMAGES:
        raise DatasetError(
            f"{root}: expected at least {MIN_TRAINING_IMAGES} readable images "
            f"(one to learn from, one to hold out), got {count}"
        )
