"""An image as a whole -> nine statistics that distinguish a moved camera from other light or parts.

input (H, W, 3), layer2, layer3 -> Measured; Measured against the normal images -> statistics.
A linear model gives the position (Lucas & Kanade 1981). If an image shows the mean thumbnail r
moved by s under another light, its thumbnail p is a·(r - s·r') + b. The variance that the model
cannot explain measures how unlike the image is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.manifest.monitoring import GROUPS, THUMBNAIL_SIDE, Monitoring

_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_MOST_CELLS = 1.5  # the linear model does not hold for larger shifts
_SMALLEST_GAIN = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The measurements of one image, before they are compared with the normal images."""

    thumbnail: Array  # (16, 16), luminance in 0 to 255
    warmth: float  # natural logarithm of red over blue
    sharpness: float  # differences of adjacent pixels, divided by those of pixels four apart
    layer2: Array  # (up to 16,), means over positions and over the channels of a group
    layer3: Array
    cell_px: tuple[float, float]  # height and width of a thumbnail's cell


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The statistics of the normal images, with which an image is compared."""

    thumbnail: Array  # (16, 16)
    layer2: tuple[Array, Array]  # means and spreads
    layer3: tuple[Array, Array]

    @classmethod
    def of(cls, monitoring: Monitoring) -> "Reference":
        """Load the reference from a manifest."""
        groups = [
            (np.array(layer.means), np.array(layer.spreads))
            for layer in (monitoring.layer2, monitoring.layer3)
        ]
        thumbnail = np.reshape(monitoring.thumbnail, (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return cls(thumbnail=thumbnail, layer2=groups[0], layer3=groups[1])


def measure_image(
    pixels: NDArray[np.uint8], layer2: NDArray[np.float32], layer3: NDArray[np.float32]
) -> Measured:
    """Measure one image.

    Args:
        pixels: The input, (H, W, 3), H and W multiples of 16.
        layer2: Its features, (T, C2, h, w), of all T tiles; a region of interest is ignored.
        layer3: (T, C3, h/2, w/2).
    """
    height, width = pixels.shape[0] // THUMBNAIL_SIDE, pixels.shape[1] // THUMBNAIL_SIDE
    cells = pixels.reshape(THUMBNAIL_SIDE, height, THUMBNAIL_SIDE, width, 3)
    colours = cells.mean(axis=(1, 3), dtype=np.float64)  # (16, 16, 3)
    red, _, blue = colours.mean(axis=(0, 1))
    return Measured(
        thumbnail=colours @ _LUMINANCE,
        warmth=float(np.log((red + 1) / (blue + 1))),
        sharpness=_sharpness(pixels[:, :, 1].astype(np.int16)),
        layer2=_group_means(layer2),
        layer3=_group_means(layer3),
        cell_px=(float(height), float(width)),
    )


def _sharpness(green: NDArray[np.int16]) -> float:
    near, far = 0.0, 0.0
    for plane in (green, green.T):
        near += float(np.abs(plane[1:] - plane[:-1]).mean())
        far += float(np.abs(plane[4:] - plane[:-4]).mean())
    return near / far if far > 0 else 0.0


def _group_means(layer: NDArray[np.float32]) -> Array:
    """Compute means of up to 16 groups of adjacent channels; group sizes differ by at most one."""
    channels = layer.mean(axis=(0, 2, 3), dtype=np.float64)
    return np.array([part.mean() for part in np.array_split(channels, min(GROUPS, len(channels)))])


def compare(measured: Measured, reference: Reference) -> Mapping[str, float]:
    """Compute the nine statistics of one image, by the names of `monitoring.Quantiles`.

    Shifts are in input pixels, downwards and to the right. `likeness` is the share of the
    thumbnail's variance that the model explains, 0 to 1; `layer2` and `layer3` are root mean
    squares of standardised group means.
    """
    down, right, likeness = _fit(measured.thumbnail, reference.thumbnail)
    return {
        "brightness": float(measured.thumbnail.mean()),
        "contrast": float(measured.thumbnail.std()),
        "warmth": measured.warmth,
        "sharpness": measured.sharpness,
        "row_shift": down * measured.cell_px[0],
        "column_shift": right * measured.cell_px[1],
        "likeness": likeness,
        "layer2": _distance(measured.layer2, *reference.layer2),
        "layer3": _distance(measured.layer3, *reference.layer3),
    }


def _distance(found: Array, means: Array, spreads: Array) -> float:
    return float(np.sqrt(np.mean(np.square((found - means) / spreads))))


def _fit(thumbnail: Array, mean: Array) -> tuple[float, float, float]:
    """Fit the linear model; return the shift in cells (down, right) and the explained variance."""
    down, right = np.gradient(mean)
    terms = np.stack([np.ones(mean.size), mean.ravel(), down.ravel(), right.ravel()], axis=1)
    found, *_ = np.linalg.lstsq(terms, thumbnail.ravel(), rcond=None)
    gain = float(found[1])
    variance = float(thumbnail.var())
    if gain <= _SMALLEST_GAIN or variance == 0:
        return 0.0, 0.0, 0.0
    left = float(np.var(thumbnail.ravel() - terms @ found))
    shift = np.clip(-found[2:] / gain, -_MOST_CELLS, _MOST_CELLS)
    return float(shift[0]), float(shift[1]), max(0.0, 1 - left / variance)
