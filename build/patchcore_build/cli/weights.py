"""`patchcore-build convert-weights`: torchvision or safetensors weights to a MindSpore checkpoint.

parsed arguments -> a checkpoint, its path on stdout.
"""

import argparse
from pathlib import Path

from patchcore_build.cli.original_words import add_unused_options, tell_unused
from patchcore_build.config import BACKBONES
from patchcore_runtime.cli.terminal import print_json

_ORIGINAL = "PatchCore_pretrain.ckpt"  # what the original's script writes


def add_convert_options(command: argparse.ArgumentParser) -> None:
    """Add source, target and network."""
    command.add_argument(
        "files", type=Path, nargs="*", metavar="FILE",
        help="IN, a .pth, .safetensors or .ckpt, and OUT.ckpt, the checkpoint to write",
    )  # fmt: skip
    command.add_argument(
        "--pth_path", type=Path, metavar="IN",
        help="IN, in the original's words; OUT.ckpt is then PatchCore_pretrain.ckpt by default",
    )  # fmt: skip
    command.add_argument(
        "--backbone", choices=BACKBONES[:-1], default="wide_resnet50_2",
        help="network that the weights must fit (default wide_resnet50_2)",
    )  # fmt: skip
    add_unused_options(command, {"--device_target": "the conversion needs no device"})


def _files(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> tuple[Path, Path]:
    """Return source and target."""
    given: list[Path] = arguments.files
    if arguments.pth_path is not None:
        given = [arguments.pth_path, *(given or [Path(_ORIGINAL)])]
    if len(given) != 2:
        parser.error(
            f"convert-weights: expected IN OUT.ckpt, got {len(given)} file"
            + "s" * (len(given) != 1)
        )
    return given[0], given[1]


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Convert weights and print the path of the checkpoint."""
    tell_unused(arguments, parser.prog)
    source, target = _files(arguments, parser)
    from patchcore_build.backbone.device import open_device
    from patchcore_build.weights.match import check_target, convert_weights
    from patchcore_build.weights.read import check_source

    check_target(target)
    check_source(arguments.backbone, str(source))
    open_device()
    from patchcore_build.backbone.extractor import expected_shapes

    convert_weights(source, target, expected_shapes(arguments.backbone))
    if arguments.json:
        print_json({"checkpoint": target, "backbone": arguments.backbone})
    else:
        print(f"checkpoint: {target}")
    return 0
