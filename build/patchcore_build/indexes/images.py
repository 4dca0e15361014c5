"""Images to measure an index on: images like held-out ones, and images with a drawn defect.

images or the self-test's input -> inputs uint8 (H, W, 3). Approximate searches fail at patches that
lie far from every row. Defects have such patches, so a measurement needs images with defects.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_VARIANTS = 16  # images without a drawn defect, and as many with one
_LARGEST_SHIFT_PX = 12
_DEFECTS = 4  # kinds of drawn defects, taken in turn


def with_drawn_defects(
    images: Iterable[NDArray[np.uint8]], *, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Each image as it is, then with a defect drawn on it.

    Args:
        images: Inputs, uint8 (H, W, 3), taken one by one.
        seed: Seed of every random choice.
    """
    random = np.random.default_rng(seed)
    for number, pixels in enumerate(images):
        yield pixels
        yield _with_defect(pixels, number % _DEFECTS, random)


def made_images(
    pixels: NDArray[np.uint8], box: tuple[int, int, int, int], *, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """The self-test input, and 32 images made from it: half of them with a drawn defect.

    The self-test's defect is covered with the pixels beside it. Then the image is shifted, its
    light changed, and noise added. Every other image gets a defect of one of four kinds.

    Args:
        pixels: The self-test's input, uint8 (H, W, 3).
        box: top, left, bottom, right of its defect.
        seed: Seed of every random choice.
    """
    yield pixels
    random = np.random.default_rng(seed)
    covered = _covered(pixels, box)
    for number in range(_VARIANTS):
        yield _like_held_out(covered, random)
        yield _with_defect(_like_held_out(covered, random), number % _DEFECTS, random)


def _covered(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    top, left, bottom, right = box
    width = right - left
    beside = left - width if left >= width else right
    covered: NDArray[np.uint8] = pixels.copy()
    source = pixels[top:bottom, beside : beside + width]
    covered[top:bottom, left : left + source.shape[1]] = source
    return covered


def _like_held_out(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Shift an image, change its gain by up to 10 %, and add noise of 1 to 6 grey levels."""
    down, right = random.integers(-_LARGEST_SHIFT_PX, _LARGEST_SHIFT_PX + 1, 2)
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    noise = random.normal(0, random.uniform(1, 6), pixels.shape)
    lit = pixels[rows[:, None], columns] * random.uniform(0.9, 1.1) + noise
    rounded: NDArray[np.uint8] = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return rounded


def _with_defect(
    pixels: NDArray[np.uint8], kind: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Fill a random box by `kind`: one colour, noise, the inverse, or another part upside down.

    Each side of the box has from 4 px to a third of the image's side.
    """
    height, width = pixels.shape[:2]
    tall, wide = (int(random.integers(4, side // 3 + 1)) for side in (height, width))
    top = int(random.integers(0, height - tall + 1))
    left = int(random.integers(0, width - wide + 1))
    marked: NDArray[np.uint8] = pixels.copy()
    box = marked[top : top + tall, left : left + wide]
    if kind == 0:
        box[:] = random.integers(0, 256, 3)
    elif kind == 1:
        box[:] = random.integers(0, 256, box.shape)
    elif kind == 2:
        box[:] = 255 - box
    else:  # a piece from anywhere, upside down
        y = int(random.integers(0, height - tall + 1))
        x = int(random.integers(0, width - wide + 1))
        box[:] = pixels[y : y + tall, x : x + wide][::-1, ::-1]
    return marked
