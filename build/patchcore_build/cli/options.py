"""Options that several commands share, and their settings.

parser -> the same parser with groups of options; parsed arguments -> Config.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from patchcore_build.config import BACKBONES, NEIGHBOURHOODS, RECIPES, Config, make_config
from patchcore_build.errors import SettingError
from patchcore_build.feature_layers import OwnNetwork, StrideIn
from patchcore_runtime.cli.option_types import whole_number
from patchcore_runtime.manifest.features import FeaturePrecision

LAYOUTS = "MVTec, MVTec AD 2, VisA, BTAD or plain"  # of a data set on disk
_OVERRIDES = (
    "backbone", "precision", "coreset_ratio", "target_fpr", "folds", "resize_px", "image_score",
    "pooling_border", "bank_precision", "tile_px", "tile_overlap_px", "white_level", "layers",
    "neighbourhood", "pool_to", "stride_in", "mean_blocks", "augment",
    "foreground",
)  # fmt: skip
_FEATURE_PRECISIONS: dict[str, FeaturePrecision] = {"none": "float32", "int8": "int8"}


def add_network_options(command: argparse.ArgumentParser) -> None:
    """Add --backbone, --weights, --device, --device-id, --precision and --quantize."""
    network = command.add_argument_group("network")
    network.add_argument(
        "--backbone", choices=BACKBONES,
        help="feature network (default: the recipe's, wide_resnet50_2 or dinov2_vits14)",
    )  # fmt: skip
    network.add_argument(
        "--layers", nargs="+", metavar="LAYER",
        help="what forms a patch: one to four of layer1 to layer4, the stages of a ResNet "
        "(default: layer2 layer3), or numbers of a transformer's blocks (default: the last)",
    )  # fmt: skip
    network.add_argument(
        "--mean-blocks", action="store_true", default=None,
        help="make one layer of the blocks of --layers, their mean",
    )  # fmt: skip
    network.add_argument(
        "--stride-in", choices=get_args(StrideIn),
        help="the convolution of a bottleneck that has the stride: 3x3 as in torchvision "
        "(default), or 1x1 as in weights of the first ResNets, of Caffe and Keras",
    )  # fmt: skip
    network.add_argument(
        "--neighbourhood", type=int, choices=NEIGHBOURHOODS,
        help="cells along one side of the square that each cell of a layer is averaged over "
        "(default 3, as in the paper)",
    )  # fmt: skip
    network.add_argument(
        "--pool-to", type=whole_number(0), metavar="D",
        help="channels of a patch, by the adaptive pooling of the original implementation, which "
        "uses 1024 (default: 0, the layers' own channels)",
    )  # fmt: skip
    network.add_argument(
        "--weights",
        "--pre_ckpt_path",
        metavar="FILE|auto|random",
        help="weights file (.ckpt, .pth or .safetensors); `auto` downloads torchvision's; `random` "
        "is for benchmarks; the backbone scattering needs no weights",
    )
    network.add_argument(
        "--device", "--platform", "--device_target", choices=("cpu", "ascend", "gpu"),
        type=str.lower, default="cpu",
        help="device on which MindSpore computes the features (default cpu)",
    )  # fmt: skip
    network.add_argument(
        "--device-id", "--device_id", type=whole_number(0), default=0, metavar="N",
        help="number of the device, if there are several (default 0)",
    )  # fmt: skip
    network.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32",
        help="precision of the feature network; fp16 is for accelerators (default fp32)",
    )  # fmt: skip
    network.add_argument(
        "--quantize", choices=tuple(_FEATURE_PRECISIONS), default="none",
        help="int8: features.onnx in 8-bit integers, a quarter of the size and faster on CPUs; "
        "thresholds are estimated with it; for ResNets, without MindIR (default none)",
    )  # fmt: skip


def add_method_options(command: argparse.ArgumentParser) -> None:
    """Add --recipe and the options that replace single settings of it."""
    method = command.add_argument_group("method")
    method.add_argument(
        "--recipe", choices=tuple(RECIPES), default="full-frame",
        help="preset of all settings (default full-frame, which crops nothing)",
    )  # fmt: skip
    method.add_argument(
        "--coreset-ratio", "--coreset_sampling_ratio", type=float, metavar="R",
        help="share of patches in the memory bank (default: the recipe's, 0.01)",
    )  # fmt: skip
    method.add_argument(
        "--target-fpr", type=float, metavar="R", help="target false-alarm rate (default 0.01)"
    )
    method.add_argument(
        "--folds", type=int, metavar="N", help="number of folds of the calibration (default 5)"
    )
    method.add_argument(
        "--resize-px", type=int, metavar="N",
        help="side of the image before the crop; without a crop, the square root of its area",
    )  # fmt: skip
    method.add_argument(
        "--tile", dest="tile_px", type=int, metavar="N",
        help="cut inputs larger than N px into overlapping tiles of N px, for high resolution",
    )  # fmt: skip
    method.add_argument(
        "--overlap", dest="tile_overlap_px", type=int, metavar="N",
        help="overlap of neighbouring tiles in px, a multiple of 16 for layer3 (default 64)",
    )  # fmt: skip
    method.add_argument(
        "--image-score", choices=("max", "map", "paper", "modelzoo"),
        help="rule of the image score: the largest distance, the largest value of the map, "
        "equation 7, or MindSpore Models' (default: the recipe's)",
    )  # fmt: skip
    method.add_argument(
        "--pooling-border", choices=("counted", "not_counted"),
        help="whether zeros around a layer count in its 3x3 average (default: the recipe's)",
    )  # fmt: skip
    method.add_argument(
        "--bank-precision", choices=("float32", "float16"),
        help="precision of the stored rows; float16 halves the file (default float32)",
    )  # fmt: skip
    method.add_argument(
        "--augment", choices=("none", "rotate"),
        help="rotate: learn from eight views of each image, turned by 45 degrees each, for few "
        "images of parts in any orientation (default none)",
    )  # fmt: skip
    method.add_argument(
        "--foreground", choices=("none", "pca"),
        help="pca: ignore patches that the first principal component of the training images calls "
        "background, for a part before a plain background (default none)",
    )  # fmt: skip
    method.add_argument(
        "--white-level", type=_white_level, metavar="N|auto",
        help="value of white in grey images of 16 bits: 4095 for a camera of 12 bits; `auto` finds "
        "10, 12, 14 or 16 bits from the training images (default 65535)",
    )  # fmt: skip


def _white_level(text: str) -> int | str:
    return "auto" if text == "auto" else whole_number(255)(text)


def add_signing_option(command: argparse.ArgumentParser) -> None:
    """Add --sign."""
    command.add_argument(
        "--sign", type=Path, metavar="PEM",
        help="sign the artifact with this ed25519 private key (needs the extra `sign`)",
    )  # fmt: skip


def add_public_key_option(command: argparse.ArgumentParser) -> None:
    """Add --public-key."""
    command.add_argument(
        "--public-key", type=Path, metavar="PEM",
        help="refuse a source artifact that this ed25519 key has not signed (needs the extra "
        "`sign`)",
    )  # fmt: skip


def config_from(
    arguments: argparse.Namespace,
    parser: argparse.ArgumentParser,
    *,
    seed: int | None,
    network: OwnNetwork | None = None,
) -> Config:
    """Make the config from the options of both groups."""
    given = {name: getattr(arguments, name) for name in _OVERRIDES}
    if given["layers"] is not None:
        given["layers"] = _layer_names(given["layers"])
    given["feature_precision"] = _FEATURE_PRECISIONS[arguments.quantize]
    with wrong_usage(parser):
        return make_config(arguments.recipe, **given, seed=seed, network=network)


def _layer_names(given: list[str]) -> tuple[str, ...]:
    """Names of layers in their order; a number is that of a transformer's block."""
    names = [f"block{name}" if name.isdecimal() else name for name in given]
    return tuple(sorted(names, key=lambda name: (len(name), name)))


@contextmanager
def wrong_usage(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn a setting that is refused into a usage error, exit code 2."""
    try:
        yield
    except SettingError as error:
        parser.error(str(error))
