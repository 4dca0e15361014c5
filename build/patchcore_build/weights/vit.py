"""A vision transformer's parameters under any of three projects' names -> the official names.

facebookresearch/dinov2 and dinov3 (`blocks.0.attn.qkv.weight`), Hugging Face, whose query, key and
value are apart (`encoder.layer.0.attention.attention.query.weight`), and timm, where the models
with registers have the class token's position in the token already. Sources: the modules of
facebookresearch/dinov2, `transformers/models/dinov2*` and `timm/models/vision_transformer.py`.
"""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]

# They lead nowhere: a head of a classifier, and the token of masked patches in training.
_SURPLUS = ("mask_token", "embeddings.mask_token", "head.", "classifier.", "rope_embed.")
# Prefixes of whole models in other files.
_PREFIXES = ("dinov2_with_registers.", "dinov2.", "backbone.", "module.")
_NAMES = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.register_tokens|reg_token|storage_tokens", "register_tokens"),
    (r"embeddings\.patch_embeddings\.(weight|bias)", r"patch_embed.proj.\1"),
    (r"blocks\.(\d+)\.gamma_([12])", r"blocks.\1.ls\2.gamma"),
    (r"(?:model\.)?layer\.(\d+)\.attention\.(q|k|v)_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"(?:model\.)?layer\.(\d+)\.attention\.o_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"(?:model\.)?layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"(?:model\.)?layer\.(\d+)\.(norm[12])\.(\w+)", r"blocks.\1.\2.\3"),
    (r"(?:model\.)?layer\.(\d+)\.mlp\.up_proj\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"(?:model\.)?layer\.(\d+)\.mlp\.down_proj\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(\w+)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(\w+)",
     r"blocks.\1.attn.\2.\3"),
    (r"encoder\.layer\.(\d+)\.attention\.(q|k|v)_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"encoder\.layer\.(\d+)\.attention\.(?:output\.dense|o_proj)\.(\w+)",
     r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.(\w+)", r"blocks.\1.\2.\3"),
)  # fmt: skip
_PARTS = {"query": 0, "q": 0, "key": 1, "k": 1, "value": 2, "v": 2}


def official_weights(
    weights: Mapping[str, NDArray[np.float32]], expected: Mapping[str, tuple[int, ...]]
) -> tuple[Weights, dict[str, tuple[int, ...]]]:
    """Rename the parameters of a file, and allow the grid of its position embeddings.

    Parameters of no known name keep theirs, so that `match_weights` can name them.

    Args:
        weights: Arrays by the names of the file.
        expected: Shapes by official name.

    Returns:
        The arrays by official name, and `expected` with the file's square grid.
    """
    renamed: Weights = {}
    parts: dict[str, dict[int, NDArray[np.float32]]] = {}
    for name, array in weights.items():
        new = _official_name(name)
        if new.startswith(_SURPLUS):
            continue
        part = re.fullmatch(r"(blocks\.\d+\.attn)\.(\w+)\.(weight|bias)", new)
        if part is not None and part[2] in _PARTS:
            parts.setdefault(f"{part[1]}.qkv.{part[3]}", {})[_PARTS[part[2]]] = array
        else:
            renamed[new] = array
    rotary = "pos_embed" not in expected
    for name, found in parts.items():
        if rotary and name.endswith(".bias") and set(found) == {0, 2}:
            found[1] = np.zeros_like(found[0])
        if len(found) == 3:  # otherwise it is missing
            renamed[name] = np.concatenate([found[place] for place in range(3)])
    if rotary:
        _mask_keys(renamed, expected)
        return renamed, dict(expected)
    _add_class_position(renamed)
    return renamed, {**expected, "pos_embed": _positions_shape(renamed, expected["pos_embed"])}


def name_transformer(
    shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> str | None:
    """Recognise a model by its parameters' shapes; positions may have any grid.

    Args:
        shapes: Shapes by official name.
        known: Shapes of each model of a family.
    """
    for name, expected in known.items():
        if all(shapes.get(key) == sides for key, sides in expected.items() if key != "pos_embed"):
            surplus = {key for key in shapes if key.startswith(("blocks.", "register"))}
            if surplus <= set(expected):
                return name
    return None


def _official_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for pattern, new in _NAMES:
        found = re.fullmatch(pattern, name)
        if found is not None:
            return found.expand(new)
    return name


def _mask_keys(weights: Weights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Apply DINOv3's masks, which leave keys without a bias; timm has left all these biases out."""
    for name, shape in expected.items():
        if not name.endswith(".attn.qkv.bias"):
            continue
        mask = weights.pop(f"{name}_mask", None)
        if name in weights and mask is not None and mask.shape == weights[name].shape:
            weights[name] = np.where(mask == 0, np.float32(0), weights[name])
        elif name not in weights and f"{name.removesuffix('bias')}weight" in weights:
            weights[name] = np.zeros(shape, np.float32)


def _add_class_position(weights: Weights) -> None:
    """Give timm's models with registers a position of zero for the class token."""
    positions = weights.get("pos_embed")
    if positions is None or positions.ndim != 3 or "register_tokens" not in weights:
        return
    if _is_square(positions.shape[1]):
        nothing = np.zeros_like(positions[:, :1])
        weights["pos_embed"] = np.concatenate([nothing, positions], axis=1)


def _positions_shape(weights: Weights, usual: tuple[int, ...]) -> tuple[int, ...]:
    positions = weights.get("pos_embed")
    if positions is None or positions.ndim != 3 or not _is_square(positions.shape[1] - 1):
        return usual
    return (1, positions.shape[1], usual[2])


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count
