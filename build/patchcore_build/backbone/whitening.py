"""Estimate a whitening that suppresses the feature directions of camera, light and noise.

images (N, H, W, 3) uint8 + their features -> one symmetric matrix per layer.
Two augmented views of one image only differ in position, light and noise. So the covariance Sw of
their feature differences is nuisance, and W = (Sw + 0.1 tr(Sw)/C I)^(-1/4) / sqrt(C) shrinks it.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from patchcore_build.progress import Progress, silent

Features = Callable[
    [NDArray[np.uint8]],
    tuple[NDArray[np.float32], ...],
]

MAX_IMAGES = 30
PAIRS_PER_IMAGE = 2
PAIRS_PER_BATCH = 4  # eight views at once are about twice as fast on a CPU as two
RIDGE = 0.1  # of the mean eigenvalue


def estimate_whitening(
    body_features: Features,
    images: NDArray[np.uint8],
    *,
    seed: int,
    progress: Progress = silent,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the whitening of layer2 and layer3 from pairs of augmented views.

    Uses at most 30 evenly spread images, with two pairs each; memory is that of four pairs.

    Args:
        body_features: uint8 (B, H, W, 3), B up to eight -> layer2 (B, C2, h, w) and layer3
            (B, C3, h/2, w/2), after the 3x3 average and with identity whitening.
        images: Good images, uint8 RGB, shape (N, H, W, 3), N >= 1.
        seed: Seed of the views.
        progress: Called with the number of pairs that are done.

    Returns:
        Symmetric positive definite matrices (C2, C2) and (C3, C3).

    Raises:
        ValueError: `images` is empty or not uint8 (N, H, W, 3).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) == 0:
        raise ValueError(
            f"images: expected uint8 (N, H, W, 3) with N >= 1, got {images.dtype} {images.shape}; "
            "pass the preprocessed training images"
        )
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, len(images) - 1, min(len(images), MAX_IMAGES)).round().astype(np.int64)
    rows = np.repeat(rows, PAIRS_PER_IMAGE)
    nuisance2 = nuisance3 = np.zeros(())
    for start in range(0, len(rows), PAIRS_PER_BATCH):
        batch = np.repeat(rows[start : start + PAIRS_PER_BATCH], 2)
        layer2, layer3 = body_features(np.stack([augmented_view(images[r], rng) for r in batch]))
        for first in range(0, len(batch), 2):
            pair = slice(first, first + 2)
            nuisance2 = nuisance2 + _half_difference_covariance(layer2[pair]) / len(rows)
            nuisance3 = nuisance3 + _half_difference_covariance(layer3[pair]) / len(rows)
        progress(min(start + PAIRS_PER_BATCH, len(rows)), len(rows))
    return _inverse_fourth_root(nuisance2), _inverse_fourth_root(nuisance3)


def augmented_view(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Augment an image as a camera might see it again: moved a little, in slightly other light.

    Shift +-3 px, rotation +-3 degrees, scale +-2 %, then blur, gain, offset, gamma, a gradient of
    light, and noise. The border is filled by reflection.

    Args:
        image: uint8 RGB, shape (H, W, 3).
        rng: Random generator; a view always takes the same number of draws.

    Returns:
        uint8 RGB of the same shape.
    """
    height, width, _ = image.shape
    moved = _move(image, rng).filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.8)))
    light = np.asarray(moved, dtype=np.float32) / 255
    gain, gamma = np.exp(rng.uniform(-0.2, 0.2, size=2))
    offset = rng.uniform(-0.08, 0.08)
    slope_y, slope_x = rng.uniform(-0.1, 0.1, size=2)
    ramp_y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None, None]
    ramp_x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :, None]
    light = np.clip(light, 0.0, 1.0) ** np.float32(gamma)
    light = light * np.float32(gain) * (1 + slope_y * ramp_y + slope_x * ramp_x) + offset
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    light = light + np.float32(rng.uniform(0.0, 0.03)) * noise
    return np.asarray(np.clip(np.rint(light * 255), 0, 255), dtype=np.uint8)


def _move(image: NDArray[np.uint8], rng: np.random.Generator) -> Image.Image:
    """Shift, rotate and scale about the centre; the border is filled by reflection."""
    height, width, _ = image.shape
    shift_y, shift_x = rng.uniform(-3.0, 3.0, size=2)
    angle = math.radians(rng.uniform(-3.0, 3.0))
    scale = 1 + rng.uniform(-0.02, 0.02)
    # A corner moves at most 3 px + half the diagonal * (sin 3 degrees + 2 %).
    margin = 5 + math.ceil(0.075 * math.hypot(height, width) / 2)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    # Pillow wants the source position of each output pixel, counted from the top left corner.
    centre_x, centre_y = width / 2, height / 2
    from_x = centre_x + margin + shift_x - cos * centre_x - sin * centre_y
    from_y = centre_y + margin + shift_y + sin * centre_x - cos * centre_y
    return Image.fromarray(padded).transform(
        (width, height),
        Image.Transform.AFFINE,
        (cos, sin, from_x, -sin, cos, from_y),
        Image.Resampling.BICUBIC,
    )


def _half_difference_covariance(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """(2, C, h, w) -> (C, C) around zero, which is the expected difference of the two views."""
    first, second = features.astype(np.float64)
    difference = (first - second).reshape(len(first), -1)
    covariance: NDArray[np.float64] = difference @ difference.T / (2 * difference.shape[1])
    return covariance


def _inverse_fourth_root(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    """(Sw + 0.1 mean eigenvalue I)^(-1/4) / sqrt(C), symmetric."""
    channels = len(covariance)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    # If the views do not differ (a black image), only the ridge is inverted.
    ridge = max(RIDGE * float(values.mean()), 1e-12)
    powers = (np.maximum(values, 0) + ridge) ** -0.25
    whitening = (vectors * powers) @ vectors.T / math.sqrt(channels)
    return np.asarray((whitening + whitening.T) / 2, dtype=np.float32)
