"""Laws of a transformer's weights: three projects' names are one model; others are refused."""

import hashlib
import re

import numpy as np
import pytest

from patchcore_build.errors import WeightsError
from patchcore_build.vision_transformers import VITS, VitShape, official_shapes
from patchcore_build.weights.match import match_weights
from patchcore_build.weights.read import promised_digest

PLAIN = VitShape(width=128, blocks=2)
ROTARY = VitShape(width=128, blocks=2, registers=4, patch_px=16, epsilon=1e-5, rotary=True)
WITH_REGISTERS = VitShape(width=128, blocks=2, registers=4)


def draw(shape, side=3):
    rng = np.random.default_rng(0)
    sides = {**official_shapes(shape), "pos_embed": (1, 1 + side * side, shape.width)}
    return {name: rng.random(size, np.float32) for name, size in sides.items()}


def as_hugging_face(official):
    named = {"embeddings.mask_token": np.zeros((1, 128), np.float32)}
    for name, array in official.items():
        found = re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(\w+)", name)
        if found:
            attention = f"encoder.layer.{found[1]}.attention.attention"
            for part, third in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                named[f"{attention}.{part}.{found[2]}"] = third
            continue
        renamed = name
        for old, new in (
            ("blocks.", "encoder.layer."),
            ("attn.proj", "attention.output.dense"),
            ("ls1.gamma", "layer_scale1.lambda1"),
            ("ls2.gamma", "layer_scale2.lambda1"),
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("cls_token", "embeddings.cls_token"),
            ("register_tokens", "embeddings.register_tokens"),
            ("pos_embed", "embeddings.position_embeddings"),
        ):
            renamed = renamed.replace(old, new)
        named["layernorm." + renamed[5:] if renamed.startswith("norm.") else renamed] = array
    return named


def as_timm(official):
    """Add the class token's position to the token where there are registers, as timm does."""
    named = dict(official)
    if "register_tokens" in named:
        named["reg_token"] = named.pop("register_tokens")
        named["cls_token"] = official["cls_token"] + official["pos_embed"][:, :1]
        named["pos_embed"] = official["pos_embed"][:, 1:]
    return named


def as_official(official):
    return {**official, "mask_token": np.zeros((1, 128), np.float32)}


@pytest.mark.parametrize("prefix", ["", "dinov2.", "backbone."])
@pytest.mark.parametrize("shape", [PLAIN, WITH_REGISTERS], ids=["plain", "registers"])
@pytest.mark.parametrize("write", [as_official, as_hugging_face])
def test_names_of_every_project_give_the_official_parameters(write, shape, prefix):
    official = draw(shape)
    file = {prefix + name: array for name, array in write(official).items()}
    found = match_weights(file, official_shapes(shape), source="net")
    assert list(found) == list(official_shapes(shape))
    for name, array in official.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("shape", [PLAIN, WITH_REGISTERS], ids=["plain", "registers"])
def test_timms_tokens_give_the_same_sums(shape):
    official = draw(shape)
    found = match_weights(as_timm(official), official_shapes(shape), source="net")
    token = found["cls_token"] + found["pos_embed"][:, :1]
    np.testing.assert_allclose(token, official["cls_token"] + official["pos_embed"][:, :1])
    np.testing.assert_array_equal(found["pos_embed"][:, 1:], official["pos_embed"][:, 1:])


@pytest.mark.parametrize("side", [1, 16, 37])
def test_positions_may_have_any_square_grid(side):
    official = draw(PLAIN, side)
    found = match_weights(official, official_shapes(PLAIN), source="net")
    assert found["pos_embed"].shape == (1, 1 + side * side, 128)


def draw_rotary():
    official = draw_without_positions(ROTARY)
    for number in range(ROTARY.blocks):  # keys have no bias
        official[f"blocks.{number}.attn.qkv.bias"][128:256] = 0
    return official


def draw_without_positions(shape):
    rng = np.random.default_rng(0)
    return {name: rng.random(size, np.float32) for name, size in official_shapes(shape).items()}


def rotary_file(official):
    file = {"storage_tokens": official["register_tokens"], "rope_embed.periods": np.ones(16)}
    file |= {name: array for name, array in official.items() if name != "register_tokens"}
    mask = np.repeat(np.float32([1, 0, 1]), 128)
    for number in range(ROTARY.blocks):
        name = f"blocks.{number}.attn.qkv.bias"
        file[f"{name}_mask"] = mask
        file[name] = np.where(mask == 0, np.float32(7), official[name])
    return file


def rotary_hugging_face(official):
    file = {"embeddings.mask_token": np.zeros((1, 1, 128), np.float32)}
    for name, array in as_hugging_face(official).items():
        new = name.replace("encoder.layer", "layer").replace("layernorm.", "norm.")
        new = new.replace("patch_embeddings.projection", "patch_embeddings")
        new = re.sub(r"attention\.attention\.(.).*\.", r"attention.\1_proj.", new)
        new = new.replace("attention.output.dense", "attention.o_proj")
        new = new.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj")
        if not new.endswith("k_proj.bias"):
            file[new] = array
    return file


@pytest.mark.parametrize("write", [rotary_file, rotary_hugging_face])
def test_dinov3s_names_and_masks_give_the_official_parameters(write):
    official = draw_rotary()
    found = match_weights(write(official), official_shapes(ROTARY), source="net")
    for name, array in official.items():
        np.testing.assert_array_equal(found[name], array)


def test_biases_that_timm_leaves_out_are_zero():
    official = draw_rotary()
    file = {name: array for name, array in official.items() if "qkv.bias" not in name}
    file["blocks.0.gamma_1"] = file.pop("blocks.0.ls1.gamma")
    found = match_weights(file, official_shapes(ROTARY), source="net")
    assert not found["blocks.1.attn.qkv.bias"].any()
    np.testing.assert_array_equal(found["blocks.0.ls1.gamma"], official["blocks.0.ls1.gamma"])


def test_a_digest_in_the_name_of_the_file_is_checked(tmp_path):
    content = b"weights"
    right = hashlib.sha256(content).hexdigest()
    for digits in (right[:8], "00000000"):
        (tmp_path / f"dinov3_vits16_pretrain_lvd1689m-{digits}.pth").write_bytes(content)
    assert promised_digest(tmp_path / f"dinov3_vits16_pretrain_lvd1689m-{right[:8]}.pth") == right
    with pytest.raises(WeightsError, match="begins with 00000000, as its name says, got"):
        promised_digest(tmp_path / "dinov3_vits16_pretrain_lvd1689m-00000000.pth")


def refusal(file, shape):
    with pytest.raises(WeightsError) as raised:
        match_weights(file, official_shapes(shape), source="net")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_positions_of_another_grid_are_refused():
    official = draw(PLAIN)
    official["pos_embed"] = official["pos_embed"][:, :-1]
    assert "1 of another shape: pos_embed (expected 1x1370x128, got 1x9x128)" in refusal(
        official, PLAIN
    )


def test_missing_surplus_and_broken_parameters_are_named():
    official = draw(PLAIN)
    del official["blocks.1.ls2.gamma"]
    official["blocks.2.norm1.weight"] = official["norm.weight"]
    told = refusal(official, PLAIN)
    assert "1 missing: blocks.1.ls2.gamma" in told
    assert "1 surplus: blocks.2.norm1.weight" in told
    part = as_hugging_face(draw(PLAIN))
    del part["encoder.layer.0.attention.attention.key.bias"]
    assert "1 missing: blocks.0.attn.qkv.bias" in refusal(part, PLAIN)
    broken = draw(PLAIN)
    broken["norm.bias"][3] = np.nan
    assert "1 with NaN" in refusal(broken, PLAIN)


def test_another_model_of_the_family_is_recognised():
    small, large = VITS["dinov2_vits14"], VITS["dinov2_vitb14"]
    file = {name: np.zeros(sides, np.float32) for name, sides in official_shapes(small).items()}
    told = refusal(file, large)
    assert (
        "the file looks like dinov2_vits14: choose that backbone or get the file for dino" in told
    )
    told = refusal({"conv1.weight": np.zeros((4, 3, 7, 7), np.float32)}, small)
    assert "the file is none of dinov2_vits14, dinov2_vits14_reg" in told
