"""Options that several commands share, and the settings they stand for.

parser -> the same parser with groups of options; parsed arguments -> Config.
"""

import argparse
from pathlib import Path

from patchcore_build.config import BACKBONES, RECIPES, Config, make_config
from patchcore_runtime.cli.option_types import whole_number
from patchcore_runtime.manifest.manifest import FeaturePrecision

LAYOUTS = "MVTec, MVTec AD 2, VisA, BTAD or plain"  # of a data set on disk
_OVERRIDES = (
    "backbone", "precision", "coreset_ratio", "target_fpr", "folds", "resize_px", "image_score",
    "pooling_border", "bank_precision", "tile_px", "tile_overlap_px",
)  # fmt: skip
_FEATURE_PRECISIONS: dict[str, FeaturePrecision] = {"none": "float32", "int8": "int8"}


def add_network_options(command: argparse.ArgumentParser) -> None:
    """--backbone, --weights, --device, --device-id, --precision, --quantize."""
    network = command.add_argument_group("network")
    network.add_argument(
        "--backbone", choices=BACKBONES, default="wide_resnet50_2",
        help="feature network (default wide_resnet50_2)",
    )  # fmt: skip
    network.add_argument(
        "--weights",
        "--pre_ckpt_path",
        metavar="FILE|auto|random",
        help=".ckpt, .pth or .safetensors; `auto` downloads torchvision's; `random` is for "
        "benchmarks; scattering needs none",
    )
    network.add_argument(
        "--device", choices=("cpu", "ascend", "gpu"), default="cpu",
        help="where MindSpore computes the features (default cpu)",
    )  # fmt: skip
    network.add_argument(
        "--device-id", "--device_id", type=whole_number(0), default=0, metavar="N",
        help="which of several devices (default 0)",
    )  # fmt: skip
    network.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32",
        help="of the feature network; fp16 is for accelerators (default fp32)",
    )  # fmt: skip
    network.add_argument(
        "--quantize", choices=tuple(_FEATURE_PRECISIONS), default="none",
        help="int8: features.onnx in 8-bit integers, a quarter of the size, faster on CPUs; "
        "thresholds are made with it; ResNets only, no MindIR (default none)",
    )  # fmt: skip


def add_method_options(command: argparse.ArgumentParser) -> None:
    """--recipe and what replaces single settings of it."""
    method = command.add_argument_group("method")
    method.add_argument(
        "--recipe", choices=tuple(RECIPES), default="full-frame",
        help="preset of all settings (default full-frame, which crops nothing)",
    )  # fmt: skip
    method.add_argument(
        "--coreset-ratio", "--coreset_sampling_ratio", type=float, metavar="R",
        help="share of patches kept (default: the recipe's, 0.01)",
    )  # fmt: skip
    method.add_argument(
        "--target-fpr", type=float, metavar="R", help="false-alarm rate aimed at (default 0.01)"
    )
    method.add_argument("--folds", type=int, metavar="N", help="of the calibration (default 5)")
    method.add_argument(
        "--resize-px", type=int, metavar="N", help="side before the crop, or of the frame's area"
    )
    method.add_argument(
        "--tile", dest="tile_px", type=int, metavar="N",
        help="cut inputs larger than it into overlapping tiles of N px, for high resolution",
    )  # fmt: skip
    method.add_argument(
        "--overlap", dest="tile_overlap_px", type=int, metavar="N",
        help="of neighbouring tiles in px, a multiple of 16 (default 64)",
    )  # fmt: skip
    method.add_argument(
        "--image-score", choices=("max", "paper", "modelzoo"), help="instead of the recipe's"
    )
    method.add_argument(
        "--pooling-border", choices=("counted", "not_counted"), help="instead of the recipe's"
    )
    method.add_argument(
        "--bank-precision", choices=("float32", "float16"),
        help="of the stored rows; float16 halves the file (default float32)",
    )  # fmt: skip


def add_signing_option(command: argparse.ArgumentParser) -> None:
    """--sign."""
    command.add_argument(
        "--sign", type=Path, metavar="PEM",
        help="sign the artifact with this ed25519 private key (needs the extra `sign`)",
    )  # fmt: skip


def add_public_key_option(command: argparse.ArgumentParser) -> None:
    """--public-key."""
    command.add_argument(
        "--public-key", type=Path, metavar="PEM",
        help="refuse a source artifact that this ed25519 key has not signed (needs the extra "
        "`sign`)",
    )  # fmt: skip


def config_from(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser, *, seed: int | None
) -> Config:
    """The config that the options of both groups stand for; a value out of range ends in usage."""
    given = {name: getattr(arguments, name) for name in _OVERRIDES}
    given["feature_precision"] = _FEATURE_PRECISIONS[arguments.quantize]
    try:
        return make_config(arguments.recipe, **given, seed=seed)
    except ValueError as error:
        parser.error(str(error))
