"""Official parameters of a model -> those of the cell, for one size of the input.

The cell has fewer operators than the original. Position embeddings of its grid are computed here.
The scale of the attention (1/8, so no number is rounded) is part of the query, and LayerScale part
of the projection before it. Query, key and value are three matrices, as MindSpore's exporter to
ONNX knows no operator with several results.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.vit.positions import interpolate_positions
from patchcore_build.vision_transformers import HEAD_SIZE, VitShape

Parameters = dict[str, NDArray[np.float32]]


def prepare_parameters(
    official: Mapping[str, NDArray[np.float32]],
    shape: VitShape,
    *,
    blocks: int,
    grid: tuple[int, int],
) -> Parameters:
    """Make the parameters of a `VisionTransformer`.

    Args:
        official: Arrays by the official names; `pos_embed`, if the model has it, is
            (1, 1 + M², D) of any square grid.
        shape: The model.
        blocks: Number of blocks that the cell has; later blocks are left out.
        grid: h and w, the patches of the input.

    Returns:
        Arrays by the names of the cell's parameters.
    """
    prepared = {
        "patches.weight": official["patch_embed.proj.weight"],
        "patches.bias": official["patch_embed.proj.bias"],
        "tokens": _token_table(official, shape, grid),
        "norm.gamma": official["norm.weight"],
        "norm.beta": official["norm.bias"],
    }
    for number in range(blocks):
        name = f"blocks.{number}."
        block = {key.removeprefix(name): a for key, a in official.items() if key.startswith(name)}
        prepared |= {f"{name}{key}": array for key, array in _block(block).items()}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in prepared.items()}


def _token_table(
    official: Mapping[str, NDArray[np.float32]], shape: VitShape, grid: tuple[int, int]
) -> NDArray[np.float32]:
    """What is added to the patches, behind the tokens that precede them: (1, D, prefix + h·w)."""
    if shape.rotary:
        first = np.zeros((1, shape.width), np.float32)
        patches = np.zeros((grid[0] * grid[1], shape.width), np.float32)
    else:
        positions = official["pos_embed"][0]
        side = round((len(positions) - 1) ** 0.5)
        first, square = positions[:1], positions[1:].reshape(side, side, -1)
        patches = interpolate_positions(
            square, *grid, offset=shape.offset, antialias=shape.antialias
        ).reshape(-1, shape.width)
    table = [official["cls_token"][0] + first]
    if shape.registers:  # registers have no position
        table.append(official["register_tokens"][0])
    table.append(patches)
    return np.asarray(np.concatenate(table).T[None], np.float32)


def _block(official: Mapping[str, NDArray[np.float32]]) -> Parameters:
    weights = np.split(official["attn.qkv.weight"], 3)
    biases = np.split(official["attn.qkv.bias"], 3)
    scales = (HEAD_SIZE**-0.5, 1.0, 1.0)
    prepared: Parameters = {}
    for part, weight, bias, scale in zip(
        ("query", "key", "value"), weights, biases, scales, strict=True
    ):
        prepared[f"{part}.weight"] = weight * np.float32(scale)
        prepared[f"{part}.bias"] = bias * np.float32(scale)
    for part, source, gain in (("proj", "attn.proj", "ls1"), ("fc2", "mlp.fc2", "ls2")):
        gamma = official[f"{gain}.gamma"]
        prepared[f"{part}.weight"] = official[f"{source}.weight"] * gamma[:, None]
        prepared[f"{part}.bias"] = official[f"{source}.bias"] * gamma
    prepared["fc1.weight"] = official["mlp.fc1.weight"]
    prepared["fc1.bias"] = official["mlp.fc1.bias"]
    for norm in ("norm1", "norm2"):
        prepared[f"{norm}.gamma"] = official[f"{norm}.weight"]
        prepared[f"{norm}.beta"] = official[f"{norm}.bias"]
    return prepared
