"""The command `patchcore-runtime`: score images, validate, describe and edit an artifact.

argv -> JSON lines or text on stdout, refusals on stderr, exit code 0 done, 1 refused, 2 usage.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from patchcore_runtime._version import __version__
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.cli.command_line import (
    Run,
    add_command,
    add_key_option,
    new_parser,
    run_command_line,
)
from patchcore_runtime.cli.edit import (
    FORGET_SUMMARY,
    LEARN_SUMMARY,
    UPGRADE_SUMMARY,
    add_forget_options,
    add_learn_options,
    add_upgrade_options,
    run_forget,
    run_learn,
    run_upgrade,
)
from patchcore_runtime.cli.freed_memory import loading
from patchcore_runtime.cli.monitor import add_monitor_options, run_monitor
from patchcore_runtime.cli.option_types import names, whole_number
from patchcore_runtime.cli.score import add_score_options, run_score
from patchcore_runtime.cli.terminal import print_error, print_json
from patchcore_runtime.engine.providers import SHORT_NAMES
from patchcore_runtime.engine.session import CPU
from patchcore_runtime.files.names import printable, shown_path
from patchcore_runtime.manifest.features import Features
from patchcore_runtime.manifest.manifest import Index, Training
from patchcore_runtime.scoring.thresholds import describe_calibration, few_images
from patchcore_runtime.search.open import Search

_EXAMPLES = """examples:
  patchcore-runtime check artifacts/bottle
  patchcore-runtime score artifacts/bottle photo.png more_photos/
  patchcore-runtime score artifacts/bottle photos/ --maps heatmaps/ --csv scores.csv
  patchcore-runtime score artifacts/bottle photos/ --search exact
  patchcore-runtime score artifacts/bottle photos/ --roi mask.png
  patchcore-runtime score artifacts/bottle photo.png --explain why/ --regions
  patchcore-runtime score artifacts/bottle photos/ --target-fpr 0.001
  patchcore-runtime check artifacts/bottle --public-key vendor.pem
  patchcore-runtime monitor artifacts/bottle photos/ --state bottle.monitor
  patchcore-runtime info artifacts/bottle
  patchcore-runtime learn artifacts/bottle refused_but_good/ --output artifacts/bottle2
  patchcore-runtime forget artifacts/bottle2 --image learned/photo.png --output artifacts/bottle3
  patchcore-runtime upgrade artifacts/of_format_2 --output artifacts/of_format_3
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command_line(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    description = "Score images with a PatchCore artifact, on any CPU."
    parser, commands = new_parser("patchcore-runtime", description, _EXAMPLES, __version__)
    score = _command(commands, "score", run_score, "score images, one JSON line each")
    add_score_options(score)
    _add_session_options(score)
    watch = _command(
        commands,
        "monitor",
        run_monitor,
        "score images in order, and report when the line has changed",
    )
    add_monitor_options(watch)
    _add_session_options(watch)
    check = _command(
        commands, "check", _check, "verify checksums and run the artifact's self-test here"
    )
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    _add_session_options(check)
    info = _command(commands, "info", _info, "describe the artifact, its training and thresholds")
    info.add_argument("--json", action="store_true", help="print the whole manifest")
    add_key_option(info)
    add_learn_options(_command(commands, "learn", run_learn, LEARN_SUMMARY))
    add_forget_options(_command(commands, "forget", run_forget, FORGET_SUMMARY))
    add_upgrade_options(_command(commands, "upgrade", run_upgrade, UPGRADE_SUMMARY))
    return parser


def _command(commands: Any, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    command = add_command(commands, name, run, summary=summary, examples=_EXAMPLES)
    command.add_argument("artifact", metavar="ARTIFACT", type=Path, help="the artifact folder")
    return command


def _add_session_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads",
        type=whole_number(1),
        metavar="N",
        help="total number of threads (default: all available cores); `score` and `monitor` work "
        "on up to 4 images at once",
    )
    command.add_argument(
        "--providers",
        type=names("execution providers"),
        default=(CPU,),
        metavar="A,B",
        help="onnxruntime execution providers in order of preference, by their names there or as "
        f"{', '.join(SHORT_NAMES)} (default: cpu)",
    )
    command.add_argument(
        "--search",
        choices=get_args(Search),
        default="auto",
        help="auto (default): the kind of index that the artifact names; exact: its index.onnx; "
        "pca: an exact search that is faster in a large memory bank but takes longer to load",
    )
    add_key_option(command)
    command.add_argument(
        "--private",
        action="store_true",
        help="copy the artifact into a temporary folder (TMPDIR) first, and verify and load the "
        "copy; without it nobody may write to the artifact while it is in use",
    )


def _check(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    from patchcore_runtime.selftest import run_selftest

    key = arguments.public_key
    artifact = Artifact.open_whole(arguments.artifact, public_key=key, private=arguments.private)
    with loading():
        steps = run_selftest(
            artifact,
            threads=arguments.threads,
            providers=arguments.providers,
            search=arguments.search,
        )
    passed = all(step.passed for step in steps)
    if arguments.json:
        rows = [{**asdict(step), "passed": step.passed} for step in steps]
        artifact_name = shown_path(arguments.artifact)
        print_json({"artifact": artifact_name, "passed": passed, "steps": rows})
        return 0 if passed else 1
    print(f"checksums: {len(artifact.files)} files as listed{f', signed by {key}' if key else ''}")
    for step in steps:
        verdict = "ok" if step.passed else "FAILED"
        print(f"{step.name}: {verdict}, differs by {step.difference:.3g} of {step.tolerance:.3g}")
    if not passed:
        broken = next(step.name for step in steps if not step.passed)
        print_error(
            "patchcore-runtime",
            f"{arguments.artifact}: the self-test breaks at `{broken}` on this machine; do not "
            "trust its scores here",
        )
    return 0 if passed else 1


def _info(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    key = arguments.public_key
    manifest = Artifact.open(arguments.artifact, verify=key is not None, public_key=key).manifest
    if arguments.json:
        print(manifest.to_json(), end="")
        return 0
    calibration, size, bank = manifest.calibration, manifest.preprocess, manifest.memory_bank
    tiles = manifest.tiling
    channels = sum(layer.channels for layer in manifest.features.layers)
    # No reader decides by these two objects, so any entry of them may be missing.
    config, packages = manifest.config, manifest.provenance.get("packages")
    listed = packages.items() if isinstance(packages, dict) else [("unknown", "packages")]
    made = ", ".join(f"{name} {of}" for name, of in listed)
    lines = {
        "category": manifest.training.category,
        "recipe": str(config.get("recipe", "?"))
        + (f", seed {config['seed']}" if "seed" in config else ""),
        "trained on": _training(manifest.training),
        "backbone": _backbone(manifest.features),
        "input": f"{size.height} x {size.width} px (H x W), {size.resize}, {size.filter}",
        "inspects": "the region in roi.png" if manifest.region.kind == "mask" else "all of it",
        "tiles": f"{tiles.rows} x {tiles.columns} of {tiles.tile_height} x {tiles.tile_width} px",
        "memory bank": f"{bank.rows} rows of {channels}",
        "index": _index_line(manifest.index),
        "image score": manifest.scoring.image_score,
        **describe_calibration(calibration),
        "made with": made,
    }
    for name, value in lines.items():
        print(f"{name + ':':17}{printable(str(value))}")
    for line in few_images(calibration):
        print(f"{'warning:':17}{line}")
    return 0


def _backbone(features: Features) -> str:
    layers = " + ".join(layer.name for layer in features.layers)
    return f"{features.backbone}, {layers}, patches of {features.patch_px} px"


def _index_line(index: Index) -> str:
    if index.kind == "exact":
        return "exact"
    return (
        f"{index.kind}, effort {index.effort}, recall {index.recall:.4f}, "
        f"scores within {index.score_change:.2%} of the exact search (measured)"
    )


def _training(training: Training) -> str:
    if not training.images:
        return "images that are not known"
    dropped = len(training.dropped)
    left_out = f", {dropped} suspicious ones dropped" if dropped else ""
    return f"{len(training.images)} images{left_out}"
