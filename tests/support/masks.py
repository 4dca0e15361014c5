"""Mask images of regions of interest."""

import numpy as np
from PIL import Image


def write_mask(path, box=(20, 30, 60, 80), *, size=(80, 120)):
    """Write a mask image: white in top, left, bottom, right; black elsewhere."""
    mask = np.zeros(size, np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = 255
    Image.fromarray(mask).save(path)
    return path
