"""`patchcore-build evaluate`: evaluate an artifact on a test set.

parsed arguments -> figures on stdout; with --output also a report, and sample images and lists of
the data set as the MindSpore Models PatchCore writes them.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_build.cli.options import LAYOUTS, add_public_key_option
from patchcore_build.cli.original_words import CLOUD, add_unused_options, tell_unused
from patchcore_runtime.cli.command_line import add_roi_option
from patchcore_runtime.cli.option_types import whole_number
from patchcore_runtime.cli.terminal import print_json

if TYPE_CHECKING:
    from patchcore_build.data.dataset import Dataset
    from patchcore_build.evaluation.evaluate import Evaluation, Visitor
    from patchcore_build.evaluation.metrics import BestF1, Rates
    from patchcore_runtime.detector import Detector


def add_evaluate_options(command: argparse.ArgumentParser) -> None:
    """Add artifact, data set and output."""
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the artifact folder")
    command.add_argument(
        "--dataset", "--dataset_path", type=Path, metavar="DIR", required=True,
        help=f"data set ({LAYOUTS} layout)",
    )  # fmt: skip
    command.add_argument(
        "--category", metavar="NAME", help="category to evaluate (default: the artifact's own)"
    )
    command.add_argument(
        "--other-category", action="store_true",
        help="evaluate although the artifact was trained on another category of the data set",
    )  # fmt: skip
    command.add_argument(
        "--resolution", choices=("input", "original"), default="input",
        help="count the pixels of the network's input, or of the whole photograph, where the map "
        "is 0 outside of a crop (default input)",
    )  # fmt: skip
    add_roi_option(command)
    command.add_argument(
        "--output", type=Path, metavar="DIR",
        help="write report.json, report.html, sheet.png, sample/ and CATEGORY_{train,test}.json",
    )  # fmt: skip
    command.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="threads (default: available cores)"
    )
    add_public_key_option(command)
    on_cpu = "an evaluation computes on the CPU, with onnxruntime"
    add_unused_options(
        command,
        {
            "--pre_ckpt_path": "the artifact has its network",
            "--ckpt_dir": "the artifact has its memory bank",
            "--device_id": on_cpu,
            "--platform": on_cpu,
            **CLOUD,
        },
    )


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Evaluate an artifact and print the figures."""
    from patchcore_build.data.dataset import open_dataset
    from patchcore_build.report.report import check_report
    from patchcore_runtime.detector import Detector

    tell_unused(arguments, parser.prog)
    if arguments.output is not None:
        check_report(arguments.output)
    detector = Detector.load(
        arguments.artifact,
        threads=arguments.threads,
        roi=arguments.roi,
        public_key=arguments.public_key,
    )
    dataset = open_dataset(arguments.dataset)
    if arguments.output is None:
        result = _score(arguments, detector, dataset)
    else:
        result = _score_and_report(arguments, detector, dataset)
    if arguments.json:
        print_json(result.to_dict())
        return 0
    _print_figures(result, dataset.layout)
    if arguments.output is not None:
        print(f"report: {arguments.output / 'report.html'}")
        print(f"image sheet: {arguments.output / 'sheet.png'}")
        print(f"sample images: {arguments.output / 'sample'}")
    return 0


def _category(arguments: argparse.Namespace, detector: "Detector") -> str:
    """The category that is evaluated: the artifact's own by default."""
    named: str | None = arguments.category
    return detector.manifest.training.category if named is None else named


def _with_trained_category(result: "Evaluation", trained: str) -> "Evaluation":
    """The evaluation; its first problem says so if the artifact learned another category."""
    if result.category == trained:
        return result
    note = f"the artifact was trained on {trained!a}, evaluated is {result.category!a}"
    return dataclasses.replace(result, problems=(note, *result.problems))


def _score(
    arguments: argparse.Namespace,
    detector: "Detector",
    dataset: "Dataset",
    visit: "Visitor | None" = None,
) -> "Evaluation":
    from patchcore_build.evaluation.evaluate import evaluate
    from patchcore_build.progress import progress_bar

    with progress_bar("scoring", "image") as progress:
        result = evaluate(
            detector,
            dataset,
            _category(arguments, detector),
            resolution=arguments.resolution,
            other_category=arguments.other_category,
            progress=progress,
            visit=visit,
        )
    return _with_trained_category(result, detector.manifest.training.category)


def _score_and_report(
    arguments: argparse.Namespace, detector: "Detector", dataset: "Dataset"
) -> "Evaluation":
    """Evaluate, and write all files of the report into the output folder, or none of them."""
    from patchcore_build.report.gallery import Gallery
    from patchcore_build.report.original_files import original_files
    from patchcore_build.report.report import write_report

    gallery = Gallery(detector)
    category = _category(arguments, detector)
    with original_files(arguments.output, detector, dataset, category) as sample:
        result = _score(arguments, detector, dataset, _each(gallery.visit, sample))
        write_report(arguments.output, result, gallery, detector.manifest)
    return result


def _each(*visitors: "Visitor") -> "Visitor":
    def visit(*seen: object) -> None:
        for visitor in visitors:
            visitor(*seen)  # type: ignore[arg-type]

    return visit


def _print_figures(result: "Evaluation", layout: str) -> None:
    for problem in result.problems:
        print(f"note: {problem}")
    print(f"category: {result.category} ({layout} layout), {len(result.images)} images")
    if result.region_share < 1:
        print(f"region of interest: {result.region_share:.1%} of the pixels; others do not count")
    print(
        f"image AUROC: {_figure(result.image_auroc)}, "
        f"average precision {_figure(result.image_average_precision)}"
    )
    print(
        f"pixel AUROC: {_figure(result.pixel_auroc)}, average precision "
        f"{_figure(result.pixel_average_precision)} ({result.resolution} resolution)"
    )
    for protocol, figures in (
        ("all images", (result.aupro_030_all_images, result.aupro_005_all_images)),
        (
            "anomalous images only",
            (result.aupro_030_anomalous_images_only, result.aupro_005_anomalous_images_only),
        ),
    ):
        wide, narrow = map(_figure, figures)
        print(f"AUPRO ({protocol}): {wide} to FPR 0.30, {narrow} to FPR 0.05")
    _print_best("best F1", result.image_best_f1)
    _print_best("best pixel F1", result.pixel_best_f1)
    # The words of the original's eval.py, for scripts that read them.
    print(f"img_auc: {_figure(result.image_auroc)}, pixel_auc: {_figure(result.pixel_auroc)}")
    counts = result.image_confusion
    print(
        f"at the stored threshold {counts.threshold:.4g}: "
        f"{counts.true_positives} of {counts.true_positives + counts.false_negatives} defects "
        f"found, {counts.false_positives} of {counts.false_positives + counts.true_negatives} "
        "good images flagged"
    )
    if result.pixel_rates:
        _print_rates(result.pixel_rates)
    print("seconds: " + ", ".join(f"{name} {s:.1f}" for name, s in result.seconds.items()))


def _print_best(name: str, best: "BestF1 | None") -> None:
    if best:
        print(f"{name}: {best.f1:.4f} at {best.threshold:.4g} (chosen on the test set)")


def _print_rates(pixels: "Rates") -> None:
    print(
        f"at the stored pixel threshold {pixels.threshold:.4g}: segmentation F1 "
        f"{_figure(pixels.f1)}, {_figure(pixels.true_positive_rate)} of defect pixels and "
        f"{_figure(pixels.false_positive_rate)} of normal ones flagged"
    )


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
