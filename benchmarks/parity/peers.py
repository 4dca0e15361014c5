"""timm's and Hugging Face's vision transformers with given weights, for comparison.

official parameters -> the peer's model, and its state as that project names it. Both import torch,
so they are only for an environment of their own (benchmarks/parity/requirements.txt).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.vision_transformers import HEAD_SIZE, VitShape

Parameters = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A model of another project, and its tokens after every block."""

    state: dict[str, NDArray[np.float32]]  # as the project's files name it
    shape: VitShape  # with the project's own rule of interpolation
    run: Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]


def draw_official(sides: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Any]:
    """Draw parameters under the official names, of a size that keeps every block alive."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, shape in sides.items():
        spread = 0.05 if len(shape) > 1 else 0.1
        centre = 1.0 if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else 0.0
        drawn[name] = (rng.standard_normal(shape) * spread + centre).astype(np.float32)
    return drawn


def _heads(shape: VitShape) -> int:
    return shape.width // HEAD_SIZE


def timm_peer(shape: VitShape, official: Parameters) -> Peer:
    """Timm's model; positions are always antialiased, without the offset."""
    if shape.rotary:
        return _timm_rotary(shape, official)
    import torch
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    side = round((official["pos_embed"].shape[1] - 1) ** 0.5)
    model = VisionTransformer(
        img_size=side * shape.patch_px,
        patch_size=shape.patch_px,
        embed_dim=shape.width,
        depth=shape.blocks,
        num_heads=shape.width // HEAD_SIZE,
        num_classes=0,
        init_values=1.0,
        reg_tokens=shape.registers,
        no_embed_class=shape.registers > 0,
        dynamic_img_size=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    ).eval()
    given = {name: torch.from_numpy(array) for name, array in official.items()}
    given["mask_token"] = torch.zeros(1, shape.width)
    model.load_state_dict(checkpoint_filter_fn(given, model))

    def run(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            layers = model.get_intermediate_layers(
                torch.from_numpy(images), n=list(range(shape.blocks)), reshape=True, norm=True
            )
        return [layer.numpy() for layer in layers]

    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return Peer(state=state, shape=replace(shape, offset=0.0, antialias=True), run=run)


def _timm_rotary(shape: VitShape, official: Parameters) -> Peer:
    """DINOv3 of timm, which has no biases of queries, keys and values."""
    import torch
    from timm.models.eva import Eva

    model = Eva(
        img_size=16 * shape.patch_px,
        patch_size=shape.patch_px,
        embed_dim=shape.width,
        depth=shape.blocks,
        num_heads=_heads(shape),
        num_classes=0,
        qkv_bias=False,
        init_values=1.0,
        rope_type="dinov3",
        rope_temperature=100,
        rope_rotate_half=True,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        num_reg_tokens=shape.registers,
        use_fc_norm=False,
        dynamic_img_size=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=shape.epsilon),
    ).eval()
    given = {}
    for name in model.state_dict():
        ours = name.replace("gamma_", "ls").replace("reg_token", "register_tokens")
        ours += ".gamma" if "gamma_" in name else ""
        given[name] = torch.from_numpy(np.ascontiguousarray(official[ours]))
    model.load_state_dict(given)

    def run(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            layers = model.forward_intermediates(
                torch.from_numpy(images), norm=True, intermediates_only=True, output_fmt="NCHW"
            )
        return [layer.numpy() for layer in layers]

    state = {name: tensor.numpy() for name, tensor in given.items()}
    return Peer(state=state, shape=shape, run=run)


def hugging_face_peer(shape: VitShape, official: Parameters) -> Peer:
    """Transformers' model; without registers, positions have no offset and no antialias."""
    import torch
    import transformers

    kind = "Dinov2WithRegisters" if shape.registers else "Dinov2"
    kind = "DINOv3ViT" if shape.rotary else kind
    positions = official.get("pos_embed", np.zeros((1, 257, 1)))
    side = round((positions.shape[1] - 1) ** 0.5)
    settings = {
        "hidden_size": shape.width,
        "num_attention_heads": shape.width // HEAD_SIZE,
        "num_hidden_layers": shape.blocks,
        "image_size": side * shape.patch_px,
        "patch_size": shape.patch_px,
        "out_indices": list(range(1, shape.blocks + 1)),
        "apply_layernorm": True,
        "reshape_hidden_states": True,
        "intermediate_size": 4 * shape.width,
        "num_register_tokens": shape.registers,
    }
    model = getattr(transformers, f"{kind}Backbone")(
        getattr(transformers, f"{kind}Config")(**settings)
    ).eval()
    separate = any("q_proj" in name for name in model.state_dict())
    found = {name: _official_of(name, official, separate) for name in model.state_dict()}
    model.load_state_dict({name: torch.from_numpy(array) for name, array in found.items()})

    def run(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [layer.numpy() for layer in model(torch.from_numpy(images)).feature_maps]

    own = replace(shape, offset=0.0, antialias=shape.registers > 0)
    return Peer(state={_file_name(name): found[name] for name in found}, shape=own, run=run)


def _official_of(name: str, official: Parameters, separate: bool) -> NDArray[np.float32]:
    """The values of one parameter of Hugging Face's model, by its name."""
    plain = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.register_tokens": "register_tokens",
        "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
        "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
        "norm.weight": "norm.weight",
        "norm.bias": "norm.bias",
        "layernorm.weight": "norm.weight",
        "layernorm.bias": "norm.bias",
    }
    if name == "embeddings.mask_token":
        one = (1, 1) if "pos_embed" not in official else (1,)
        return np.zeros((*one, official["cls_token"].shape[2]), np.float32)
    if name in plain:
        return np.ascontiguousarray(official[plain[name]])
    number, *inner, leaf = name.partition("layer.")[2].split(".")
    block = f"blocks.{number}."
    part = ".".join(inner)
    parts = ("q_proj", "k_proj", "v_proj") if separate else ("query", "key", "value")
    if inner[-1] in parts:
        whole = official[f"{block}attn.qkv.{leaf}"]
        return np.ascontiguousarray(np.split(whole, 3)[parts.index(inner[-1])])
    if part.startswith("layer_scale"):
        return np.ascontiguousarray(official[f"{block}ls{part[-1]}.gamma"])
    if part.startswith("attention"):
        return np.ascontiguousarray(official[f"{block}attn.proj.{leaf}"])
    part = {"mlp.up_proj": "mlp.fc1", "mlp.down_proj": "mlp.fc2"}.get(part, part)
    return np.ascontiguousarray(official[f"{block}{part}.{leaf}"])


def _file_name(name: str) -> str:
    """The name in the files on the hub, which keep the names of transformers 4."""
    if not name.startswith(("encoder.", "embeddings.", "layernorm.")):
        return name.removeprefix("model.")
    for new, old in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
        name = name.replace(f"attention.{new}", f"attention.attention.{old}")
    return name.replace("attention.o_proj", "attention.output.dense")
