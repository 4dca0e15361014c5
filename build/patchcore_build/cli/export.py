"""`patchcore-build export`: an artifact in a form that other programs run.

parsed arguments -> one ONNX file, a Triton repository or a MindIR, its figures on stdout.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from patchcore_build.cli.options import add_public_key_option, wrong_usage
from patchcore_build.cli.original_words import add_unused_options, tell_unused
from patchcore_build.errors import ExportError
from patchcore_runtime.cli.option_types import whole_number
from patchcore_runtime.cli.terminal import print_json

if TYPE_CHECKING:
    from patchcore_build.deploy.one_file import OneFileReport

EXPORT_SUMMARY = "write an artifact as one ONNX file, a Triton repository or a MindIR"
Format = Literal["onnx", "triton", "mindir", "air"]
_TAKEN: dict[Format, tuple[str, ...]] = {
    "onnx": ("opset", "photo_size", "external"),
    "triton": ("opset", "photo_size", "external", "batch", "name"),
    "mindir": ("batch",),
    "air": (),
}
_BATCH = 8
_ABOUT = """formats:
  onnx    one file for any engine: image uint8 (B, H, W, 3) -> score, is_anomalous, anomaly_map,
          patch_distances; network, search, scoring and, with --photo-size, the resize are inside
  triton  the same file in a model repository of NVIDIA's Triton Inference Server
  mindir  the network with a fixed batch, for Ascend; the artifact's own has a free one
  air     refused: MindSpore writes AIR on an Ascend 910 alone"""


def add_export_options(command: argparse.ArgumentParser) -> None:
    """Add the artifact, the format and its options."""
    command.description = f"{command.description or ''}\n\n{_ABOUT}".strip()
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the artifact folder")
    command.add_argument(
        "--format", "--file_format", choices=get_args(Format), required=True, type=str.lower,
        help="form of the export",
    )  # fmt: skip
    command.add_argument(
        "--output", "--file_name", type=Path, metavar="PATH", required=True,
        help="the file to write, which may not exist yet; for triton the repository, new or not",
    )  # fmt: skip
    command.add_argument(
        "--opset", type=whole_number(1), metavar="N",
        help="opset of the ONNX file, 17 to 21 (default 17, or the network's if it is newer)",
    )  # fmt: skip
    command.add_argument(
        "--photo-size", nargs=2, type=whole_number(1), metavar=("H", "W"),
        help="take photographs of this size and resize them inside, exactly as the artifact does "
        "(default: take inputs of the artifact's own size)",
    )  # fmt: skip
    command.add_argument(
        "--external", action="store_true", default=None,
        help="store the numbers in PATH.data beside the graph; needed above 2 GB",
    )  # fmt: skip
    command.add_argument(
        "--batch", type=whole_number(1), metavar="N",
        help=f"triton: largest batch (default {_BATCH}); mindir: the batch (default 1)",
    )  # fmt: skip
    command.add_argument(
        "--name", metavar="NAME", help="triton: name of the model (default: the artifact's folder)"
    )
    add_public_key_option(command)
    add_unused_options(
        command,
        {
            "--ckpt_file": "the artifact has its network",
            "--device_target": "an export is for any device",
            "--device_id": "an export is for any device",
        },
    )


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Write the export and print how far it is from the artifact."""
    tell_unused(arguments, parser.prog)
    _refuse_misplaced(arguments, parser)
    if arguments.format == "air":
        raise ExportError(
            f"{arguments.output}: expected a format that can be written here, got AIR, which "
            "MindSpore writes on an Ascend 910 alone; convert features.mindir with converter_lite"
        )
    if arguments.format == "mindir":
        return _mindir(arguments, parser)
    from patchcore_build.deploy.new_files import check_new_files, data_file
    from patchcore_build.deploy.one_file import OneFile, export_one_file, least_opset
    from patchcore_build.deploy.triton import check_triton, export_triton
    from patchcore_runtime.artifact.folder import Artifact

    name = arguments.name or arguments.artifact.resolve().name
    batch = _BATCH if arguments.batch is None else arguments.batch
    with wrong_usage(parser):
        settings = OneFile(
            opset=OneFile.opset if arguments.opset is None else arguments.opset,
            photo_size=None if arguments.photo_size is None else tuple(arguments.photo_size),
            external=bool(arguments.external),
        )
        if arguments.format == "triton":
            check_triton(arguments.output, name, batch)
        else:
            check_new_files(arguments.output, data_file(arguments.output))
    artifact = Artifact.open_whole(arguments.artifact, public_key=arguments.public_key)
    if arguments.opset is None:
        settings = dataclasses.replace(settings, opset=least_opset(artifact))
    if arguments.format == "onnx":
        report = export_one_file(artifact, arguments.output, settings)
    else:
        report = export_triton(artifact, arguments.output, settings, name=name, most_batch=batch)
    _print_report(arguments, report)
    return 0


def _print_report(arguments: argparse.Namespace, report: "OneFileReport") -> None:
    if arguments.json:
        print_json(dataclasses.asdict(report))
        return
    height, width = report.input_size
    print(f"input: image, uint8 (B, {height}, {width}, 3), RGB")
    print(f"opset: {report.opset}")
    if report.replaced_index is not None:
        print(f"index: exact search in place of {report.replaced_index}, so scores may differ")
    print(
        f"against the artifact: score differs by {report.score_difference:.2g}, map by "
        f"{report.map_difference:.2g} of its largest value"
    )
    print(f"export: {arguments.output}")


def _mindir(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from patchcore_build.deploy.batch import check_batch
    from patchcore_build.deploy.fixed_mindir import check_mindir, export_fixed_mindir
    from patchcore_build.deploy.new_files import check_new_files
    from patchcore_runtime.artifact.folder import Artifact

    batch = 1 if arguments.batch is None else arguments.batch
    with wrong_usage(parser):
        check_batch(batch)
    check_new_files(arguments.output)
    artifact = Artifact.open_whole(arguments.artifact, public_key=arguments.public_key)
    check_mindir(artifact)
    from patchcore_build.backbone.device import open_device

    open_device()
    gap = export_fixed_mindir(artifact, arguments.output, batch)
    height, width = artifact.manifest.grid.tile_px
    if arguments.json:
        print_json({"file": arguments.output, "batch": batch, "difference": gap})
        return 0
    print(f"input: images, uint8 ({batch}, {height}, {width}, 3), RGB")
    print(f"against features.mindir: layers differ by {gap:.2g}")
    print(f"export: {arguments.output}")
    return 0


def _refuse_misplaced(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    options = {name for names in _TAKEN.values() for name in names}
    for name in sorted(options - set(_TAKEN[arguments.format])):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            takers = ", ".join(form for form, taken in _TAKEN.items() if name in taken)
            parser.error(f"export: {option} needs --format {takers}, got {arguments.format}")
