"""The feature network's layers: the `features` section of manifest.json, and their shapes.

JSON object -> frozen dataclasses. artifacts/FORMAT.md defines the fields. The section does not
depend on the size of a tile; with that size it becomes a `Layout`, which has the shape of each
layer.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

from patchcore_runtime.files.strict_json import check

Upsampling = Literal["bilinear", "nearest"]
FeaturePrecision = Literal["float32", "int8"]
Mindir = Literal["none", "float32"]

MOST_LAYERS = 4
LARGEST_PATCH_PX = 64
LARGEST_STRIDE = 64
_NAMES = re.compile(r"(layer|block|output)[0-9]{1,4}")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One output of features.onnx."""

    name: str
    channels: int
    stride: int  # cells of the patch grid along one side of a cell of this layer

    def __post_init__(self) -> None:
        named = _NAMES.fullmatch(self.name) is not None
        check(named, "name", "layer, block or output, and 1 to 4 digits")
        check(1 <= self.channels <= 2**16, "channels", "1 to 65536")
        check(1 <= self.stride <= LARGEST_STRIDE, "stride", f"1 to {LARGEST_STRIDE}")


@dataclass(frozen=True, kw_only=True)
class Features:
    """The feature network, and how its layers form one patch vector."""

    backbone: str
    precision: FeaturePrecision
    mindir: Mindir  # whether the folder has the same network as features.mindir
    patch_px: int
    layers: tuple[Layer, ...]
    upsampling: Upsampling

    def __post_init__(self) -> None:
        bare = self.precision == "float32" or self.mindir == "none"
        check(bare, "mindir", "none where precision is int8")
        fits = 1 <= self.patch_px <= LARGEST_PATCH_PX
        check(fits, "patch_px", f"1 to {LARGEST_PATCH_PX}")
        check(1 <= len(self.layers) <= MOST_LAYERS, "layers", f"1 to {MOST_LAYERS} layers")
        names = {layer.name for layer in self.layers}
        check(len(names) == len(self.layers), "layers", "layers of different names")
        strides = [layer.stride for layer in self.layers]
        rising = all(lower <= upper for lower, upper in pairwise((1, *strides)))
        check(rising and strides[0] == 1, "layers", "strides from 1 on that never fall")

    @property
    def step_px(self) -> int:
        """Return the step in pixels: sides of inputs and tiles are multiples of it."""
        return self.patch_px * self.layers[-1].stride

    def layout(self, height: int, width: int) -> "Layout":
        """Return the shapes of the layers for one tile of (height, width) pixels.

        Raises:
            ValueError: a side is not a multiple of the step.
        """
        for side, length in (("height", height), ("width", width)):
            check(length % self.step_px == 0, side, f"a multiple of {self.step_px}")
        cells = (height // self.patch_px, width // self.patch_px)
        return Layout(
            layers=tuple(
                LayerShape(
                    name=layer.name,
                    channels=layer.channels,
                    stride=layer.stride,
                    height=cells[0] // layer.stride,
                    width=cells[1] // layer.stride,
                )
                for layer in self.layers
            ),
            patch_px=self.patch_px,
            upsampling=self.upsampling,
        )


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """One layer of one tile: (channels, height, width)."""

    name: str
    channels: int
    stride: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C, h, w)."""
        return self.channels, self.height, self.width


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layers of one tile; the first has the patch grid."""

    layers: tuple[LayerShape, ...]
    patch_px: int
    upsampling: Upsampling

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the outputs of features.onnx, in order."""
        return tuple(layer.name for layer in self.layers)

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the channels of each layer."""
        return tuple(layer.channels for layer in self.layers)

    @property
    def grid(self) -> tuple[int, int]:
        """Return h and w of the patch grid."""
        return self.layers[0].height, self.layers[0].width

    @property
    def tile_px(self) -> tuple[int, int]:
        """Return height and width of a tile in pixels."""
        return self.grid[0] * self.patch_px, self.grid[1] * self.patch_px

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return (C, h, w) of each layer, by name."""
        return {layer.name: layer.shape for layer in self.layers}
