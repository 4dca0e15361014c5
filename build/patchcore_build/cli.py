"""The command `patchcore-build`: build, evaluate, convert weights, make the demo's pictures.

argv -> progress on stderr, results on stdout, exit code 0 done, 1 refused, 2 usage.
Options of the MindSpore Models PatchCore are accepted under their old spelling, too.
MindSpore is imported by the command that needs it, so `--help` is instant.
"""

import argparse
import dataclasses
import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from patchcore_build import __version__
from patchcore_build.config import BACKBONES, RECIPES
from patchcore_runtime.errors import PatchCoreError

_LAYOUTS = "MVTec, MVTec AD 2, VisA, BTAD or plain"
_EXAMPLES = """examples:
  patchcore-build fit --dataset mvtec --category bottle --weights resnet18.pth \\
      --backbone resnet18 --output artifacts/bottle
  patchcore-build fit --normal good_parts/ --backbone scattering --output artifacts/part
  patchcore-build evaluate artifacts/bottle --dataset mvtec --output out/bottle
  patchcore-build convert-weights resnet18.pth resnet18.ckpt --backbone resnet18
  patchcore-build demo-data out/demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # A picture beyond MAX_PIXELS is refused in our own words; Pillow's warning would say it twice.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments, parser)
    except KeyboardInterrupt:
        print("patchcore-build: interrupted; nothing was kept", file=sys.stderr)
        return 130
    except PatchCoreError as error:
        print(f"patchcore-build: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"patchcore-build: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="patchcore-build",
        description="Build PatchCore anomaly detectors from good photographs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_fit(commands)
    _add_evaluate(commands)
    _add_convert_weights(commands)
    _add_demo_data(commands)
    return parser


def _command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return command


def _add_fit(commands: Any) -> None:
    fit = _command(commands, "fit", _fit, "build an artifact from good pictures")
    where = fit.add_argument_group("pictures and result")
    where.add_argument(
        "--dataset", "--dataset_path", type=Path, metavar="DIR",
        help=f"data set ({_LAYOUTS} layout)",
    )  # fmt: skip
    where.add_argument("--category", metavar="NAME", help="whose good pictures are learned")
    where.add_argument("--normal", type=Path, metavar="DIR", help="or: any folder of good pictures")
    where.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="the artifact folder to make"
    )
    where.add_argument(
        "--skip-bad", action="store_true", help="leave out unreadable pictures and list them"
    )
    network = fit.add_argument_group("network")
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
        "--device-id", "--device_id", type=_at_least(0), default=0, metavar="N",
        help="which of several devices (default 0)",
    )  # fmt: skip
    network.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32",
        help="of the feature network; fp16 is for accelerators (default fp32)",
    )  # fmt: skip
    method = fit.add_argument_group("method")
    method.add_argument(
        "--recipe", choices=tuple(RECIPES), default="full-frame",
        help="preset of all settings (default full-frame, which crops nothing)",
    )  # fmt: skip
    method.add_argument(
        "--coreset-ratio", "--coreset_sampling_ratio", type=float, metavar="R",
        help="share of patches kept (default: the recipe's, 0.01)",
    )  # fmt: skip
    method.add_argument("--seed", type=int, metavar="N", help="of every random choice (default 0)")
    method.add_argument(
        "--target-fpr", type=float, metavar="R", help="false-alarm rate aimed at (default 0.01)"
    )
    method.add_argument("--folds", type=int, metavar="N", help="of the calibration (default 5)")
    method.add_argument(
        "--resize-px", type=int, metavar="N", help="side before the crop, or of the frame's area"
    )
    method.add_argument(
        "--image-score", choices=("max", "paper", "modelzoo"), help="instead of the recipe's"
    )
    method.add_argument(
        "--pooling-border", choices=("counted", "not_counted"), help="instead of the recipe's"
    )
    fit.add_argument(
        "--memory-budget-gb", type=_gigabytes, default=8.0, metavar="N",
        help="features beyond it go to files (default 8)",
    )  # fmt: skip


def _add_evaluate(commands: Any) -> None:
    command = _command(commands, "evaluate", _evaluate, "measure an artifact on a test set")
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the artifact folder")
    command.add_argument(
        "--dataset", "--dataset_path", type=Path, metavar="DIR", required=True,
        help=f"data set ({_LAYOUTS} layout)",
    )  # fmt: skip
    command.add_argument("--category", metavar="NAME", help="default: the artifact's own")
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="write report.json, report.html and sheet.png"
    )
    command.add_argument(
        "--threads", type=_at_least(1), metavar="N", help="threads (default: the cores given)"
    )


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
        "--seed", type=_at_least(0), default=0, metavar="N", help="of the drawing (default 0)"
    )


def _at_least(smallest: int) -> Callable[[str], int]:
    """An argparse type: a whole number, refused below `smallest`."""

    def whole_number(text: str) -> int:
        if int(text) < smallest:
            raise argparse.ArgumentTypeError(f"expected {smallest} or more, got {text}")
        return int(text)

    return whole_number


def _gigabytes(text: str) -> float:
    """An argparse type: a size; infinity and NaN are none."""
    if not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return float(text)


def _fit(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from patchcore_build.config import make_config
    from patchcore_build.fit import FitJob, fit

    if (arguments.normal is None) == (arguments.dataset is None):
        parser.error("fit: expected either --dataset DIR --category NAME, or --normal DIR")
    if arguments.dataset is not None and arguments.category is None:
        parser.error("fit: --dataset DIR needs --category NAME")
    overrides = (
        "backbone", "precision", "coreset_ratio", "seed", "target_fpr", "folds", "resize_px",
        "image_score", "pooling_border",
    )  # fmt: skip
    try:
        config = make_config(
            arguments.recipe, **{name: getattr(arguments, name) for name in overrides}
        )
    except ValueError as error:
        parser.error(f"fit: {error}")
    images, category, source = _training_pictures(arguments)
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
        )
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report), default=str))
        return 0
    height, width = report.input_size
    calibration = report.calibration
    for line in report.skipped:
        print(f"skipped: {line}")
    strays = f", {report.strays} other files ignored" if report.strays else ""
    print(f"pictures: {report.images}{source}{strays}; input {height} x {width} px")
    print(f"memory bank: {report.rows} rows")
    print(
        f"thresholds: image {calibration.image_threshold:.4g}, pixel "
        f"{calibration.pixel_threshold:.4g} (held out, {calibration.folds} folds)"
    )
    print("seconds: " + ", ".join(f"{name} {s:.1f}" for name, s in report.seconds.items()))
    print(f"artifact: {report.artifact}")
    return 0


def _training_pictures(arguments: argparse.Namespace) -> tuple[Any, str, str]:
    """What `fit` learns from, the category's name, and words on the data set."""
    from patchcore_build.dataset import open_dataset

    if arguments.normal is not None:
        return arguments.normal, arguments.category or arguments.normal.resolve().name, ""
    dataset = open_dataset(arguments.dataset)
    images = dataset.training_images(arguments.category)
    return images, arguments.category, f", {dataset.layout} layout"


def _evaluate(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    from patchcore_build.dataset import open_dataset
    from patchcore_build.evaluate import evaluate
    from patchcore_build.gallery import Gallery
    from patchcore_build.progress import progress_bar
    from patchcore_build.report import write_report
    from patchcore_runtime.detector import Detector

    detector = Detector.load(arguments.artifact, threads=arguments.threads)
    category = arguments.category or detector.manifest.training.category
    gallery = Gallery(detector) if arguments.output else None
    with progress_bar("scoring", "image") as progress:
        result = evaluate(
            detector,
            arguments.dataset,
            category,
            progress=progress,
            visit=gallery.visit if gallery else None,
        )
    if gallery:
        write_report(arguments.output, result, gallery, detector.manifest)
    if arguments.json:
        print(json.dumps(result.to_dict()))
        return 0
    for problem in result.problems:
        print(f"note: {problem}")
    layout = open_dataset(arguments.dataset).layout
    print(f"category: {result.category} ({layout} layout), {len(result.images)} pictures")
    print(f"image AUROC: {_figure(result.image_auroc)}")
    print(f"pixel AUROC: {_figure(result.pixel_auroc)} (input resolution)")
    if result.image_best_f1:
        best = result.image_best_f1
        print(f"best F1: {best.f1:.4f} at {best.threshold:.4g} (chosen on the test set)")
    counts = result.image_confusion
    print(
        f"at the stored threshold {counts.threshold:.4g}: "
        f"{counts.true_positives} of {counts.true_positives + counts.false_negatives} defects "
        f"found, {counts.false_positives} of {counts.false_positives + counts.true_negatives} "
        "good pictures flagged"
    )
    if arguments.output:
        print(f"report: {arguments.output / 'report.html'}")
        print(f"picture sheet: {arguments.output / 'sheet.png'}")
    return 0


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _convert(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    from patchcore_build.device import open_device
    from patchcore_build.weights import convert_weights

    open_device()
    from patchcore_build.backbone import expected_shapes

    convert_weights(arguments.source, arguments.target, expected_shapes(arguments.backbone))
    if arguments.json:
        print(json.dumps({"checkpoint": str(arguments.target), "backbone": arguments.backbone}))
    else:
        print(f"checkpoint: {arguments.target}")
    return 0


def _demo_data(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    from patchcore_build.demo import write_demo_dataset

    folder = write_demo_dataset(arguments.folder, seed=arguments.seed)
    print(json.dumps({"category": str(folder)}) if arguments.json else f"category: {folder}")
    return 0
