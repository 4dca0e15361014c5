"""Find the part in the images: the first principal component of patches -> a mask in the network.

features of good images -> axis, offset and gain of a projection that is 0 on the background and 1
on the part. AnomalyDINO (Damm et al. 2024, arXiv:2405.14529) computes a component for each image.
Here the training images have one component, and the exported network contains it. So every program
masks alike. A masked patch is the zero vector, whose nearest row is zero, too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import DatasetError

MOST_IMAGES = 30
_RAMP = 0.25  # of the distance between the two groups, over which the mask rises from 0 to 1
_MOST_BORDER = 0.2  # foreground among the outer two rows and columns of patches
_LEAST_MIDDLE = 0.5  # foreground among the patches of the middle quarter
_BORDER_CELLS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Foreground:
    """The mask before it is widened: clip(features · axis + offset, 0, 1)."""

    axis: NDArray[np.float32]  # (D,), all layers together
    offset: float


def estimate_foreground(patches: NDArray[np.float32]) -> Foreground:
    """Separate the part from its background by the first principal component of all patches.

    Two-means of the projections (Otsu's threshold) separates them, and the middle of the images
    says which is the part.

    Args:
        patches: Features of N good images, (N, D, h, w).

    Raises:
        DatasetError: the component does not separate a part in the middle from its surroundings.
    """
    images, channels, height, width = patches.shape
    rows = patches.transpose(0, 2, 3, 1).reshape(-1, channels).astype(np.float64)
    mean = rows.mean(axis=0)
    axis = _first_component(rows - mean)
    values = ((rows - mean) @ axis).reshape(images, height, width)
    middle = np.zeros((height, width), bool)
    middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    if values[:, middle].mean() < values[:, ~middle].mean():
        axis, values = -axis, -values
    low, high = two_means(values.ravel())
    border = np.ones((height, width), bool)
    border[_BORDER_CELLS:-_BORDER_CELLS, _BORDER_CELLS:-_BORDER_CELLS] = False
    found = values > (low + high) / 2
    _require_part(float(found[:, middle].mean()), float(found[:, border].mean()))
    gain = 1 / (_RAMP * (high - low))
    offset = 0.5 - gain * ((low + high) / 2 + float(mean @ axis))
    return Foreground(axis=(gain * axis).astype(np.float32), offset=offset)


def two_means(values: NDArray[np.float64]) -> tuple[float, float]:
    """Split numbers into two groups with the least variance within them; return their means."""
    ordered = np.sort(values)
    below = np.arange(1, len(ordered))
    sums = ordered.cumsum()
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (len(ordered) - below)
    best = int((below * below[::-1] * (high - low) ** 2).argmax())
    return float(low[best]), float(high[best])


def _first_component(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import eigh

    last = centred.shape[1] - 1
    _, vectors = eigh(centred.T @ centred, subset_by_index=(last, last))
    component: NDArray[np.float64] = vectors[:, 0]
    return component


def _require_part(middle: float, border: float) -> None:
    if middle < _LEAST_MIDDLE or border > _MOST_BORDER:
        raise DatasetError(
            f"--foreground pca: expected images of a part whose surroundings look different (at "
            f"least {_LEAST_MIDDLE:.0%} foreground in the middle, at most {_MOST_BORDER:.0%} along "
            f"the border), got {middle:.0%} and {border:.0%}; leave the option out, or give --roi"
        )
