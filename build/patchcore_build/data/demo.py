"""Draw a product that does not exist: a brushed plate, good and damaged, in MVTec AD's layout.

seed -> folder/category/{train/good, test/good, test/<defect>, ground_truth/<defect>}/*.png.
With these images anybody can build, score and report without photographs. A damaged plate equals
its good twin outside of the mask.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.data.demo_damage import DAMAGES
from patchcore_build.data.demo_scene import draw_scene, render_scene
from patchcore_build.errors import DatasetError
from patchcore_runtime.files.staging import staging_folder

DEFECTS = tuple(DAMAGES)


def render_plate(
    key: tuple[int, ...], *, size_px: int = 256, defect: str | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one plate; the same `key` with and without a defect gives twins.

    Args:
        key: Seed of pose, light, texture, noise and damage; non-negative integers.
        size_px: Side of the square image, at least 64.
        defect: One of `DEFECTS`, or None for a good plate.

    Returns:
        RGB image, uint8 (H, W, 3), and the defect's region, bool (H, W). Outside the
        region the image equals its good twin.

    Raises:
        ValueError: `size_px` or `defect` is out of range.
    """
    if size_px < 64:
        raise ValueError(f"demo: expected size_px >= 64, got {size_px}; ask for a larger image")
    if defect is not None and defect not in DEFECTS:
        raise ValueError(f"demo: expected a defect of {', '.join(DEFECTS)}, got {defect!r}")
    scene = draw_scene(np.random.default_rng([*key, 0]), size_px)
    image = render_scene(scene, None)
    region = np.zeros((size_px, size_px), dtype=np.bool_)
    if defect is not None:
        damage = DAMAGES[defect](scene, np.random.default_rng([*key, 1]))
        region = damage.region
        image = np.where(region[..., None], render_scene(scene, damage), image)
    return image, region


def write_demo_dataset(  # noqa: PLR0913 - six numbers and names beside the folder, all optional
    folder: Path,
    *,
    seed: int = 0,
    train: int = 60,
    test_good: int = 20,
    per_defect: int = 8,
    size_px: int = 256,
    category: str = "brushed_plate",
) -> Path:
    """Write a complete data set in the layout of MVTec AD.

    It appears whole or not at all. The same arguments give the same bytes (with the same
    NumPy and Pillow), and larger counts only add images. The default takes seconds.

    Args:
        folder: Where the category's folder is made; created when missing.
        seed: Seed of everything random, >= 0.
        train: Good images to learn from, >= 1.
        test_good: Good images to test with, >= 0.
        per_defect: Damaged images of each kind in `DEFECTS`, >= 0.
        size_px: Side of the square images, at least 64.
        category: Name of the folder to make.

    Returns:
        The category's folder.

    Raises:
        DatasetError: The category's folder exists already, or its name is not a folder name.
        ValueError: A number is out of range.
    """
    if min(seed, train - 1, test_good, per_defect) < 0:
        raise ValueError(
            "demo: expected seed >= 0, train >= 1, test_good >= 0 and per_defect >= 0, got "
            f"{seed}, {train}, {test_good} and {per_defect}; ask for at least these"
        )
    target = folder / category
    if category in {"", ".", ".."} or Path(category).name != category:
        raise DatasetError(f"{category!r}: expected a plain folder name; leave out the path")
    if target.exists():
        raise DatasetError(
            f"{target}: expected no such folder, but it exists; "
            "remove it or choose another folder or category"
        )
    with staging_folder(target) as staging:
        for split, index, key in _plan(seed, train, test_good, per_defect):
            defect = split.name if split.name in DEFECTS else None
            image, region = render_plate(key, size_px=size_px, defect=defect)
            _save_png(staging / split / f"{index:03d}.png", image)
            if defect:
                mask = region.astype(np.uint8) * 255
                _save_png(staging / "ground_truth" / defect / f"{index:03d}_mask.png", mask)
        staging.rename(target)
    return target


def _plan(
    seed: int, train: int, test_good: int, per_defect: int
) -> Iterator[tuple[Path, int, tuple[int, ...]]]:
    """Every image's folder, number and key."""
    groups = [(Path("train/good"), train), (Path("test/good"), test_good)]
    groups += [(Path("test") / name, per_defect) for name in DEFECTS]
    for group, (split, count) in enumerate(groups):
        for index in range(count):
            yield split, index, (seed, group, index)


def _save_png(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")
