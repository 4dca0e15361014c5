"""The region of interest: which pixels and patches of the input count.

mask image of a photograph, or roi.png of an artifact -> Region. artifacts/FORMAT.md, section
Region of interest, defines every step in whole numbers, so that all readers agree to the bit.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.errors import ArtifactError, ImageError
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.placement import Placement, place_input
from patchcore_runtime.manifest.manifest import Preprocessing, RegionOfInterest

_ASPECT_SHARE = 50  # a mask's aspect ratio may be off by one fiftieth
_BLACK, _WHITE = 0, 255


@dataclass(frozen=True, eq=False)
class Region:
    """The pixels that count, bool (H, W), all of them inside patches that count."""

    pixels: NDArray[np.bool_]
    patch_px: int  # side of a patch

    @classmethod
    def of(cls, pixels: NDArray[np.bool_], patch_px: int) -> "Region":
        """Make a region without the pixels of cells that are marked by less than half.

        Args:
            pixels: bool (H, W), multiples of `patch_px`.
            patch_px: Side of a patch.

        Raises:
            ValueError: no patch counts.
        """
        counts = 2 * _cells(pixels, patch_px).sum(axis=(1, 3), dtype=np.int64) >= patch_px**2
        patches = np.repeat(np.repeat(counts, patch_px, axis=0), patch_px, axis=1)
        if not patches.any():
            raise ValueError(
                f"expected white pixels to inspect, got no patch of {patch_px} x {patch_px} input "
                "pixels that is half white; draw a larger region"
            )
        return cls(pixels & patches, patch_px)

    @cached_property
    def patches(self) -> NDArray[np.bool_]:
        """Return the patches that count, (h, w)."""
        inside: NDArray[np.bool_] = np.asarray(_cells(self.pixels, self.patch_px).any(axis=(1, 3)))
        return inside

    def on_photograph(self, place: Placement) -> NDArray[np.bool_]:
        """Return the photograph's pixels whose centre the region covers, (H', W')."""
        resized = place.uncropped(self.pixels)
        y = _nearest(place.resized_height, place.photo_height, 0, place.photo_height)
        x = _nearest(place.resized_width, place.photo_width, 0, place.photo_width)
        shown: NDArray[np.bool_] = resized[y[:, None], x]
        return shown

    @property
    def share(self) -> float:
        """Return the share of the input's pixels that count."""
        return float(self.pixels.mean())


def read_region(
    path: str | Path, settings: Preprocessing, photo: RegionOfInterest, *, patch_px: int
) -> Region:
    """Load a mask of the photograph and convert it to the input's geometry.

    Args:
        path: Mask image with the aspect ratio of the artifact's photographs; white is inspected.
        settings: The artifact's geometry.
        photo: The size of the artifact's photographs.
        patch_px: Side of a patch.

    Raises:
        ImageError: the file is unreadable, not a mask, of another aspect ratio, or no patch of it
            counts.
    """
    image = read_image(path)
    width, height = image.size
    gap = abs(width * photo.photo_height - height * photo.photo_width)
    if gap * _ASPECT_SHARE > height * photo.photo_width:
        raise ImageError(
            f"{path}: expected a mask with the aspect ratio of the artifact's photographs, "
            f"{photo.photo_width} x {photo.photo_height} px, got {width} x {height}; draw it on "
            "one of them"
        )
    white = _white(image, str(path))
    place = place_input(height, width, settings)
    y = _nearest(height, place.resized_height, place.top, settings.height)
    x = _nearest(width, place.resized_width, place.left, settings.width)
    try:
        return Region.of(white[y[:, None], x], patch_px)
    except ValueError as error:
        raise ImageError(f"{path}: {error}") from None


def stored_region(path: Path, settings: Preprocessing, *, patch_px: int) -> Region:
    """Load an artifact's roi.png.

    Raises:
        ArtifactError: it is not a mask of the input's size, or marks pixels of other patches.
    """
    try:
        pixels = _white(read_image(path), str(path))
        if pixels.shape != (settings.height, settings.width):
            raise ImageError(
                f"{path}: expected {settings.width} x {settings.height} px as the input, "
                f"got {pixels.shape[1]} x {pixels.shape[0]}"
            )
        region = Region.of(pixels, patch_px)
    except ImageError as error:
        raise ArtifactError(f"{error}; copy the folder again") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; copy the folder again") from None
    lone = int(pixels.sum() - region.pixels.sum())
    if lone:
        raise ArtifactError(
            f"{path}: expected white only in patches that count, got {lone} px elsewhere; "
            "copy the folder again"
        )
    return region


def narrower(path: str | Path, asked: Region, learned: Region | None) -> Region:
    """Check that a region requested at load lies inside the learned one, and return it.

    Raises:
        ImageError: a part lies outside, where nothing was learned.
    """
    if learned is not None:
        beyond = int((asked.pixels & ~learned.pixels).sum())
        if beyond:
            raise ImageError(
                f"{path}: expected a region inside the artifact's own (roi.png), got {beyond} "
                "input pixels outside, where nothing was learned; draw it smaller, or fit again"
            )
    return asked


def _cells(pixels: NDArray[np.bool_], patch_px: int) -> NDArray[np.bool_]:
    """Reshape (H, W) to (h, p, w, p)."""
    height, width = pixels.shape
    return pixels.reshape(height // patch_px, patch_px, width // patch_px, patch_px)


def _nearest(source: int, target: int, start: int, count: int) -> NDArray[np.int64]:
    """Return the source pixels at the centres of `count` target pixels from `start` on."""
    nearest: NDArray[np.int64] = (2 * np.arange(start, start + count) + 1) * source // (2 * target)
    return nearest


def _white(image: Image.Image, where: str) -> NDArray[np.bool_]:
    """Return (H, W), True where a mask image is white; refuse colours other than black or white."""
    pixels = np.asarray(image)
    white: NDArray[np.bool_] = (pixels == _WHITE).all(axis=2)
    other = ~(white | (pixels == _BLACK).all(axis=2))
    if other.any():
        y, x = divmod(int(other.argmax()), pixels.shape[1])
        got = ", ".join(map(str, pixels[y, x]))
        raise ImageError(
            f"{where}: expected a mask of black (0) and white (255) pixels alone, got ({got}) at "
            f"x {x}, y {y}; save it as PNG, white where it is inspected"
        )
    return white
