"""The command `patchcore-build`: build, evaluate, sign, convert weights, make demo images.

argv -> progress on stderr, results on stdout, exit code 0 done, 1 refused, 2 usage.
Options of the MindSpore Models PatchCore are accepted under their old spelling, too.
MindSpore is imported by the command that needs it, so `--help` is instant.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchcore_build._version import __version__
from patchcore_build.cli.advise import add_advise_options
from patchcore_build.cli.advise import run as run_advise
from patchcore_build.cli.benchmark import add_benchmark_options
from patchcore_build.cli.benchmark import run as run_benchmark_command
from patchcore_build.cli.evaluate import add_evaluate_options
from patchcore_build.cli.evaluate import run as run_evaluate
from patchcore_build.cli.index import add_index_options
from patchcore_build.cli.index import run as run_index
from patchcore_build.cli.merge import MERGE_SUMMARY, add_merge_options
from patchcore_build.cli.merge import run as run_merge
from patchcore_build.cli.options import (
    add_method_options,
    add_network_options,
    add_signing_option,
    at_least,
    config_from,
)
from patchcore_build.cli.sign import add_sign_options
from patchcore_build.cli.sign import run as run_sign
from patchcore_build.config import BACKBONES
from patchcore_runtime.cli.command_line import Run, add_command, new_parser, run_command_line
from patchcore_runtime.scoring.thresholds import describe_calibration

if TYPE_CHECKING:
    from patchcore_build.fitting.fit import FitReport

_LAYOUTS = "MVTec, MVTec AD 2, VisA, BTAD or plain"
_EXAMPLES = r"""examples:
  patchcore-build fit --dataset mvtec --category bottle --weights resnet18.pth \
      --backbone resnet18 --output artifacts/bottle
  patchcore-build fit --normal good_parts/ --backbone scattering --output artifacts/part
  patchcore-build fit --dataset mvtec --category bottle --weights auto --quantize int8 \
      --output artifacts/bottle-int8
  patchcore-build fit --normal good_parts/ --backbone scattering --output artifacts/part \
      --groups '(part\d+)_' --target-fpr 0.005 --review out/part --drop-suspects auto
  patchcore-build evaluate artifacts/bottle --dataset mvtec --output out/bottle
  patchcore-build index artifacts/bottle --kind hnsw --images held_out/ --output artifacts/fast
  patchcore-build advise artifacts/bottle --target-ms 50 --images held_out/
  patchcore-build sign artifacts/bottle --key vendor_private.pem
  patchcore-build benchmark --dataset mvtec --weights auto --seeds 0,1,2 --output out/mvtec
  patchcore-build merge artifacts/line1 artifacts/line2 --output artifacts/both
  patchcore-build convert-weights resnet18.pth resnet18.ckpt --backbone resnet18
  patchcore-build demo-data out/demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    description = "Build PatchCore anomaly detectors from good photographs."
    parser, commands = new_parser("patchcore-build", description, _EXAMPLES, __version__)
    _add_fit(commands)
    add_evaluate_options(
        _command(commands, "evaluate", run_evaluate, "measure an artifact on a test set"), _LAYOUTS
    )
    summary = "fit and evaluate every category of a data set, one table"
    add_benchmark_options(_command(commands, "benchmark", run_benchmark_command, summary))
    summary = "the same artifact with another kind of index, measured"
    add_index_options(_command(commands, "index", run_index, summary))
    add_merge_options(_command(commands, "merge", run_merge, MERGE_SUMMARY))
    summary = "which index and bank size serve an artifact best on this machine"
    add_advise_options(_command(commands, "advise", run_advise, summary))
    add_sign_options(_command(commands, "sign", run_sign, "sign an artifact that is finished"))
    _add_convert_weights(commands)
    _add_demo_data(commands)
    return parser


def _command(commands: Any, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    command = add_command(commands, name, run, summary=summary, examples=_EXAMPLES)
    command.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return command


def _add_fit(commands: Any) -> None:
    fit = _command(commands, "fit", _fit, "build an artifact from good images")
    where = fit.add_argument_group("images and result")
    where.add_argument(
        "--dataset", "--dataset_path", type=Path, metavar="DIR",
        help=f"data set ({_LAYOUTS} layout)",
    )  # fmt: skip
    where.add_argument("--category", metavar="NAME", help="whose good images are learned")
    where.add_argument("--normal", type=Path, metavar="DIR", help="or: any folder of good images")
    where.add_argument(
        "--roi", metavar="MASK|POLYGON",
        help="learn and look only there: a black image of a photograph, white where to look, or "
        'corners "x,y x,y x,y" in fractions of its width and height',
    )  # fmt: skip
    where.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="the artifact folder to make"
    )
    where.add_argument(
        "--skip-bad", action="store_true", help="leave out unreadable images and list them"
    )
    where.add_argument(
        "--keep-thumbnails", action="store_true",
        help="store small training images in the artifact, so that `score --explain` can show "
        "them (about 30 kB each)",
    )  # fmt: skip
    where.add_argument(
        "--groups", metavar="REGEX",
        help="images whose names agree in the first group show one part and are held out "
        r"together, for instance '(part\d+)_'",
    )  # fmt: skip
    where.add_argument(
        "--review", type=Path, metavar="DIR",
        help="write suspects.html there: the training images that look least like the others",
    )  # fmt: skip
    where.add_argument(
        "--drop-suspects", type=_suspects, default=0, metavar="N|auto",
        help="leave out the N most suspicious images, or those that stand out, and list them",
    )  # fmt: skip
    add_network_options(fit)
    add_method_options(fit)
    add_signing_option(fit)
    fit.add_argument("--seed", type=int, metavar="N", help="of every random choice (default 0)")
    fit.add_argument(
        "--memory-budget-gb", type=_gigabytes, default=8.0, metavar="N",
        help="of inputs, features, coreset and bank; what does not fit goes to files in TMPDIR. "
        "MindSpore and the network come on top, about 1 GB (default 8)",
    )  # fmt: skip
    fit.add_argument(
        "--checkpoint", type=Path, metavar="DIR",
        help="keep unfinished coresets there; the same command takes them up again",
    )  # fmt: skip
    fit.add_argument(
        "--force", action="store_true",
        help="take --quantize int8 even if it costs more than 0.005 of AUROC on the test set",
    )  # fmt: skip


def _add_convert_weights(commands: Any) -> None:
    command = _command(
        commands, "convert-weights", _convert, "torchvision or safetensors weights to MindSpore"
    )
    command.add_argument("source", type=Path, metavar="IN", help=".pth, .safetensors or .ckpt")
    command.add_argument("target", type=Path, metavar="OUT.ckpt", help="the checkpoint to write")
    command.add_argument(
        "--backbone", choices=BACKBONES[:-1], default="wide_resnet50_2",
        help="network that the weights must fit (default wide_resnet50_2)",
    )  # fmt: skip


def _add_demo_data(commands: Any) -> None:
    command = _command(
        commands, "demo-data", _demo_data, "write a procedural data set in MVTec layout"
    )
    command.add_argument("folder", type=Path, metavar="DIR", help="where the category is made")
    command.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="of the drawing (default 0)"
    )


def _suspects(text: str) -> int | str:
    """An argparse type: how many images are dropped, or `auto`."""
    return "auto" if text == "auto" else at_least(0)(text)


def _gigabytes(text: str) -> float:
    """An argparse type: a size; infinity and NaN are none."""
    if not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return float(text)


def _fit(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from patchcore_build.fitting.fit import FitJob, fit

    if (arguments.normal is None) == (arguments.dataset is None):
        parser.error("fit: expected either --dataset DIR --category NAME, or --normal DIR")
    if arguments.dataset is not None and arguments.category is None:
        parser.error("fit: --dataset DIR needs --category NAME")
    config = config_from(arguments, parser, seed=arguments.seed)
    images, category, source = _training_images(arguments)
    report = fit(
        FitJob(
            images=images,
            category=category,
            output=arguments.output,
            config=config,
            weights=arguments.weights,
            device=arguments.device,
            device_id=arguments.device_id,
            skip_bad=arguments.skip_bad,
            memory_budget_gb=arguments.memory_budget_gb,
            roi=arguments.roi,
            checkpoints=arguments.checkpoint,
            test_set=_test_set(arguments.dataset, arguments.category),
            force=arguments.force,
            keep_thumbnails=arguments.keep_thumbnails,
            groups=arguments.groups,
            review=arguments.review,
            drop_suspects=arguments.drop_suspects,
            sign=arguments.sign,
        )
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report), default=str))
        return 0
    height, width = report.input_size
    for line in report.skipped:
        print(f"skipped: {line}")
    for line in report.dropped:
        print(f"dropped: {line}")
    strays = f", {report.strays} other files ignored" if report.strays else ""
    print(f"images: {report.images}{source}{strays}; input {height} x {width} px")
    _print_view(report)
    print(f"memory bank: {report.rows} rows")
    for name, words in describe_calibration(report.calibration).items():
        print(f"{name}: {words}")
    if report.quantization is not None:
        _print_quantization(report.quantization)
    if arguments.review:
        print(f"review: {arguments.review / 'suspects.html'}")
    print("seconds: " + ", ".join(f"{name} {s:.1f}" for name, s in report.seconds.items()))
    print(f"artifact: {report.artifact}")
    return 0


def _print_view(report: "FitReport") -> None:
    """What of the input is looked at, and how it is cut; nothing where it is all, and whole."""
    if report.tiles > 1:
        print(f"tiles: {report.tiles} of each image")
    if report.region_share < 1:
        print(f"region of interest: {report.region_share:.1%} of the input")


def _test_set(dataset: Path | None, category: str) -> Path | None:
    """The data set, where it has test images of the category."""
    from patchcore_build.data.dataset import list_test_images
    from patchcore_build.errors import DatasetError

    if dataset is None:
        return None
    try:
        return dataset if list_test_images(dataset, category) else None
    except DatasetError:
        return None


def _print_quantization(facts: dict[str, Any]) -> None:
    errors, auroc = facts["layer_errors"], facts["auroc"]
    print(f"int8: layers differ by {errors['layer2']:.3f} and {errors['layer3']:.3f} of float32's")
    if isinstance(auroc, str):
        print(f"int8: AUROC against float32 {auroc}")
        return
    for name, change in auroc["difference"].items():
        before, after = auroc["float32"][name], auroc["int8"][name]
        print(f"int8: {name} AUROC {after:.4f}, float32 {before:.4f} ({change:+.4f})")


def _training_images(arguments: argparse.Namespace) -> tuple[Any, str, str]:
    """What `fit` learns from, the category's name, and words on the data set."""
    from patchcore_build.data.dataset import open_dataset

    if arguments.normal is not None:
        return arguments.normal, arguments.category or arguments.normal.resolve().name, ""
    dataset = open_dataset(arguments.dataset)
    images = dataset.training_images(arguments.category)
    return images, arguments.category, f", {dataset.layout} layout"


def _convert(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    from patchcore_build.backbone.device import open_device
    from patchcore_build.weights.match import convert_weights

    open_device()
    from patchcore_build.backbone.extractor import expected_shapes

    convert_weights(arguments.source, arguments.target, expected_shapes(arguments.backbone))
    if arguments.json:
        print(json.dumps({"checkpoint": str(arguments.target), "backbone": arguments.backbone}))
    else:
        print(f"checkpoint: {arguments.target}")
    return 0


def _demo_data(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    from patchcore_build.data.demo import write_demo_dataset

    folder = write_demo_dataset(arguments.folder, seed=arguments.seed)
    print(json.dumps({"category": str(folder)}) if arguments.json else f"category: {folder}")
    return 0
