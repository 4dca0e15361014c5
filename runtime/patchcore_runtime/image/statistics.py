"""An image as a whole -> nine statistics that distinguish a moved camera from other light or parts.

input (H, W, 3) and its layers -> Measured; Measured against the normal images -> statistics.
A linear model gives the position (Lucas & Kanade 1981). If an image shows the mean thumbnail r
moved by s under another light, its thumbnail p is a·(r - s·r') + b. The variance that the model
cannot explain measures how unlike the image is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.manifest.monitoring import GROUPS, THUMBNAIL_SIDE, Monitoring

_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_MOST_CELLS = 1.5  # the linear model does not hold for larger shifts
_SMALLEST_GAIN = 0.05
_ROUNDING = 1e-6  # more than the order of sums changes in brightness and contrast

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The measurements of one image, before they are compared with the normal images."""

    thumbnail: Array  # (16, 16), luminance in 0 to 255
    warmth: float  # natural logarithm of red over blue
    sharpness: float  # differences of adjacent pixels, divided by those of pixels four apart
    layers: tuple[Array, ...]  # (up to 16,) each: means over positions and channels of a group
    cell_px: tuple[float, float]  # height and width of a thumbnail's cell


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The statistics of the normal images, with which an image is compared."""

    thumbnail: Array  # (16, 16)
    layers: dict[str, tuple[Array, Array]]  # means and spreads of each layer, by its name

    @classmethod
    def of(cls, monitoring: Monitoring, names: Sequence[str]) -> "Reference":
        """Load the reference from a manifest; the names are those of its layers."""
        groups = {
            name: (np.array(layer.means), np.array(layer.spreads))
            for name, layer in zip(names, monitoring.layers, strict=True)
        }
        thumbnail = np.reshape(monitoring.thumbnail, (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return cls(thumbnail=thumbnail, layers=groups)


def measure_image(pixels: NDArray[np.uint8], layers: Sequence[NDArray[np.float32]]) -> Measured:
    """Measure one image.

    Args:
        pixels: The input, (H, W, 3), H and W 16 or more.
        layers: Its features, (T, C, h/s, w/s) each, of all T tiles; a region of interest is
            ignored.
    """
    colours = _cell_means(pixels)
    red, _, blue = colours.mean(axis=(0, 1))
    return Measured(
        thumbnail=colours @ _LUMINANCE,
        warmth=float(np.log((red + 1) / (blue + 1))),
        sharpness=_sharpness(pixels[:, :, 1].astype(np.int16)),
        layers=tuple(_group_means(layer) for layer in layers),
        cell_px=(pixels.shape[0] / THUMBNAIL_SIDE, pixels.shape[1] / THUMBNAIL_SIDE),
    )


def _cell_means(pixels: NDArray[np.uint8]) -> Array:
    """Compute the mean colours of 16 x 16 cells, (16, 16, 3); their sizes differ by at most one."""
    rows, columns = (
        np.arange(THUMBNAIL_SIDE + 1) * length // THUMBNAIL_SIDE for length in pixels.shape[:2]
    )
    tall = np.add.reduceat(pixels, rows[:-1], axis=0, dtype=np.int64)
    sums = np.add.reduceat(tall, columns[:-1], axis=1)
    means: Array = sums / np.outer(np.diff(rows), np.diff(columns))[:, :, None]
    return means


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


def unusual_light(pixels: NDArray[np.uint8], monitoring: Monitoring) -> tuple[str, ...]:
    """Return what brightness and contrast say against an image, in words; empty for usual ones.

    Args:
        pixels: The input, (H, W, 3).
        monitoring: Statistics of the normal images.
    """
    reasons = []
    for name, value in _light(_cell_means(pixels) @ _LUMINANCE).items():
        learned = getattr(monitoring.quantiles, name)
        if not learned[0] - _ROUNDING <= value <= learned[-1] + _ROUNDING:
            shown = round(value / _ROUNDING) * _ROUNDING  # one colour has contrast 0
            reasons.append(f"{name} {shown:.3g}, learned {learned[0]:.3g} to {learned[-1]:.3g}")
    return tuple(reasons)


def compare(measured: Measured, reference: Reference) -> Mapping[str, float]:
    """Compute the statistics of one image, by the names of `Quantiles` and of the layers.

    Shifts are in input pixels, downwards and to the right. `likeness` is the share of the
    thumbnail's variance that the model explains, 0 to 1; those of the layers are root mean
    squares of standardised group means.
    """
    layers = zip(measured.layers, reference.layers.items(), strict=True)
    down, right, likeness = _fit(measured.thumbnail, reference.thumbnail)
    return {
        **_light(measured.thumbnail),
        "warmth": measured.warmth,
        "sharpness": measured.sharpness,
        "row_shift": down * measured.cell_px[0],
        "column_shift": right * measured.cell_px[1],
        "likeness": likeness,
        **{name: _distance(of, *normal) for of, (name, normal) in layers},
    }


def _light(thumbnail: Array) -> dict[str, float]:
    return {"brightness": float(thumbnail.mean()), "contrast": float(thumbnail.std())}


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
