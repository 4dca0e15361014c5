"""Laws of the settings: recipes hold, every range is refused by its field's name, frames fit."""

import dataclasses
import math

import pytest

from patchcore_build.config import (
    BACKBONES,
    RECIPES,
    make_config,
    plan_layout,
    plan_preprocessing,
    scoring_rule,
)
from patchcore_build.vision_transformers import VITS

# Field -> the values just outside of its range, then some far outside.
FORBIDDEN = {
    "backbone": ["resnet152", ""],
    "resize_px": [63, 4097, 0, -320],
    "coreset_ratio": [0.0, math.nextafter(1, 2), -0.1, math.nan, math.inf],
    "neighbours": [0, 101, -1],
    "sigma_px_at_224": [0.0, math.nextafter(64, 65), -4.0, math.nan],
    "seed": [-1, 2**32, 2**40],
    "folds": [1, 51, 0, -5],
    "target_fpr": [0.0, 1.0, -0.01, 2.0, math.nan],
}
ALLOWED = {
    "resize_px": [256, 4096],
    "coreset_ratio": [1e-9, 1.0],
    "neighbours": [1, 100],
    "sigma_px_at_224": [1e-3, 64],
    "seed": [0, 2**32 - 1],
    "folds": [2, 50],
    "target_fpr": [1e-9, 1 - 1e-9],
}
ELONGATED = [(h, w) for h in (8, 100, 333, 480, 1024) for w in (100, 340, 640, 1024)]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_carries_its_own_name(name):
    config = make_config(name)
    assert config.recipe == name
    assert plan_preprocessing(config, [(480, 640)]).height % config.plan.side_px == 0


def test_recipes_hold_what_the_design_measured():
    table = {
        name: (c.frame, c.resize_px, c.crop_px, c.upsampling, c.image_score, c.coreset_ratio)
        for name, c in RECIPES.items()
    }
    assert table == {
        "full-frame": ("whole", 320, 0, "bilinear", "max", 0.01),
        "paper": ("shorter_side_crop", 256, 224, "bilinear", "paper", 0.01),
        "modelzoo": ("stretch_crop", 256, 224, "nearest", "modelzoo", 0.01),
        "dino": ("whole", 448, 0, "bilinear", "max", 0.01),
    }


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in FORBIDDEN.items() for value in values]
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: expected .*, got {value}$"):
        make_config("paper", **{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in ALLOWED.items() for value in values]
)
def test_the_edges_of_every_range_are_allowed(field, value):
    assert getattr(make_config("paper", **{field: value}), field) == value


@pytest.mark.parametrize("crop_px", [0, -32, 31, 33, 225, 288])
def test_a_crop_that_the_network_or_the_image_cannot_hold_is_refused(crop_px):
    with pytest.raises(ValueError, match=r"^crop_px: expected a multiple of 32 up to resize_px"):
        make_config("paper", crop_px=crop_px)


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"recipe: .*full-frame.*paper.*modelzoo.*got fast"):
        make_config("fast")


def test_an_override_changes_its_field_only_and_none_keeps_the_recipe():
    changed = make_config("paper", seed=7, folds=None, backbone=None)
    assert changed == dataclasses.replace(RECIPES["paper"], seed=7)
    assert RECIPES["paper"].seed == 0


def test_settings_and_recipes_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["paper"].seed = 1
    with pytest.raises(TypeError):
        RECIPES["mine"] = RECIPES["paper"]


@pytest.mark.parametrize("size", ELONGATED)
def test_a_whole_frame_keeps_aspect_and_area_on_multiples_of_32(size):
    plan = plan_preprocessing(make_config("full-frame"), [size])
    height, width = plan.height, plan.width
    assert (plan.resize, plan.resize_height, plan.resize_width) == ("stretch", height, width)
    assert height % 32 == 0
    assert width % 32 == 0
    aspect = size[1] / size[0]
    wanted = 320 / math.sqrt(aspect), 320 * math.sqrt(aspect)
    for got, exact in zip((height, width), wanted, strict=True):
        assert abs(got - max(exact, 64)) <= 16  # the nearest multiple, at least two of them
    if 0.5 <= aspect <= 2:
        assert 0.85 <= height * width / 320**2 <= 1.15


def test_a_whole_frame_turns_with_the_image():
    config = make_config("full-frame")
    for height, width in ELONGATED:
        upright = plan_preprocessing(config, [(height, width)])
        lying = plan_preprocessing(config, [(width, height)])
        assert (upright.height, upright.width) == (lying.width, lying.height)


def test_mixed_sizes_get_the_median_aspect_whatever_their_order_and_scale():
    config = make_config("full-frame")
    sizes = [(100, 100)] * 2 + [(300, 400)] * 4 + [(50, 5000)] * 3
    expected = plan_preprocessing(config, [(3, 4)])
    assert plan_preprocessing(config, sizes) == expected
    assert plan_preprocessing(config, sizes[::-1]) == expected


@pytest.mark.parametrize(("recipe", "resize"), [("paper", "shorter_side"), ("modelzoo", "stretch")])
def test_a_cropping_recipe_ignores_the_sizes(recipe, resize):
    config = make_config(recipe)
    plans = {plan_preprocessing(config, [size]) for size in ELONGATED}
    (plan,) = plans
    assert (plan.resize, plan.resize_height, plan.height, plan.width) == (resize, 256, 224, 224)


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in VITS])
def test_layers_have_an_eighth_and_a_sixteenth_of_the_input(backbone):
    config = make_config("full-frame", backbone=backbone)
    size = plan_preprocessing(config, [(300, 500)])
    layout = plan_layout(config, size, (5, 7))
    assert layout.channels == (5, 7)
    for layer, cell_px in zip(layout.layers, (8, 16), strict=True):
        assert (layer.height * cell_px, layer.width * cell_px) == (size.height, size.width)


@pytest.mark.parametrize("backbone", VITS)
def test_a_transformers_patches_fill_any_frame(backbone):
    config = make_config("full-frame", backbone=backbone)
    assert config.layers == (f"block{VITS[backbone].blocks}",)
    assert config.neighbourhood == 1
    size = plan_preprocessing(config, [(300, 500)])
    (layer,) = plan_layout(config, size, (7,)).layers
    side = {"dinov2": 14, "dinov3": 16}[backbone[:6]]
    assert config.plan.patch_px == side
    assert (layer.height * side, layer.width * side) == (size.height, size.width)


def test_blocks_are_layers_or_one_mean():
    several = make_config("dino", layers=("block3", "block9"))
    assert (several.plan.names, several.plan.strides) == (("block3", "block9"), (1, 1))
    mean = make_config("dino", layers=("block7", "block9", "block12"), mean_blocks=True)
    assert (mean.plan.names, mean.plan.strides, mean.plan.patch_px) == (("output0",), (1,), 14)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"layers": ("layer2",)}, "layers: expected one to 4 of block1 to block12 for dinov2_vits"),
        ({"layers": ("block13",)}, "of block1 to block12 for dinov2_vits14, got block13"),
        ({"layers": ("block9", "block3")}, "layers: expected each once, ascending"),
        ({"layers": tuple(f"block{n}" for n in range(1, 6))}, "layers: expected one to 4 of"),
        ({"mean_blocks": True}, "mean_blocks: expected two blocks or more, got block12"),
        ({"backbone": "resnet18", "mean_blocks": True}, "mean_blocks: expected a transformer"),
        ({"backbone": "resnet18", "layers": ("block3",)}, "layers: expected one to four of layer1"),
        ({"feature_precision": "int8"}, "backbone: expected a ResNet for --quantize int8"),
        ({"tile_px": 100}, "tile_px: expected 0, or a multiple of 14"),
    ],
)
def test_settings_that_do_not_fit_a_transformer_are_refused(overrides, told):
    with pytest.raises(ValueError, match=told):
        make_config("dino", **overrides)


def test_a_recipe_takes_the_other_kind_of_network_with_its_own_layers():
    assert make_config("dino", backbone="resnet18").layers == ("layer2", "layer3")
    assert make_config("dino", backbone="resnet18").neighbourhood == 3
    assert make_config("paper", backbone="resnet18").neighbourhood == 3


def test_the_gaussian_is_four_pixels_at_224_and_scales_with_the_side():
    paper = make_config("paper")
    assert scoring_rule(paper, plan_preprocessing(paper, [(9, 9)])).sigma_px == 4
    whole = make_config("full-frame", resize_px=448)
    assert scoring_rule(whole, plan_preprocessing(whole, [(9, 9)])).sigma_px == 8
