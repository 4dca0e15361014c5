"""Laws of DINOv2's cell: it is the transformer that the paper's formulas say, on any grid."""

from math import erf, sqrt

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.vit.cell import VisionTransformer
from patchcore_build.backbone.vit.positions import interpolate_positions
from patchcore_build.backbone.vit.prepare import prepare_parameters
from patchcore_build.vision_transformers import VITS, VitShape, official_shapes

PLAIN = VitShape(width=128, blocks=3)
WITH_REGISTERS = VitShape(width=128, blocks=3, registers=4, offset=0.0, antialias=True)
ROTARY = VitShape(width=128, blocks=3, registers=4, patch_px=16, epsilon=1e-5, rotary=True)
GRID = (3, 4)
H, W = 42, 56


@pytest.fixture(autouse=True, scope="module")
def _device():
    open_device()


def draw_official(shape, seed=0, side=5):
    """Random parameters under the official names, with positions on a grid of `side`."""
    rng = np.random.default_rng(seed)
    sides = official_shapes(shape)
    if not shape.rotary:
        sides["pos_embed"] = (1, 1 + side * side, shape.width)
    return {
        name: (rng.standard_normal(size) * 0.1 + name.endswith("norm.weight")).astype(np.float32)
        for name, size in sides.items()
    }


def draw_images(batch=2, patch_px=14):
    sides = (batch, 3, GRID[0] * patch_px, GRID[1] * patch_px)
    return np.random.default_rng(batch).standard_normal(sides).astype(np.float32)


def run(shape, official, images, blocks, *, mean=False):
    height, width = images.shape[2:]
    cell = VisionTransformer(shape, height=height, width=width, blocks=blocks, mean=mean)
    prepared = prepare_parameters(official, shape, blocks=max(blocks), grid=cell.grid)
    for name, parameter in cell.parameters_and_names():
        parameter.set_data(ms.Tensor(prepared.pop(name)))
    assert not prepared
    return [layer.asnumpy() for layer in cell.set_train(False)(ms.Tensor(images))]


def reference(shape, official, images):
    """Every block's tokens after the final norm, by the formulas, in float64; NumPy only."""
    p = {name: array.astype(np.float64) for name, array in official.items()}
    px = shape.patch_px
    batch, h, w = len(images), images.shape[2] // px, images.shape[3] // px
    cells = images.reshape(batch, 3, h, px, w, px).transpose(0, 2, 4, 1, 3, 5)
    kernel = p["patch_embed.proj.weight"].reshape(shape.width, -1)
    patches = cells.reshape(batch, h * w, -1) @ kernel.T + p["patch_embed.proj.bias"]
    front, positions = [p["cls_token"]], np.zeros((h, w, shape.width))
    if not shape.rotary:
        side = round(sqrt(p["pos_embed"].shape[1] - 1))
        positions = interpolate_positions(
            official["pos_embed"][0, 1:].reshape(side, side, -1),
            h,
            w,
            offset=shape.offset,
            antialias=shape.antialias,
        )
        front = [p["cls_token"] + p["pos_embed"][:, :1]]
    if shape.registers:
        front.append(p["register_tokens"])
    front = np.repeat(np.concatenate(front, axis=1), batch, axis=0)
    x = np.concatenate([front, patches + positions.reshape(h * w, -1)], axis=1)

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + shape.epsilon)
        return centred / spread * p[f"{name}.weight"] + p[f"{name}.bias"]

    layers = []
    for number in range(shape.blocks):
        block = f"blocks.{number}."

        def linear(x, name, block=block):
            return x @ p[f"{block}{name}.weight"].T + p[f"{block}{name}.bias"]

        qkv = linear(norm(x, f"{block}norm1"), "attn.qkv")
        q, k, v = qkv.reshape(batch, -1, 3, shape.heads, 64).transpose(2, 0, 3, 1, 4)
        if shape.rotary:
            q, k = (turned(array, h, w, 1 + shape.registers) for array in (q, k))
        likeness = np.exp(q @ k.swapaxes(-1, -2) / 8)
        mixed = likeness / likeness.sum(-1, keepdims=True) @ v
        mixed = mixed.transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + p[f"{block}ls1.gamma"] * linear(mixed, "attn.proj")
        hidden = linear(norm(x, f"{block}norm2"), "mlp.fc1")
        hidden = hidden * (1 + np.vectorize(erf)(hidden / sqrt(2))) / 2
        x = x + p[f"{block}ls2.gamma"] * linear(hidden, "mlp.fc2")
        tokens = norm(x, "norm")[:, 1 + shape.registers :]
        layers.append(tokens.transpose(0, 2, 1).reshape(batch, -1, h, w))
    return layers


def turned(array, h, w, prefix):
    """Rotate the pairs (i, i + 32) of every patch's numbers by 2π·place/100^(i/16)."""
    result = array.copy()
    for token in range(h * w):
        row, column = divmod(token, w)
        places = ((2 * row + 1) / h - 1, (2 * column + 1) / w - 1)
        for pair in range(32):
            angle = 2 * np.pi * places[pair // 16] / 100 ** (pair % 16 / 16)
            a, b = (array[:, :, prefix + token, at] for at in (pair, pair + 32))
            result[:, :, prefix + token, pair] = a * np.cos(angle) - b * np.sin(angle)
            result[:, :, prefix + token, pair + 32] = b * np.cos(angle) + a * np.sin(angle)
    return result


@pytest.mark.parametrize(
    "shape", [PLAIN, WITH_REGISTERS, ROTARY], ids=["plain", "registers", "rotary"]
)
def test_every_block_computes_what_the_formulas_say(shape):
    official, images = draw_official(shape), draw_images(patch_px=shape.patch_px)
    truths = reference(shape, official, images)
    for layer, truth in zip(run(shape, official, images, [1, 2, 3]), truths, strict=True):
        assert layer.shape == (2, 128, 3, 4)
        assert np.abs(layer - truth).max() < 1e-5 * np.abs(truth).max()


def test_chosen_blocks_are_layers_or_one_mean():
    official, images = draw_official(PLAIN), draw_images(1)
    every = run(PLAIN, official, images, [1, 2, 3])
    some = run(PLAIN, official, images, [1, 3])
    assert [layer.tolist() for layer in some] == [every[0].tolist(), every[2].tolist()]
    (mean,) = run(PLAIN, official, images, [1, 3], mean=True)
    np.testing.assert_allclose(mean, (every[0] + every[2]) / 2, atol=1e-6)


def test_blocks_behind_the_last_chosen_one_are_not_built():
    cell = VisionTransformer(PLAIN, height=H, width=W, blocks=[2])
    assert {name.split(".")[1] for name in cell.parameters_dict() if "blocks" in name} == {"0", "1"}


def test_a_grid_of_the_trained_size_keeps_its_embeddings():
    embeddings = np.random.default_rng(0).standard_normal((5, 5, 3)).astype(np.float32)
    for offset, antialias in ((0.1, False), (0.0, True)):
        same = interpolate_positions(embeddings, 5, 5, offset=offset, antialias=antialias)
        assert same.tolist() == embeddings.tolist()


def test_equal_embeddings_stay_equal_on_every_grid():
    embeddings = np.full((6, 6, 2), 3.0, np.float32)
    for offset, antialias in ((0.1, False), (0.0, True)):
        got = interpolate_positions(embeddings, 3, 11, offset=offset, antialias=antialias)
        np.testing.assert_allclose(got, np.full((3, 11, 2), 3.0), rtol=1e-6)


@pytest.mark.parametrize("grid", [(3, 4), (11, 6), (5, 9)])
def test_antialiased_positions_are_those_of_pillow(grid):
    plane = np.random.default_rng(1).standard_normal((7, 7)).astype(np.float32)
    got = interpolate_positions(plane[:, :, None], *grid, offset=0.0, antialias=True)
    theirs = Image.fromarray(plane).resize(grid[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_allclose(got[:, :, 0], np.asarray(theirs), atol=2e-6)


def test_positions_without_antialias_are_those_of_torch():
    # torch 2.14: interpolate(x, scale_factor=(3.1 / 5, 8.1 / 5), mode="bicubic")
    plane = ((np.arange(25.0) ** 2) / 100).reshape(5, 5, 1).astype(np.float32)
    got = interpolate_positions(plane, 3, 8, offset=0.1, antialias=False)[:, :, 0]
    np.testing.assert_allclose(got, TORCH, atol=1e-5)


TORCH = [
    [0.03167, 0.04469, 0.07125, 0.09871, 0.14299, 0.18407, 0.25083, 0.29655],
    [0.86973, 0.95419, 1.10019, 1.22051, 1.38002, 1.50954, 1.6997, 1.82276],
    [3.2627, 3.42223, 3.69375, 3.91168, 4.19229, 4.41475, 4.7346, 4.93894],
]


def test_the_family_has_the_official_sizes():
    counts = {
        name: sum(np.prod(sides) for sides in official_shapes(shape).values())
        for name, shape in VITS.items()
    }
    # As published: 21 M, 86 M and 300 M; the mask token is left out.
    assert counts["dinov2_vits14"] == 22_056_192
    assert counts["dinov2_vitb14"] == 86_579_712
    assert counts["dinov2_vitl14_reg"] == 304_371_712
    assert {VITS[name].patch_px for name in VITS if "dinov3" in name} == {16}
