"""`patchcore-build fit`: good images -> an artifact.

parsed arguments -> a new artifact folder, figures and thresholds on stdout.
"""

import argparse
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchcore_build.cli.options import (
    LAYOUTS,
    add_method_options,
    add_network_options,
    add_signing_option,
    config_from,
    wrong_usage,
)
from patchcore_build.cli.original_words import CLOUD, add_unused_options, tell_unused
from patchcore_runtime.cli.freed_memory import return_freed_memory
from patchcore_runtime.cli.option_types import names, number, whole_number
from patchcore_runtime.cli.terminal import print_json
from patchcore_runtime.manifest.manifest import WHITE_16_BITS
from patchcore_runtime.scoring.thresholds import describe_calibration

if TYPE_CHECKING:
    from patchcore_build.data.dataset import Dataset, ImageFolder
    from patchcore_build.feature_layers import OwnNetwork
    from patchcore_build.fitting.job import FitJob, FitReport
    from patchcore_build.fitting.plan import FitPlan

_GIGABYTES = number("a number, 0 or more", lambda value: value >= 0)


def add_fit_options(fit: argparse.ArgumentParser) -> None:
    """Add images, settings and output."""
    _add_image_options(fit.add_argument_group("images and result"))
    add_network_options(fit)
    _add_own_network_options(fit.add_argument_group("your own network"))
    add_method_options(fit)
    add_signing_option(fit)
    fit.add_argument(
        "--seed", type=int, metavar="N", help="seed of every random choice (default 0)"
    )
    fit.add_argument(
        "--memory-budget-gb", type=_GIGABYTES, default=8.0, metavar="N",
        help="memory for inputs, features, coreset and bank; the rest goes to files in TMPDIR. "
        "MindSpore and the network take about 1 GB more (default 8)",
    )  # fmt: skip
    fit.add_argument(
        "--checkpoint", type=Path, metavar="DIR",
        help="store unfinished coresets in DIR; the same command continues them",
    )  # fmt: skip
    fit.add_argument(
        "--dry-run", action="store_true",
        help="write nothing: check the options, count images and patches, and estimate time and "
        "memory from a fit of a few images",
    )  # fmt: skip
    fit.add_argument(
        "--force", action="store_true",
        help="accept --quantize int8 even if it costs more than 0.005 of AUROC on the test set",
    )  # fmt: skip
    unused = {"--num_epochs": "a fit makes one pass over the images", **CLOUD}
    add_unused_options(fit, unused)


def _add_image_options(where: argparse._ArgumentGroup) -> None:
    where.add_argument(
        "--dataset", "--dataset_path", type=Path, metavar="DIR",
        help=f"data set ({LAYOUTS} layout)",
    )  # fmt: skip
    where.add_argument(
        "--category", metavar="NAME", help="category of the data set, or a name for the images"
    )
    where.add_argument(
        "--normal", type=Path, metavar="DIR", help="instead of a data set: a folder of good images"
    )
    where.add_argument(
        "--roi", metavar="MASK|POLYGON",
        help="region of interest: a mask image (white is inspected, black is ignored), or the "
        'corners of a polygon "x,y x,y x,y" in fractions of width and height',
    )  # fmt: skip
    where.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="artifact folder to create"
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
        help="write DIR/suspects.html: the training images that look least like the others",
    )  # fmt: skip
    where.add_argument(
        "--drop-suspects", type=_suspects, default=0, metavar="N|auto",
        help="leave out the N most suspicious images, or `auto` for clear outliers, and list them",
    )  # fmt: skip


def _add_own_network_options(where: argparse._ArgumentGroup) -> None:
    where.add_argument(
        "--network", dest="network_file", type=Path, metavar="FILE.onnx",
        help="in place of --backbone: a network with one float32 input (B, 3, H, W)",
    )  # fmt: skip
    where.add_argument(
        "--outputs", type=names("outputs"), metavar="A,B",
        help="its outputs that form a patch: layers (B, C, h, w), or tokens (B, N, C)",
    )  # fmt: skip
    where.add_argument(
        "--mean", type=_three_numbers, metavar="R,G,B",
        help="mean that it expects to be subtracted, of full scale (default ImageNet's)",
    )  # fmt: skip
    where.add_argument(
        "--std", type=_three_numbers, metavar="R,G,B",
        help="standard deviation that it expects to be divided by (default ImageNet's)",
    )  # fmt: skip
    where.add_argument(
        "--patch", type=whole_number(1), metavar="N",
        help="side of a patch in px, where the shapes do not tell it",
    )  # fmt: skip


def _three_numbers(text: str) -> tuple[float, ...]:
    """An argparse type: three numbers, separated by commas."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected three numbers R,G,B, got {text[:40]!r}")
    return values


def _own_network(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> "OwnNetwork | None":
    """The description of --network, or None; its other options need it."""
    settings = {"mean": arguments.mean, "std": arguments.std, "patch_px": arguments.patch}
    given = {name: value for name, value in settings.items() if value is not None}
    if arguments.network_file is None:
        if given or arguments.outputs is not None:
            parser.error("fit: --outputs, --mean, --std and --patch need --network FILE")
        return None
    if arguments.outputs is None:
        parser.error("fit: --network FILE needs --outputs A,B")
    from patchcore_build.export.own_network import describe_network

    with wrong_usage(parser):
        return describe_network(arguments.network_file, arguments.outputs, **given)


def _suspects(text: str) -> int | str:
    """An argparse type: the number of images to leave out, or `auto`."""
    return "auto" if text == "auto" else whole_number(0)(text)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Build an artifact and print its figures."""
    from patchcore_build.data.dataset import open_dataset
    from patchcore_build.fitting.fit import fit
    from patchcore_build.fitting.job import FitJob

    tell_unused(arguments, parser.prog)
    if (arguments.normal is None) == (arguments.dataset is None):
        parser.error("fit: expected either --dataset DIR --category NAME, or --normal DIR")
    if arguments.dataset is not None and arguments.category is None:
        parser.error("fit: --dataset DIR needs --category NAME")
    network = _own_network(arguments, parser)
    config = config_from(arguments, parser, seed=arguments.seed, network=network)
    dataset = None if arguments.dataset is None else open_dataset(arguments.dataset)
    images, category = _training_images(arguments, dataset)
    with wrong_usage(parser):
        job = FitJob(
            images=images,
            category=category,
            output=arguments.output,
            config=config,
            weights=arguments.weights,
            network=arguments.network_file,
            device=arguments.device,
            device_id=arguments.device_id,
            skip_bad=arguments.skip_bad,
            memory_budget_gb=arguments.memory_budget_gb,
            roi=arguments.roi,
            checkpoints=arguments.checkpoint,
            test_set=_test_set(dataset, category),
            force=arguments.force,
            keep_thumbnails=arguments.keep_thumbnails,
            groups=arguments.groups,
            review=arguments.review,
            drop_suspects=arguments.drop_suspects,
            sign=arguments.sign,
        )
    if arguments.dry_run:
        return _print_plan(job, json=arguments.json)
    report = fit(job, after_stage=return_freed_memory)
    if arguments.json:
        print_json(dataclasses.asdict(report))
        return 0
    source = "" if dataset is None else f", {dataset.layout} layout"
    _print_report(report, source, arguments.review)
    return 0


def _print_plan(job: "FitJob", *, json: bool) -> int:
    """Print what the fit would do, and how much it would need; return the exit code."""
    from patchcore_build.fitting.plan import plan_fit

    plan = plan_fit(job)
    if json:
        print_json({**dataclasses.asdict(plan), "total_seconds": plan.total_seconds})
        return 0
    height, width = plan.input_size
    for line in plan.skipped:
        print(f"skipped: {line}")
    print(f"images: {plan.images}; input {height} x {width} px")
    if plan.left_out:
        print(plan.left_out)
    _print_view(plan)
    print(f"memory bank: {plan.rows} rows of {plan.patches} patches")
    print(f"estimates, from a fit of {plan.sample} images:")
    if plan.random_weights:
        print("  weights: not downloaded yet; random ones took their place, the download is extra")
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in plan.seconds.items())
    print(f"  time: {plan.total_seconds:.0f} s ({stages})")
    print(f"  memory: {plan.memory_bytes / 1e9:.1f} GB")
    print(f"  disk: {plan.artifact_bytes / 1e6:.0f} MB for the artifact, ", end="")
    print(f"{plan.scratch_bytes / 1e6:.0f} MB for temporary files")
    print("nothing was written")
    return 0


def _print_report(report: "FitReport", source: str, review: Path | None) -> None:
    height, width = report.input_size
    for line in report.skipped:
        print(f"skipped: {line}")
    for line in report.dropped:
        print(f"dropped: {line}")
    print(f"images: {report.images}{source}; input {height} x {width} px")
    if report.white_level != WHITE_16_BITS:
        print(f"white level: {report.white_level} in grey images of 16 bits")
    if report.left_out:
        print(report.left_out)
    if report.notes:
        more = f" (and {len(report.notes) - 1} images more)" if len(report.notes) > 1 else ""
        print(f"note: {report.notes[0]}{more}")
    _print_view(report)
    if report.foreground_share < 1:
        print(f"foreground: {report.foreground_share:.1%} of the patches")
    print(f"memory bank: {report.rows} rows")
    _print_thresholds(report)
    if report.quantization is not None:
        _print_quantization(report.quantization)
    if review:
        print(f"review: {review / 'suspects.html'}")
    print("seconds: " + ", ".join(f"{name} {s:.1f}" for name, s in report.seconds.items()))
    print(f"artifact: {report.artifact}")


def _print_thresholds(report: "FitReport") -> None:
    for name, words in describe_calibration(report.calibration).items():
        print(f"{name}: {words}")
    for line in report.warnings:
        print(f"warning: {line}")


def _print_view(report: "FitReport | FitPlan") -> None:
    """Print the number of tiles and the region of interest, if there are any."""
    if report.tiles > 1:
        print(f"tiles: {report.tiles} of each image")
    if report.region_share < 1:
        print(f"region of interest: {report.region_share:.1%} of the input")


def _test_set(dataset: "Dataset | None", category: str) -> "Dataset | None":
    """The data set if it has test images of the category, else None."""
    from patchcore_build.errors import DatasetError

    if dataset is None:
        return None
    try:
        return dataset if dataset.test_images(category) else None
    except DatasetError:
        return None


def _print_quantization(facts: dict[str, Any]) -> None:
    errors, auroc = facts["layer_errors"], facts["auroc"]
    shown = ", ".join(f"{name} {error:.3f}" for name, error in errors.items() if name != "images")
    print(f"int8: layers differ from float32: {shown}")
    if isinstance(auroc, str):
        print(f"int8: AUROC against float32 {auroc}")
        return
    for name, change in auroc["difference"].items():
        before, after = auroc["float32"][name], auroc["int8"][name]
        print(f"int8: {name} AUROC {after:.4f}, float32 {before:.4f} ({change:+.4f})")


def _training_images(
    arguments: argparse.Namespace, dataset: "Dataset | None"
) -> "tuple[Path | ImageFolder, str]":
    """The images to learn from, and the name of their category."""
    if dataset is None:
        return arguments.normal, arguments.category or arguments.normal.resolve().name
    return dataset.training_images(arguments.category), arguments.category
