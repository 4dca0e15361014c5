"""A vision transformer: normalised images (B, 3, H, W) -> patch tokens (B, D, h, w) of some blocks.

Dosovitskiy et al. 2020 (arXiv:2010.11929), as DINOv2 and DINOv3 train it; h = H/p and w = W/p.
Tokens are one matrix (B·N, D), N = prefix + h·w, so every linear layer is one product of matrices.
The tokens of each chosen block pass through the final norm, as the original's
`get_intermediate_layers` does by default and as AnomalyDINO uses them. Blocks behind the last
chosen one are never built.
"""

import math
from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from patchcore_build.backbone.vit.rotary import rotary_tables
from patchcore_build.vision_transformers import (
    HEAD_SIZE,
    MLP_RATIO,
    VitShape,
)


class _Linear(nn.Cell):
    """(n, inputs) -> (n, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = ms.Parameter(_zeros(outputs, inputs), name="weight")
        self.bias = ms.Parameter(_zeros(outputs), name="bias")
        self.product = ops.MatMul(transpose_b=True)

    def construct(self, x: Any) -> Any:
        return self.product(x, self.weight) + self.bias


class _Gelu(nn.Cell):
    """x (1 + erf(x/√2)) / 2, the exact form, in the operations that onnxruntime fuses."""

    def __init__(self) -> None:
        super().__init__()
        self.erf = ops.Erf()

    def construct(self, x: Any) -> Any:
        return x * (self.erf(x / math.sqrt(2)) + 1.0) * 0.5


class _Turn(nn.Cell):
    """Turn queries or keys (B, heads, N, 64) by the positions of their patches."""

    def __init__(self, shape: VitShape, grid: tuple[int, int]) -> None:
        super().__init__()
        cosine, sine = rotary_tables(grid, prefix=shape.prefix)
        self.cosine, self.sine = ms.Tensor(cosine[None, None]), ms.Tensor(sine[None, None])
        self.concat = ops.Concat(axis=3)

    def construct(self, x: Any) -> Any:
        swapped = self.concat((x[:, :, :, HEAD_SIZE // 2 :], x[:, :, :, : HEAD_SIZE // 2]))
        return x * self.cosine + swapped * self.sine


class _Block(nn.Cell):
    """Attention and a perceptron, each behind a norm and added to its input; (B·N, D) -> same."""

    def __init__(self, shape: VitShape, grid: tuple[int, int]) -> None:
        super().__init__()
        tokens = shape.prefix + grid[0] * grid[1]
        width, hidden = shape.width, MLP_RATIO * shape.width
        self.norm1 = nn.LayerNorm((width,), epsilon=shape.epsilon)
        self.query = _Linear(width, width)
        self.key = _Linear(width, width)
        self.value = _Linear(width, width)
        self.proj = _Linear(width, width)
        self.norm2 = nn.LayerNorm((width,), epsilon=shape.epsilon)
        self.fc1 = _Linear(width, hidden)
        self.gelu = _Gelu()
        self.fc2 = _Linear(hidden, width)
        self.by_head = (-1, tokens, shape.heads, HEAD_SIZE)
        self.width = width
        self.reshape, self.transpose = ops.Reshape(), ops.Transpose()
        self.likeness = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)
        self.mixture = ops.BatchMatMul()
        self.turn = _Turn(shape, grid) if shape.rotary else None

    def construct(self, x: Any) -> Any:
        normed = self.norm1(x)
        query = self._heads(self.query(normed))  # (B, heads, N, 64)
        key, value = self._heads(self.key(normed)), self._heads(self.value(normed))
        if self.turn is not None:
            query, key = self.turn(query), self.turn(key)
        mixed = self.mixture(self.softmax(self.likeness(query, key)), value)
        x = x + self.proj(self.reshape(self.transpose(mixed, (0, 2, 1, 3)), (-1, self.width)))
        return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))

    def _heads(self, x: Any) -> Any:
        return self.transpose(self.reshape(x, self.by_head), (0, 2, 1, 3))


class VisionTransformer(nn.Cell):
    """The patch tokens of chosen blocks, for inputs of one size.

    Args:
        shape: The model.
        height: H in pixels, a multiple of the patch.
        width: W in pixels, the same.
        blocks: Numbers of blocks, from 1, ascending.
        mean: One layer, the mean of the chosen blocks; otherwise each block is a layer.
    """

    def __init__(
        self, shape: VitShape, *, height: int, width: int, blocks: Sequence[int], mean: bool = False
    ) -> None:
        super().__init__()
        self.grid = (height // shape.patch_px, width // shape.patch_px)
        cells = self.grid[0] * self.grid[1]
        self.patches = nn.Conv2d(
            3,
            shape.width,
            shape.patch_px,
            stride=shape.patch_px,
            pad_mode="valid",
            has_bias=True,
        )
        self.cells_shape = (-1, shape.width, cells)
        # Zeros in front of the patches, to which the table adds the tokens that precede them.
        self.pad = nn.Pad(paddings=((0, 0), (0, 0), (shape.prefix, 0)))
        self.tokens = ms.Parameter(_zeros(1, shape.width, shape.prefix + cells), name="tokens")
        self.blocks = nn.CellList([_Block(shape, self.grid) for _ in range(max(blocks))])
        self.norm = nn.LayerNorm((shape.width,), epsilon=shape.epsilon)
        self.taken = tuple(blocks)
        self.mean = mean
        self.width, self.prefix, self.all_tokens = shape.width, shape.prefix, shape.prefix + cells
        self.reshape, self.transpose = ops.Reshape(), ops.Transpose()
        self.channels = (shape.width,) * (1 if mean else len(blocks))

    def construct(self, x: Any) -> Any:
        """Normalised (B, 3, H, W) -> one (B, D, h, w) for each layer."""
        x = self.pad(self.reshape(self.patches(x), self.cells_shape)) + self.tokens
        x = self.reshape(self.transpose(x, (0, 2, 1)), (-1, self.width))
        layers = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number + 1 in self.taken:
                layers.append(self._layer(self.norm(x)))
        if self.mean:
            total = layers[0]
            for layer in layers[1:]:
                total = total + layer
            return (total * (1 / len(self.taken)),)
        return tuple(layers)

    def _layer(self, x: Any) -> Any:
        """(B·N, D) -> the patches' tokens (B, D, h, w)."""
        x = self.transpose(self.reshape(x, (-1, self.all_tokens, self.width)), (0, 2, 1))
        return self.reshape(x[:, :, self.prefix :], (-1, self.width, *self.grid))


def _zeros(*sides: int) -> Any:
    return ms.Tensor(np.zeros(sides, np.float32))
