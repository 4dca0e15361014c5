"""The feature network: uint8 images (B, H, W, 3) -> its layers, (B, C, h/s, w/s) each.

The network contains the normalisation, so every program feeds the exported graph plain 8-bit RGB.
Layers are locally aware: they are averaged over 3x3 neighbours (PatchCore, section 3.1), or over
another neighbourhood. The network only uses operators that MindSpore exports to ONNX: a pool is
zero padding plus a valid pool.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from patchcore_build.backbone.foreground import Foreground
from patchcore_build.backbone.neighbourhood import border_weight, grouped, pooling_weights
from patchcore_build.backbone.resnet import RESNETS, ResNet
from patchcore_build.config import Config, PoolingBorder
from patchcore_build.feature_layers import DEFAULT_LAYERS, StrideIn
from patchcore_build.vision_transformers import VITS, official_shapes

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB, in units of full scale
STD = (0.229, 0.224, 0.225)
_NORM_SCALES = ("norm.weight", "norm1.weight", "norm2.weight")


class FeatureExtractor(nn.Cell):
    """Normalisation, the body, what follows each layer, and the mask of the foreground if any."""

    def __init__(self, body: Any, after: Sequence[Any], *, half: bool, mask: Any = None) -> None:
        super().__init__()
        scale = 255 * np.array(STD)
        shift = np.array(MEAN) / np.array(STD)
        self.scale = ms.Tensor((1 / scale).reshape(1, 3, 1, 1), ms.float32)
        self.shift = ms.Tensor(shift.reshape(1, 3, 1, 1), ms.float32)
        self.cast = ops.Cast()
        self.transpose = ops.Transpose()
        self.body = body.to_float(ms.float16) if half else body
        self.after = nn.CellList(after)
        self.count = len(after)
        self.mask = mask
        self.masked = mask is not None

    def construct(self, images: Any) -> Any:
        """Uint8 RGB (B, H, W, 3) -> float32 (B, C, h/s, w/s) for each layer."""
        x = self.transpose(self.cast(images, ms.float32), (0, 3, 1, 2))
        layers = self.body(x * self.scale - self.shift)
        found: Any = ()
        for at in range(self.count):
            found += (self.after[at](self.cast(layers[at], ms.float32)),)
        if self.masked:
            found = self.mask(found)
        return found


class ForegroundMask(nn.Cell):
    """Layers of one grid times a mask, 0 to 1, that a projection of them gives.

    The mask is widened by two cells, and narrowed by one again, which closes gaps (AnomalyDINO
    dilates and then closes with 3x3 cells). It rises over a ramp, so that rounding moves no patch
    from one side to the other.
    """

    def __init__(self, found: Foreground, channels: Sequence[int]) -> None:
        super().__init__()
        parts = np.split(found.axis, np.cumsum(channels)[:-1])
        self.axes = nn.CellList([_projection(part) for part in parts])
        self.offset = ms.Tensor(np.full((1, 1, 1, 1), found.offset), ms.float32)
        self.one = ms.Tensor(np.ones((1, 1, 1, 1)), ms.float32)
        self.relu = nn.ReLU()
        self.around = nn.Pad(paddings=((0, 0), (0, 0), (2, 2), (2, 2)))
        self.widen = nn.MaxPool2d(kernel_size=5, stride=1, pad_mode="valid")
        self.beside = nn.Pad(paddings=((0, 0), (0, 0), (1, 1), (1, 1)))
        self.spread = nn.MaxPool2d(kernel_size=3, stride=1, pad_mode="valid")
        self.count = len(parts)

    def construct(self, layers: Any) -> Any:
        """Mask layers (B, C, h, w) of one grid."""
        value = self.axes[0](layers[0]) + self.offset
        for at in range(1, self.count):
            value += self.axes[at](layers[at])
        value = self.relu(value)
        value = value - self.relu(value - self.one)
        value = self.widen(self.around(value))
        value = self.one - self.spread(self.beside(self.one - value))
        found: Any = ()
        for at in range(self.count):
            found += (layers[at] * value,)
        return found


def _projection(axis: NDArray[np.float32]) -> Any:
    """A product of each patch with an axis (C,)."""
    weights = ms.Tensor(axis.reshape(1, -1, 1, 1))
    return nn.Conv2d(len(axis), 1, 1, pad_mode="valid", has_bias=False, weight_init=weights)


class Average(nn.Cell):
    """The average over a neighbourhood of cells, with zeros around the layer.

    Args:
        grid: Rows and columns of the layer.
        side: Cells along one side of the neighbourhood, an odd number.
        border: Whether the zeros count in the average.
    """

    def __init__(self, grid: tuple[int, int], side: int, border: PoolingBorder) -> None:
        super().__init__()
        reach = side // 2
        self.pad = nn.Pad(paddings=((0, 0), (0, 0), (reach, reach), (reach, reach)))
        self.average = nn.AvgPool2d(kernel_size=side, stride=1, pad_mode="valid")
        self.reweigh = border == "not_counted"
        self.weight = ms.Tensor(border_weight(grid, side), ms.float32)

    def construct(self, layer: Any) -> Any:
        """Average a layer (B, C, h, w)."""
        layer = self.average(self.pad(layer))
        if self.reweigh:
            layer = layer * self.weight
        return layer


class AdaptivePool(nn.Cell):
    """The pooling of the original implementation: a neighbourhood's values -> fewer channels.

    It is linear, so it is one convolution, in groups of as few channels as possible.

    Args:
        channels: Channels of the layer.
        side: Cells along one side of the neighbourhood.
        outputs: Channels of the result.
        layers: Number of layers that are pooled together.
    """

    def __init__(self, channels: int, side: int, outputs: int, layers: int) -> None:
        super().__init__()
        weights, groups = grouped(pooling_weights(channels, side, outputs, layers))
        self.pool = nn.Conv2d(
            channels,
            outputs,
            side,
            pad_mode="pad",
            padding=side // 2,
            group=groups,
            has_bias=False,
            weight_init=ms.Tensor(weights),
        )

    def construct(self, layer: Any) -> Any:
        """Pool a layer (B, C, h, w) to (B, outputs, h, w)."""
        return self.pool(layer)


def make_body(
    backbone: str, layers: Sequence[str] = DEFAULT_LAYERS, stride_in: StrideIn = "3x3"
) -> Any:
    """The network between normalisation and averaging, with its initial parameters.

    Its `channels` are those of each layer that it returns.
    """
    if backbone == "scattering":
        from patchcore_build.backbone.scattering import Scattering

        return Scattering()
    return ResNet(RESNETS[backbone], layers, stride_in)


def expected_shapes(
    backbone: str, layers: Sequence[str] = DEFAULT_LAYERS
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter that a weights file must contain."""
    if backbone in VITS:
        return official_shapes(VITS[backbone])
    body = make_body(backbone, layers)
    return {name: tuple(p.shape) for name, p in body.parameters_and_names()}


def random_weights(
    backbone: str, layers: Sequence[str] = DEFAULT_LAYERS, *, seed: int
) -> dict[str, NDArray[np.float32]]:
    """He-normal convolutions and neutral normalisation, for benchmarks and tests only.

    A transformer's matrices keep the size of what they multiply, and its LayerScale is 1.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(backbone, layers).items():
        leaf = name.rsplit(".", 1)[-1]
        if len(shape) == 4:
            fan_out = shape[0] * shape[2] * shape[3]
            values = rng.standard_normal(shape) * np.sqrt(2 / fan_out)
        elif len(shape) == 3:  # tokens and positions
            values = rng.standard_normal(shape) * 0.02
        elif len(shape) == 2:
            values = rng.standard_normal(shape) / np.sqrt(shape[1])
        else:
            neutral = leaf in ("gamma", "moving_variance") or name.endswith(_NORM_SCALES)
            values = np.full(shape, 1.0 if neutral else 0.0)
        weights[name] = values.astype(np.float32)
    return weights


def make_extractor(
    config: Config,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    height: int,
    width: int,
    foreground: Foreground | None = None,
) -> Any:
    """Make a network with its parameters, for inputs of (H, W) pixels and any batch size.

    Args:
        config: Backbone, layers, neighbourhood, border rule and precision.
        weights: MindSpore parameter name -> array. A ResNet needs all its parameters, a
            transformer all official ones; `scattering` takes the whitening, or nothing for the
            identity.
        height: H, a multiple of the layers' `side_px`.
        width: W, the same.
        foreground: The projection of `estimate_foreground`; None masks nothing.
    """
    if config.backbone in VITS:
        from patchcore_build.backbone.vit.body import make_transformer

        body, weights = make_transformer(config, weights, height=height, width=width)
    else:
        body = make_body(config.backbone, config.layers, config.stride_in)
    for name, parameter in body.parameters_and_names():
        if name in weights:
            parameter.set_data(ms.Tensor(weights[name]))
    after = [
        _after(config, channels, cell_px, (height, width))
        for channels, cell_px in zip(body.channels, config.plan.cells_px, strict=True)
    ]
    mask = None
    if foreground is not None:
        pooled = config.pool_to // len(after)
        mask = ForegroundMask(foreground, [pooled or channels for channels in body.channels])
    network = FeatureExtractor(body, after, half=config.precision == "fp16", mask=mask)
    network.set_train(False)
    network.set_inputs(ms.Tensor(shape=[None, height, width, 3], dtype=ms.uint8))
    return network


def _after(config: Config, channels: int, cell_px: int, size: tuple[int, int]) -> Any:
    """What follows a layer of the body."""
    side, layers = config.neighbourhood, len(config.plan.names)
    if config.pool_to:
        return AdaptivePool(channels, side, config.pool_to // layers, layers)
    if side == 1:
        return nn.Identity()
    return Average((size[0] // cell_px, size[1] // cell_px), side, config.pooling_border)
