"""`patchcore-build convert-weights`: torchvision or safetensors weights to a MindSpore checkpoint.

parsed arguments -> a checkpoint, its path on stdout.
"""

import argparse
from pathlib import Path

from patchcore_build.config import BACKBONES
from patchcore_runtime.cli.terminal import print_json


def add_convert_options(command: argparse.ArgumentParser) -> None:
    """Add source, target and network."""
    command.add_argument("source", type=Path, metavar="IN", help=".pth, .safetensors or .ckpt")
    command.add_argument("target", type=Path, metavar="OUT.ckpt", help="the checkpoint to write")
    command.add_argument(
        "--backbone", choices=BACKBONES[:-1], default="wide_resnet50_2",
        help="network that the weights must fit (default wide_resnet50_2)",
    )  # fmt: skip


def run(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Convert weights and print the path of the checkpoint."""
    from patchcore_build.backbone.device import open_device
    from patchcore_build.weights.match import check_target, convert_weights
    from patchcore_build.weights.read import check_source

    check_target(arguments.target)
    check_source(arguments.backbone, str(arguments.source))
    open_device()
    from patchcore_build.backbone.extractor import expected_shapes

    convert_weights(arguments.source, arguments.target, expected_shapes(arguments.backbone))
    if arguments.json:
        print_json({"checkpoint": arguments.target, "backbone": arguments.backbone})
    else:
        print(f"checkpoint: {arguments.target}")
    return 0
