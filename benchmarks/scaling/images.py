"""Any number of training images: seeded variations of existing images.

folder of images -> folder of JPEG files of 256 px. Each is an image moved by up to eight pixels and
with camera noise, so that no two have the same features.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.image.decode import read_image

_SIDE, _SHIFT, _NOISE = 256, 8, 4.0


def write_variations(sources: Path, folder: Path, count: int, *, seed: int = 0) -> Path:
    """Write `count` images, always the same first ones; return the folder.

    Existing files are kept, so that several counts together cost as much as the largest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = sorted(path for path in sources.iterdir() if path.is_file())
    originals: list[NDArray[np.uint8]] = []
    for number in range(count):
        target = folder / f"{number:06}.jpg"
        if len(originals) < len(paths):
            image = read_image(paths[number % len(paths)]).resize((_SIDE, _SIDE))
            originals.append(np.asarray(image))
        if not target.is_file():
            rng = np.random.default_rng([seed, number])
            varied = vary(originals[number % len(paths)], rng)
            Image.fromarray(varied).save(target, quality=95)
    return folder


def vary(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Move an image (H, W, 3) with its border repeated, and add Gaussian noise."""
    down, right = rng.integers(0, 2 * _SHIFT + 1, 2)
    height, width = image.shape[:2]
    wide = np.pad(image, ((_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    moved = wide[down : down + height, right : right + width]
    noise = rng.normal(0.0, _NOISE, image.shape)
    return np.clip(moved + noise, 0, 255).round().astype(np.uint8)


def link_first(folder: Path, target: Path, count: int) -> Path:
    """Make a folder with links to the first `count` images of another."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir())[:count]:
        link = target / path.name
        if not link.exists():
            link.hardlink_to(path)
    return target
