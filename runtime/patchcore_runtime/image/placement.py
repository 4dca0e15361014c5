"""Where the network's input lies on a photograph: sizes and the crop, without any pixel.

(height, width) of a photograph + settings -> `Placement`. artifacts/FORMAT.md, sections Resize and
Crop, defines the sizes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.manifest.manifest import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The position of the input on the photograph; all lengths in pixels.

    The photograph (as shown, after EXIF orientation) was resized to `resized_*`. The input is the
    window of the result whose corner lies at (`top`, `left`).
    """

    photo_height: int
    photo_width: int
    resized_height: int
    resized_width: int
    top: int
    left: int

    def uncropped(self, values: NDArray[Any]) -> NDArray[Any]:
        """Place values of the input, (H, W), on the resized photograph; cropped parts are 0."""
        resized = np.zeros((self.resized_height, self.resized_width), values.dtype)
        height, width = values.shape
        resized[self.top : self.top + height, self.left : self.left + width] = values
        return resized


def place_input(height: int, width: int, settings: Preprocessing) -> Placement:
    """Compute the position of the input on a photograph of that size, as shown."""
    resized_height, resized_width = resized_size(height, width, settings)
    return Placement(
        photo_height=height,
        photo_width=width,
        resized_height=resized_height,
        resized_width=resized_width,
        top=(resized_height - settings.height) // 2,
        left=(resized_width - settings.width) // 2,
    )


def resized_size(height: int, width: int, settings: Preprocessing) -> tuple[int, int]:
    """Compute (height, width) of a photograph after the resize and before the crop."""
    if settings.resize == "stretch":
        return settings.resize_height, settings.resize_width
    side = settings.resize_height  # the shorter side; the longer one is rounded down
    if height <= width:
        return side, side * width // height
    return side * height // width, side
