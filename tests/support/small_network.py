"""A small stand-in for a feature network, with every operator of the real ones."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

H, W = 64, 96


def _conv(rng, inputs, outputs, kernel, stride):
    spread = np.sqrt(2 / (inputs * kernel * kernel))
    weight = rng.standard_normal((outputs, inputs, kernel, kernel)) * spread
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride,
        pad_mode="pad",
        padding=kernel // 2,
        weight_init=ms.Tensor(weight.astype(np.float32)),
    )


def _batch_norm(rng, channels):
    def draw(low, high):
        return ms.Tensor(rng.uniform(low, high, channels).astype(np.float32))

    return nn.BatchNorm2d(
        channels,
        gamma_init=draw(0.5, 1.5),
        beta_init=draw(-0.1, 0.1),
        moving_mean_init=draw(-0.1, 0.1),
        moving_var_init=draw(0.5, 1.5),
    )


class Block(nn.Cell):
    """Two convolutions and a residual sum, stride 2."""

    def __init__(self, rng, inputs, outputs):
        super().__init__()
        self.first = nn.SequentialCell(_conv(rng, inputs, outputs, 3, 2), _batch_norm(rng, outputs))
        self.second = nn.SequentialCell(
            _conv(rng, outputs, outputs, 3, 1), _batch_norm(rng, outputs)
        )
        self.shortcut = nn.SequentialCell(
            _conv(rng, inputs, outputs, 1, 2), _batch_norm(rng, outputs)
        )
        self.relu = nn.ReLU()
        self.add = ops.Add()

    def construct(self, x):
        """(B, C, h, w) -> (B, D, h/2, w/2)."""
        return self.relu(self.add(self.second(self.relu(self.first(x))), self.shortcut(x)))


class SmallNetwork(nn.Cell):
    """uint8 (B, H, W, 3) -> float32 (B, 6, H/8, W/8), (B, 10, H/16, W/16)."""

    def __init__(self, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.stem = nn.SequentialCell(_conv(rng, 3, 4, 7, 2), _batch_norm(rng, 4), nn.ReLU())
        self.layer2 = Block(rng, 4, 6)
        self.layer3 = Block(rng, 6, 10)
        self.pad = nn.Pad(paddings=((0, 0), (0, 0), (1, 1), (1, 1)))
        self.largest = nn.MaxPool2d(3, 2, pad_mode="valid")
        self.average = nn.AvgPool2d(3, 1, pad_mode="valid")
        self.cast = ops.Cast()
        self.transpose = ops.Transpose()
        self.mean = ms.Tensor(np.float32([123.7, 116.3, 103.5]).reshape(1, 3, 1, 1))
        self.std = ms.Tensor(np.float32([58.4, 57.1, 57.4]).reshape(1, 3, 1, 1))

    def construct(self, images):
        """Normalise, run, average."""
        x = self.transpose(self.cast(images, ms.float32), (0, 3, 1, 2))
        x = self.largest(self.pad(self.stem((x - self.mean) / self.std)))
        layer2 = self.layer2(x)
        layer3 = self.layer3(layer2)
        return self.average(self.pad(layer2)), self.average(self.pad(layer3))


def draw_images(batch):
    return np.random.default_rng(batch).integers(0, 256, (batch, H, W, 3), dtype=np.uint8)


def layers(images, seed=0):
    network = SmallNetwork(seed).set_train(False)
    return [layer.asnumpy() for layer in network(ms.Tensor(images))]
