"""Which layers of a network form a patch vector: their names -> patch, strides and input sides.

The names are those of features.onnx: `layer1` to `layer4` are the stages of a ResNet, whose cells
have 4, 8, 16 and 32 pixels; `block1` and so on are the blocks of a transformer, whose cells are its
patches; `output0` is the mean of several of them. Nothing here needs the network itself, so that
inputs can be planned before it is made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from patchcore_build.errors import require
from patchcore_build.vision_transformers import VITS
from patchcore_runtime.manifest.features import MOST_LAYERS

STAGES = ("layer1", "layer2", "layer3", "layer4")
DEFAULT_LAYERS = ("layer2", "layer3")
StrideIn = Literal["3x3", "1x1"]  # the convolution of a bottleneck that has its stride
_RESNET_SIDE_PX = 32  # sides of an input are multiples of it, whatever the layers


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """The layers of a network, the finest first."""

    names: tuple[str, ...]
    strides: tuple[int, ...]  # cells of the patch grid along one side of a layer's cell
    patch_px: int  # side of a patch in pixels of the input
    side_px: int  # sides of an input are multiples of it

    @property
    def cells_px(self) -> tuple[int, ...]:
        """Return the side of a cell of each layer."""
        return tuple(self.patch_px * stride for stride in self.strides)

    @property
    def step_px(self) -> int:
        """Return the step of tiles: a cell of the coarsest layer."""
        return self.patch_px * self.strides[-1]


@dataclass(frozen=True, kw_only=True)
class OwnNetwork:
    """What `describe_network` found in an ONNX file that is used in place of a backbone."""

    file: str  # its name, for people
    sha256: str
    outputs: tuple[str, ...]  # names in the file, the finest first
    mean: tuple[float, float, float]  # RGB, in units of full scale
    std: tuple[float, float, float]
    patch_px: int
    strides: tuple[int, ...]
    prefix_tokens: int  # tokens before those of the patches; 0 for layers (B, C, h, w)
    size: tuple[int, int] | None  # height and width, if the file has fixed ones

    @property
    def plan(self) -> LayerPlan:
        """Return the layers, which are named `output0` and so on."""
        step = self.patch_px * self.strides[-1]
        return LayerPlan(
            names=tuple(f"output{at}" for at in range(len(self.outputs))),
            strides=self.strides,
            patch_px=self.patch_px,
            side_px=math.lcm(step, _RESNET_SIDE_PX) if 2**6 % step == 0 else step,
        )


def default_layers(backbone: str) -> tuple[str, ...]:
    """Return the layers of a network that are used unless others are chosen."""
    return (block_name(VITS[backbone].blocks),) if backbone in VITS else DEFAULT_LAYERS


def block_name(number: int) -> str:
    """Return the layer of a transformer's block, counted from 1."""
    return f"block{number}"


def block_numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of layers that are blocks."""
    return [int(name.removeprefix("block")) for name in names]


def plan_layers(names: Sequence[str], *, backbone: str, mean: bool = False) -> LayerPlan:
    """Plan layers of a network.

    Args:
        names: Stages of a ResNet or of a network with the same grids, or blocks of a transformer.
        backbone: Name of the network.
        mean: Make one layer of a transformer's blocks, their mean.

    Raises:
        SettingError: a name is not a layer, is given twice, or comes after a deeper one.
    """
    if backbone in VITS:
        return _plan_blocks(names, backbone, mean)
    require(not mean, "mean_blocks", "a transformer beside it", backbone)
    return plan_stages(names)


def _plan_blocks(names: Sequence[str], backbone: str, mean: bool) -> LayerPlan:
    known = [block_name(number + 1) for number in range(VITS[backbone].blocks)]
    most = len(known) if mean else MOST_LAYERS
    fits = set(names) <= set(known) and 1 <= len(names) <= most
    want = f"one to {most} of {known[0]} to {known[-1]} for {backbone}"
    require(fits, "layers", want, " ".join(names) or "none")
    numbers = block_numbers(names)
    require(numbers == sorted(set(numbers)), "layers", "each once, ascending", " ".join(names))
    require(not mean or len(names) > 1, "mean_blocks", "two blocks or more", " ".join(names))
    return LayerPlan(
        names=("output0",) if mean else tuple(names),
        strides=(1,) if mean else (1,) * len(names),
        patch_px=VITS[backbone].patch_px,
        side_px=VITS[backbone].patch_px,
    )


def plan_stages(names: Sequence[str]) -> LayerPlan:
    """Plan stages of a ResNet, or of a network with the same grids.

    Raises:
        SettingError: a name is not a stage, is given twice, or comes after a deeper one.
    """
    known = set(names) <= set(STAGES) and 1 <= len(names) <= MOST_LAYERS
    require(known, "layers", f"one to four of {', '.join(STAGES)}", " ".join(names) or "none")
    depths = [STAGES.index(name) for name in names]
    rising = depths == sorted(set(depths))
    require(rising, "layers", "each once, the finest first", " ".join(names))
    cells_px = [4 << depth for depth in depths]
    return LayerPlan(
        names=tuple(names),
        strides=tuple(cell // cells_px[0] for cell in cells_px),
        patch_px=cells_px[0],
        side_px=_RESNET_SIDE_PX,
    )
