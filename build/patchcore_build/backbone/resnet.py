"""ResNet: normalised images (B, 3, H, W) -> some of layer1 (B, C, H/4, W/4) to layer4.

He et al. 2015 (arXiv:1512.03385); wide: Zagoruyko & Komodakis 2016 (arXiv:1605.07146). Modules
have torchvision's names. As in torchvision the 3x3 convolution of a bottleneck has the stride,
unless the first 1x1 convolution has it, as in the first published networks. Stages after the
deepest layer that is asked for are never built.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mindspore import nn

from patchcore_build.feature_layers import DEFAULT_LAYERS, STAGES, StrideIn

EXPANSION = 4  # output channels of a bottleneck, in units of its planes


@dataclass(frozen=True, kw_only=True)
class ResNetShape:
    """Blocks in layer1 to layer4, and the width of a bottleneck (0: basic blocks)."""

    blocks: tuple[int, int, int, int]
    bottleneck_width: int = 0  # inner channels per 64 planes


RESNETS = {
    "resnet18": ResNetShape(blocks=(2, 2, 2, 2)),
    "resnet34": ResNetShape(blocks=(3, 4, 6, 3)),
    "resnet50": ResNetShape(blocks=(3, 4, 6, 3), bottleneck_width=64),
    "resnet101": ResNetShape(blocks=(3, 4, 23, 3), bottleneck_width=64),
    "wide_resnet50_2": ResNetShape(blocks=(3, 4, 6, 3), bottleneck_width=128),
    "wide_resnet101_2": ResNetShape(blocks=(3, 4, 23, 3), bottleneck_width=128),
}


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> Any:
    return nn.Conv2d(
        inputs, outputs, kernel, stride=stride, pad_mode="pad", padding=kernel // 2, has_bias=False
    )


class _BasicBlock(nn.Cell):
    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inputs, planes, stride)

    def construct(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            x = self.downsample(x)
        return self.relu(out + x)


class _Bottleneck(nn.Cell):
    def __init__(
        self, inputs: int, planes: int, strides: tuple[int, int], width_per_64: int
    ) -> None:
        super().__init__()
        width = planes * width_per_64 // 64
        self.conv1 = _convolution(inputs, width, 1, strides[0])
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, strides[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, planes * EXPANSION, 1)
        self.bn3 = nn.BatchNorm2d(planes * EXPANSION)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inputs, planes * EXPANSION, max(strides))

    def construct(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            x = self.downsample(x)
        return self.relu(out + x)


def _shortcut(inputs: int, outputs: int, stride: int) -> Any:
    if stride == 1 and inputs == outputs:
        return None
    return nn.SequentialCell([_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)])


class ResNet(nn.Cell):
    """A ResNet of the family, from the stem to the deepest layer.

    Args:
        shape: Blocks and width.
        layers: The stages that it returns, the finest first.
        stride_in: The convolution of a bottleneck that has its stride.
    """

    def __init__(
        self,
        shape: ResNetShape,
        layers: Sequence[str] = DEFAULT_LAYERS,
        stride_in: StrideIn = "3x3",
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        # Zero padding and a valid pool equal a padded pool, because ReLU leaves no negative values.
        self.pad = nn.Pad(paddings=((0, 0), (0, 0), (1, 1), (1, 1)))
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, pad_mode="valid")
        expansion = EXPANSION if shape.bottleneck_width else 1
        depth = STAGES.index(layers[-1]) + 1
        stage = partial(_stage, shape=shape, stride_in=stride_in)
        self.layer1 = stage(64, 64, 0, stride=1)
        self.layer2 = stage(64 * expansion, 128, 1, stride=2) if depth > 1 else None
        self.layer3 = stage(128 * expansion, 256, 2, stride=2) if depth > 2 else None
        self.layer4 = stage(256 * expansion, 512, 3, stride=2) if depth > 3 else None
        self.wanted = tuple(name in layers for name in STAGES)
        self.channels = tuple(64 * expansion << STAGES.index(name) for name in layers)

    def construct(self, x: Any) -> Any:
        """Normalised (B, 3, H, W) -> the layers, (B, C, H/4, W/4) for layer1, halved for each."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer1(self.maxpool(self.pad(x)))
        found = (x,) if self.wanted[0] else ()
        if self.layer2 is not None:
            x = self.layer2(x)
            if self.wanted[1]:
                found += (x,)
        if self.layer3 is not None:
            x = self.layer3(x)
            if self.wanted[2]:
                found += (x,)
        if self.layer4 is not None:
            x = self.layer4(x)
            if self.wanted[3]:
                found += (x,)
        return found


def _stage(
    inputs: int, planes: int, index: int, *, stride: int, shape: ResNetShape, stride_in: StrideIn
) -> Any:
    blocks = []
    for block in range(shape.blocks[index]):
        step = stride if block == 0 else 1
        if shape.bottleneck_width:
            strides = (step, 1) if stride_in == "1x1" else (1, step)
            blocks.append(_Bottleneck(inputs, planes, strides, shape.bottleneck_width))
            inputs = planes * EXPANSION
        else:
            blocks.append(_BasicBlock(inputs, planes, step))
            inputs = planes
    return nn.SequentialCell(blocks)
