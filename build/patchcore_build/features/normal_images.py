"""Training images and their features -> the manifest's `monitoring`: statistics of normal images.

Each image is compared with all the other images, as a new image will be. A comparison with
statistics that include the image itself would make it look too normal. One image has no others, so
it is compared with itself; a monitor refuses so few.
"""

import numpy as np
from numpy.typing import NDArray

from patchcore_build.features.store import FeatureStore
from patchcore_runtime.image.statistics import Reference, compare, measure_image
from patchcore_runtime.manifest.monitoring import LEVELS, ChannelGroups, Monitoring, Quantiles

_SMALLEST_SPREAD = 1e-6  # if all images are equal
_DIGITS = 6  # significant digits that are stored

Array = NDArray[np.float64]


def describe_normal(
    pixels: NDArray[np.uint8], store: FeatureStore, *, views: int = 1
) -> Monitoring:
    """Measure every training image, and compare it with the other images.

    Args:
        pixels: The inputs, (N, H, W, 3), N >= 1.
        store: Their features.
        views: Of so many views of a photograph only the first is measured.
    """
    measured = [
        measure_image(pixels[image], store.as_network_output(image))
        for image in range(0, store.images, views)
    ]
    thumbnails, _ = _without_each(np.stack([one.thumbnail for one in measured]))
    layers = [np.stack(groups) for groups in zip(*(one.layers for one in measured), strict=True)]
    names = [f"layers[{at}]" for at in range(len(layers))]
    others = [list(zip(*_without_each(groups), strict=True)) for groups in layers]
    found = [
        compare(one, Reference(thumbnail=thumbnail, layers=dict(zip(names, normal, strict=True))))
        for one, thumbnail, normal in zip(
            measured, thumbnails, zip(*others, strict=True), strict=True
        )
    ]
    levels = np.linspace(0, 1, LEVELS)
    quantiles = {
        name: _short(np.quantile([one[name] for one in found], levels)) for name in found[0]
    }
    return Monitoring(
        images=len(measured),
        thumbnail=_short(np.mean([one.thumbnail for one in measured], axis=0).ravel()),
        layers=tuple(_groups(groups) for groups in layers),
        quantiles=Quantiles(layers=tuple(quantiles.pop(name) for name in names), **quantiles),
    )


def _without_each(values: Array) -> tuple[Array, Array]:
    """Mean and spread over all images except one, for each image: two arrays (N, ...)."""
    count = max(1, len(values) - 1)
    mean = values.mean(axis=0)
    centred = values - mean  # their sum is 0
    shift = -centred / count
    squares = np.square(centred)
    variance = (squares.sum(axis=0) - squares) / count - np.square(shift)
    return mean + shift, _never_zero(np.sqrt(np.maximum(variance, 0)), mean)


def _never_zero(spread: Array, mean: Array) -> Array:
    return np.maximum(spread, _SMALLEST_SPREAD * np.maximum(1.0, np.abs(mean)))


def _groups(layers: Array) -> ChannelGroups:
    mean = layers.mean(axis=0)
    return ChannelGroups(means=_short(mean), spreads=_short(_never_zero(layers.std(axis=0), mean)))


def _short(values: Array) -> tuple[float, ...]:
    """Round to six significant digits; more digits are noise and make manifests long."""
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
