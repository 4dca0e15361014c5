"""Laws of the ResNets: torchvision's names, shapes and numbers, against a plain NumPy forward."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from patchcore_build.backbone.device import open_device

open_device()

from patchcore_build.backbone.extractor import (  # noqa: E402  (MindSpore wants its device first)
    expected_shapes,
    make_extractor,
    random_weights,
)
from patchcore_build.backbone.network import mindspore_network  # noqa: E402
from patchcore_build.config import make_config  # noqa: E402
from patchcore_build.errors import SettingError  # noqa: E402
from patchcore_build.feature_layers import DEFAULT_LAYERS, STAGES  # noqa: E402

SIDE_PX = 64
# As torchvision's documentation gives them for its ImageNet weights.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Parameters of torchvision's whole models, as its documentation publishes them, and the width of
# the 3x3 convolutions of layer4 (0: basic blocks).
PUBLISHED = {
    "resnet18": (11_689_512, 2, 0),
    "resnet34": (21_797_672, 3, 0),
    "resnet50": (25_557_032, 3, 512),
    "resnet101": (44_549_160, 3, 512),
    "wide_resnet50_2": (68_883_240, 3, 1024),
    "wide_resnet101_2": (126_886_696, 3, 1024),
}
# Characteristic shapes as torchvision's state_dict has them.
SHAPES = {
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.gamma": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.conv1.weight": (128, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.moving_variance": (128,),
        "layer3.1.bn2.beta": (256,),
    },
    "resnet34": {
        "layer1.2.conv2.weight": (64, 64, 3, 3),
        "layer2.3.conv1.weight": (128, 128, 3, 3),
        "layer3.5.conv2.weight": (256, 256, 3, 3),
    },
    "resnet50": {
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer3.0.conv1.weight": (256, 512, 1, 1),
        "layer3.5.conv3.weight": (1024, 256, 1, 1),
        "layer3.5.bn3.moving_mean": (1024,),
    },
    "resnet101": {"layer3.22.conv2.weight": (256, 256, 3, 3)},
    "wide_resnet50_2": {
        "layer1.0.conv2.weight": (128, 128, 3, 3),
        "layer2.3.conv1.weight": (256, 512, 1, 1),
        "layer3.0.downsample.0.weight": (1024, 512, 1, 1),
        "layer3.5.conv3.weight": (1024, 512, 1, 1),
    },
    "wide_resnet101_2": {"layer3.22.conv2.weight": (512, 512, 3, 3)},
}
ABSENT = {
    "resnet18": ["layer1.0.downsample.0.weight", "layer1.2.conv1.weight", "layer2.1.downsample"],
    "resnet50": ["layer3.6.conv1.weight", "layer1.0.conv1.bias"],
    "wide_resnet50_2": ["layer3.6.conv1.weight"],
}


def after_layer3(blocks, width):
    """Learnable numbers of layer4 and of the classifier, by arithmetic."""

    def normalised(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + 2 * outputs

    if width == 0:
        first = normalised(256, 512, 3) + normalised(512, 512, 3) + normalised(256, 512, 1)
        return first + (blocks - 1) * 2 * normalised(512, 512, 3) + 512 * 1000 + 1000
    tail = normalised(width, width, 3) + normalised(width, 2048, 1)
    first = normalised(1024, width, 1) + tail + normalised(1024, 2048, 1)
    return first + (blocks - 1) * (normalised(2048, width, 1) + tail) + 2048 * 1000 + 1000


def trained_looking(backbone, layers=DEFAULT_LAYERS):
    """Random convolutions, and normalisation in which no parameter is neutral."""
    weights = random_weights(backbone, layers, seed=1)
    rng = np.random.default_rng(2)
    for name, values in weights.items():
        if values.ndim == 1:
            low, high = (0.5, 1.5) if name.endswith(("gamma", "variance")) else (-0.3, 0.3)
            weights[name] = rng.uniform(low, high, values.shape).astype(np.float32)
    return weights


class Reference:
    """The published forward pass in float64, written with nothing but matrix products."""

    def __init__(self, weights, stride_in="3x3"):
        self.weights, self.stride_in = weights, stride_in

    def convolve(self, x, name, stride=1):
        """A convolution with as much zero padding as keeps the size."""
        kernel = self.weights[f"{name}.weight"].astype(np.float64)
        border = kernel.shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        windows = sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
        return np.einsum(
            "bchwij,ocij->bohw", windows[:, :, ::stride, ::stride], kernel, optimize=True
        )

    def normalise(self, x, name):
        """Batch normalisation with the stored statistics."""
        gamma, beta, mean, variance = (
            self.weights[f"{name}.{leaf}"].astype(np.float64)[:, None, None]
            for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def block(self, x, name, stride):
        """Strides in the first 3x3 convolution, as torchvision's blocks do, or in the first 1x1."""
        count = 3 if f"{name}.conv3.weight" in self.weights else 2
        strided = 1 if self.stride_in == "1x1" else count - 1
        out = x
        for number in range(1, count + 1):
            step = stride if number == strided else 1
            out = self.convolve(out, f"{name}.conv{number}", step)
            out = self.normalise(out, f"{name}.bn{number}")
            if number < count:
                out = np.maximum(out, 0)
        if f"{name}.downsample.0.weight" in self.weights:
            x = self.convolve(x, f"{name}.downsample.0", stride)
            x = self.normalise(x, f"{name}.downsample.1")
        return np.maximum(out + x, 0)

    def stage(self, x, name, stride):
        """Blocks until the names end."""
        number = 0
        while f"{name}.{number}.conv1.weight" in self.weights:
            x = self.block(x, f"{name}.{number}", stride if number == 0 else 1)
            number += 1
        return x

    def layers(self, images, names=DEFAULT_LAYERS):
        """The named layers of uint8 (B, H, W, 3) images."""
        x = (images.transpose(0, 3, 1, 2) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(
            STD, (3, 1, 1)
        )
        x = np.maximum(self.normalise(self.convolve(x, "conv1", 2), "bn1"), 0)
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        x = sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(4, 5))
        found = {}
        for name in STAGES:
            x = found[name] = self.stage(x, name, 1 if name == "layer1" else 2)
        return [found[name] for name in names]


def windows(layer, side, outside=0.0):
    """(B, C, h, w, side, side): the neighbourhood of each cell."""
    reach = side // 2
    ring = ((0, 0), (0, 0), (reach, reach), (reach, reach))
    padded = np.pad(layer, ring, constant_values=outside)
    return sliding_window_view(padded, (side, side), axis=(2, 3))


def average(layer, border, side=3):
    """Means of neighbourhoods; beyond the border are zeros that count, or nothing."""
    outside = 0.0 if border == "counted" else np.nan
    return np.nanmean(windows(layer, side, outside), axis=(4, 5))


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_parameters_add_up_to_torchvisions_total_without_what_follows_layer3(backbone):
    learnable = {
        name: shape for name, shape in expected_shapes(backbone).items() if "moving" not in name
    }
    total, blocks, width = PUBLISHED[backbone]
    count = sum(int(np.prod(shape)) for shape in learnable.values())
    assert count == total - after_layer3(blocks, width)


def test_the_arithmetic_of_the_totals_gives_the_known_figure_of_resnet18():
    assert 11_689_512 - after_layer3(2, 0) == 2_782_784


@pytest.mark.parametrize("backbone", SHAPES)
def test_parameters_carry_torchvisions_names_and_shapes(backbone):
    shapes = expected_shapes(backbone)
    assert {name: shapes.get(name) for name in SHAPES[backbone]} == SHAPES[backbone]
    assert [name for name in ABSENT.get(backbone, []) if name in shapes] == []
    assert not [name for name in shapes if name.startswith(("layer4", "fc"))]


@pytest.mark.parametrize(
    ("backbone", "border"), [("resnet18", "counted"), ("resnet50", "not_counted")]
)
def test_the_layers_equal_a_forward_pass_in_numpy(backbone, border):
    weights = trained_looking(backbone)
    config = make_config("paper", backbone=backbone, pooling_border=border)
    network = mindspore_network(make_extractor(config, weights, height=SIDE_PX, width=2 * SIDE_PX))
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE_PX, 2 * SIDE_PX, 3), np.uint8)
    layers = network(images)
    for got, raw in zip(layers, Reference(weights).layers(images), strict=True):
        wanted = average(raw, border)
        assert got.dtype == np.float32
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
    assert layers[0].shape[2:] == (SIDE_PX // 8, 2 * SIDE_PX // 8)
    assert layers[1].shape[2:] == (SIDE_PX // 16, 2 * SIDE_PX // 16)


@pytest.mark.parametrize(
    ("backbone", "names", "side", "border"),
    [
        ("resnet18", ("layer1",), 1, "counted"),
        ("resnet18", ("layer2", "layer4"), 5, "not_counted"),
        ("resnet50", ("layer1", "layer2", "layer3", "layer4"), 3, "counted"),
    ],
)
def test_any_layers_and_neighbourhood_equal_a_forward_pass_in_numpy(backbone, names, side, border):
    weights = trained_looking(backbone, names)
    settings = {"layers": names, "neighbourhood": side, "pooling_border": border}
    config = make_config("paper", backbone=backbone, **settings)
    cell = make_extractor(config, weights, height=SIDE_PX, width=2 * SIDE_PX)
    images = np.random.default_rng(0).integers(0, 256, (1, SIDE_PX, 2 * SIDE_PX, 3), np.uint8)
    layers = mindspore_network(cell)(images)
    assert len(layers) == len(names)
    reference = Reference({**trained_looking(backbone, STAGES), **weights}).layers(images, names)
    for name, got, raw in zip(names, layers, reference, strict=True):
        wanted, cells_px = average(raw, border, side), 4 << STAGES.index(name)
        assert got.shape[2:] == (SIDE_PX // cells_px, 2 * SIDE_PX // cells_px)
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def adaptive(values, bins):
    """Means of the original's bins along the last axis."""
    count = values.shape[-1]
    ends = [(count * i // bins, -(-count * (i + 1) // bins)) for i in range(bins)]
    return np.stack([values[..., start:end].mean(axis=-1) for start, end in ends], axis=-1)


@pytest.mark.parametrize("pool_to", [192, 20, 1024])
def test_pooling_equals_the_two_adaptive_poolings_of_the_original(pool_to):
    config = make_config("paper", backbone="resnet18", pool_to=pool_to)
    weights = trained_looking("resnet18")
    cell = make_extractor(config, weights, height=SIDE_PX, width=SIDE_PX)
    images = np.random.default_rng(0).integers(0, 256, (1, SIDE_PX, SIDE_PX, 3), np.uint8)
    layers = mindspore_network(cell)(images)
    assert [layer.shape[1] for layer in layers] == [pool_to // 2] * 2
    pooled = []
    for raw in Reference(weights).layers(images):
        cells = windows(raw, 3).transpose(0, 2, 3, 1, 4, 5).reshape(1, *raw.shape[2:], -1)
        pooled.append(adaptive(cells, pool_to))
    # Both layers have one value here that the other's grid could take: compare at one cell each.
    both = np.concatenate([pooled[0][0, 0, 0], pooled[1][0, 0, 0]])
    wanted = adaptive(both, pool_to)
    got = np.concatenate([layers[0][0, :, 0, 0], layers[1][0, :, 0, 0]])
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_the_stride_of_a_bottleneck_may_lie_in_its_first_convolution():
    weights = trained_looking("resnet50")
    images = np.random.default_rng(0).integers(0, 256, (1, SIDE_PX, SIDE_PX, 3), np.uint8)
    found = {}
    for where in ("3x3", "1x1"):
        config = make_config("paper", backbone="resnet50", stride_in=where)
        cell = make_extractor(config, weights, height=SIDE_PX, width=SIDE_PX)
        found[where] = mindspore_network(cell)(images)
        for got, raw in zip(found[where], Reference(weights, where).layers(images), strict=True):
            wanted = average(raw, "counted")
            np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
    assert not np.allclose(found["3x3"][0], found["1x1"][0], rtol=1e-2)
    with pytest.raises(SettingError, match="stride_in"):
        make_config("paper", backbone="resnet18", stride_in="1x1")


def test_random_weights_depend_on_the_seed_alone():
    first, again, other = (random_weights("resnet18", seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["conv1.weight"], other["conv1.weight"])
    assert {name: values.shape for name, values in first.items()} == expected_shapes("resnet18")
