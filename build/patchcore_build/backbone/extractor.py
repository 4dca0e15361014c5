"""The feature network: uint8 images (B, H, W, 3) -> layer2 (B, C2, h, w), layer3 (B, C3, h/2, w/2).

The network contains the normalisation, so every program feeds the exported graph plain 8-bit RGB.
Both layers are locally aware: they are averaged over 3x3 neighbours (PatchCore, section 3.1). The
network only uses operators that MindSpore exports to ONNX: a pool is zero padding plus a valid
pool.
"""

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from patchcore_build.backbone.resnet import RESNETS, ResNet
from patchcore_build.config import PoolingBorder

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB, in units of full scale
STD = (0.229, 0.224, 0.225)


class FeatureExtractor(nn.Cell):
    """Normalisation, the body, and the 3x3 average of both layers."""

    def __init__(
        self, body: Any, *, height: int, width: int, border: PoolingBorder, half: bool
    ) -> None:
        super().__init__()
        scale = 255 * np.array(STD)
        shift = np.array(MEAN) / np.array(STD)
        self.scale = ms.Tensor((1 / scale).reshape(1, 3, 1, 1), ms.float32)
        self.shift = ms.Tensor(shift.reshape(1, 3, 1, 1), ms.float32)
        self.cast = ops.Cast()
        self.transpose = ops.Transpose()
        self.body = body.to_float(ms.float16) if half else body
        self.pad = nn.Pad(paddings=((0, 0), (0, 0), (1, 1), (1, 1)))
        self.average = nn.AvgPool2d(kernel_size=3, stride=1, pad_mode="valid")
        self.reweigh = border == "not_counted"
        self.weight2 = ms.Tensor(_border_weight(height // 8, width // 8), ms.float32)
        self.weight3 = ms.Tensor(_border_weight(height // 16, width // 16), ms.float32)

    def construct(self, images: Any) -> Any:
        """Uint8 RGB (B, H, W, 3) -> float32 (B, C2, H/8, W/8) and (B, C3, H/16, W/16)."""
        x = self.transpose(self.cast(images, ms.float32), (0, 3, 1, 2))
        layer2, layer3 = self.body(x * self.scale - self.shift)
        layer2 = self.average(self.pad(self.cast(layer2, ms.float32)))
        layer3 = self.average(self.pad(self.cast(layer3, ms.float32)))
        if self.reweigh:
            layer2 = layer2 * self.weight2
            layer3 = layer3 * self.weight3
        return layer2, layer3


def _border_weight(height: int, width: int) -> NDArray[np.float32]:
    """9 / (number of cells of the 3x3 window inside of the layer), shape (1, 1, h, w)."""
    rows = np.full(height, 3.0)
    rows[[0, -1]] -= 1
    columns = np.full(width, 3.0)
    columns[[0, -1]] -= 1
    return (9 / np.outer(rows, columns)).astype(np.float32)[None, None]


def make_body(backbone: str) -> Any:
    """The network between normalisation and averaging, with its initial parameters."""
    if backbone == "scattering":
        from patchcore_build.backbone.scattering import Scattering

        return Scattering()
    return ResNet(RESNETS[backbone])


def expected_shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter that a weights file must contain."""
    return {name: tuple(p.shape) for name, p in make_body(backbone).parameters_and_names()}


def random_weights(backbone: str, *, seed: int) -> dict[str, NDArray[np.float32]]:
    """He-normal convolutions and neutral normalisation, for benchmarks and tests only."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(backbone).items():
        leaf = name.rsplit(".", 1)[-1]
        if len(shape) == 4:
            fan_out = shape[0] * shape[2] * shape[3]
            values = rng.standard_normal(shape) * np.sqrt(2 / fan_out)
        else:
            values = np.full(shape, 1.0 if leaf in ("gamma", "moving_variance") else 0.0)
        weights[name] = values.astype(np.float32)
    return weights


def make_extractor(
    backbone: str,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    height: int,
    width: int,
    border: PoolingBorder = "counted",
    half: bool = False,
) -> Any:
    """Make a network with its parameters, for inputs of (H, W) pixels and any batch size.

    Args:
        backbone: Name of the body.
        weights: MindSpore parameter name -> array. A ResNet needs all its parameters;
            `scattering` takes the whitening, or nothing for the identity.
        height: H, a multiple of 32.
        width: W, a multiple of 32.
        border: Whether the zeros around a layer count in its 3x3 average.
        half: Run the body in float16.
    """
    body = make_body(backbone)
    for name, parameter in body.parameters_and_names():
        if name in weights:
            parameter.set_data(ms.Tensor(weights[name]))
    network = FeatureExtractor(body, height=height, width=width, border=border, half=half)
    network.set_train(False)
    network.set_inputs(ms.Tensor(shape=[None, height, width, 3], dtype=ms.uint8))
    return network
