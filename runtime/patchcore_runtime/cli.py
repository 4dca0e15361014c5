"""The command `patchcore-runtime`: score pictures, check and describe an artifact.

argv -> JSON lines or text on stdout, refusals on stderr, exit code 0 done, 1 refused, 2 usage.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO, get_args

from PIL import Image

from patchcore_runtime import __version__
from patchcore_runtime.artifact import Artifact
from patchcore_runtime.command_line import Run, add_command, new_parser, run_command_line
from patchcore_runtime.detector import Detector, Result, Search
from patchcore_runtime.errors import ImageError
from patchcore_runtime.manifest import Index, Training
from patchcore_runtime.ordered_work import work_in_order, workers_for
from patchcore_runtime.preprocess import SUFFIXES, read_image
from patchcore_runtime.session import CPU, usable_cores
from patchcore_runtime.thresholds import describe_calibration

_EXAMPLES = """examples:
  patchcore-runtime check artifacts/bottle
  patchcore-runtime score artifacts/bottle photo.png more_photos/
  patchcore-runtime score artifacts/bottle photos/ --maps heatmaps/ --csv scores.csv
  patchcore-runtime score artifacts/bottle photos/ --search exact
  patchcore-runtime score artifacts/bottle photos/ --roi mask.png
  patchcore-runtime score artifacts/bottle photos/ --target-fpr 0.001
  patchcore-runtime info artifacts/bottle
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    description = "Score pictures with a PatchCore artifact, on any CPU."
    parser, commands = new_parser("patchcore-runtime", description, _EXAMPLES, __version__)
    score = _command(commands, "score", _score, "score pictures, one JSON line each")
    score.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", type=Path)
    score.add_argument("--maps", metavar="DIR", type=Path, help="write a heat map PNG per picture")
    score.add_argument("--csv", metavar="FILE", type=Path, help="write the scores as a table, too")
    score.add_argument(
        "--roi", metavar="MASK", type=Path,
        help="look only where this picture of a photograph is white, inside the artifact's region",
    )  # fmt: skip
    _add_threshold_options(score)
    _add_session_options(score)
    check = _command(
        commands, "check", _check, "verify checksums and run the artifact's own self-test here"
    )
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    _add_session_options(check)
    info = _command(commands, "info", _info, "what it is, how it was made, its thresholds")
    info.add_argument("--json", action="store_true", help="print the whole manifest")
    return parser


def _command(commands: Any, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    command = add_command(commands, name, run, summary=summary, examples=_EXAMPLES)
    command.add_argument("artifact", metavar="ARTIFACT", type=Path, help="the artifact folder")
    return command


def _add_session_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads in all (default: the cores given); `score` works on up to 4 pictures at once",
    )
    command.add_argument(
        "--providers",
        default=CPU,
        metavar="A,B",
        help=f"onnxruntime execution providers in order of preference (default: {CPU})",
    )
    command.add_argument(
        "--search",
        choices=get_args(Search),
        default="auto",
        help="auto (default): the artifact's own kind of index; exact: its index.onnx; int8: "
        "the same rows, sought by int8 products (for wide networks and large banks)",
    )


def _add_threshold_options(command: argparse.ArgumentParser) -> None:
    either = command.add_mutually_exclusive_group()
    either.add_argument(
        "--threshold", type=float, metavar="X",
        help="image threshold in place of the artifact's; in the unit of the score",
    )  # fmt: skip
    either.add_argument(
        "--target-fpr", type=float, metavar="R",
        help="share of good parts that may be flagged, in place of the one the artifact was "
        "fitted for; image and pixel threshold follow from its held-out scores",
    )  # fmt: skip


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def _score(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    pictures = list(_pictures(arguments.images))
    if arguments.maps is not None:
        _refuse_shared_maps(pictures, arguments.maps)
    threads = arguments.threads or usable_cores()
    workers = workers_for(threads, len(pictures))
    detector = Detector.load(
        arguments.artifact,
        threads=threads // workers,
        providers=arguments.providers.split(","),
        search=arguments.search,
        roi=arguments.roi,
        threshold=arguments.threshold,
        target_fpr=arguments.target_fpr,
    )
    rows: list[dict[str, Any]] = []
    score = partial(_score_one, detector, arguments.maps)
    for row in work_in_order(score, pictures, workers=workers):
        rows.append(row)
        if "error" in row:
            print(f"patchcore-runtime: {row['error']}", file=sys.stderr)
        print(json.dumps(row), flush=True)
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            _write_csv(file, rows)
    return 1 if any("error" in row for row in rows) else 0


def _score_one(detector: Detector, maps: Path | None, picture: tuple[Path, str]) -> dict[str, Any]:
    path, name = picture
    try:
        image = read_image(path)
        result = detector.predict(image)
    except ImageError as error:
        reason = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
        return {"image": str(path), "error": reason}
    row = {
        "image": str(path),
        "score": result.score,
        "threshold": result.threshold,
        "score_ratio": result.score_ratio,
        "p_value": result.p_value,
        "is_anomalous": result.is_anomalous,
        "peak": list(result.peak),
    }
    if maps is not None:
        target = _map_path(maps, name)
        _write_heatmap(detector, image, result, target)
        row["map"] = str(target)
    return row


def _write_heatmap(detector: Detector, image: Image.Image, result: Result, target: Path) -> None:
    import numpy as np

    from patchcore_runtime.heatmap import save_heatmap

    target.parent.mkdir(parents=True, exist_ok=True)
    verdict = "anomalous" if result.is_anomalous else "normal"
    title = f"{verdict}: score {result.score:.3g}, threshold {result.threshold:.3g}"
    photograph = np.asarray(image)
    save_heatmap(target, photograph, result.map_on(image), detector.heatmap_scale, title=title)


def _pictures(sources: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each picture and the name its heat map gets below --maps."""
    for source in sources:
        if not source.is_dir():
            yield source, source.name
            continue
        found = sorted(
            path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not found:
            raise ImageError(
                f"{source}: expected pictures ({', '.join(sorted(SUFFIXES))}), got none"
            )
        for path in found:
            yield path, path.relative_to(source).as_posix()


def _refuse_shared_maps(pictures: Sequence[tuple[Path, str]], maps: Path) -> None:
    seen: set[str] = set()
    for _, name in pictures:
        if name in seen:
            raise ImageError(
                f"{_map_path(maps, name)}: two pictures would get this heat map; "
                "score their common folder, or one after the other with two --maps"
            )
        seen.add(name)


def _map_path(maps: Path, name: str) -> Path:
    return maps / f"{name}.heatmap.png"


def _write_csv(file: TextIO, rows: list[dict[str, Any]]) -> None:
    columns = (
        "image", "score", "threshold", "score_ratio", "p_value", "is_anomalous", "peak_y", "peak_x",
        "error",
    )  # fmt: skip
    writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
    writer.writeheader()
    for row in rows:
        y, x = row.get("peak", ("", ""))
        writer.writerow({**row, "peak_y": y, "peak_x": x})


def _check(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    from patchcore_runtime.selftest import run_selftest

    artifact = Artifact.open(arguments.artifact, verify=False)
    artifact.verify()
    steps = run_selftest(
        artifact,
        threads=arguments.threads,
        providers=arguments.providers.split(","),
        search=arguments.search,
    )
    passed = all(step.passed for step in steps)
    if arguments.json:
        rows = [{**asdict(step), "passed": step.passed} for step in steps]
        print(json.dumps({"artifact": str(arguments.artifact), "passed": passed, "steps": rows}))
        return 0 if passed else 1
    print(f"checksums: {len(artifact.files)} files as listed")
    for step in steps:
        verdict = "ok" if step.passed else "FAILED"
        print(f"{step.name}: {verdict}, differs by {step.difference:.3g} of {step.tolerance:.3g}")
    if not passed:
        broken = next(step.name for step in steps if not step.passed)
        print(
            f"patchcore-runtime: {arguments.artifact}: the self-test breaks at `{broken}` on this "
            "machine; do not trust its scores here",
            file=sys.stderr,
        )
    return 0 if passed else 1


def _info(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    manifest = Artifact.open(arguments.artifact, verify=False).manifest
    if arguments.json:
        print(manifest.to_json(), end="")
        return 0
    calibration, size, bank = manifest.calibration, manifest.preprocess, manifest.memory_bank
    tiles = manifest.tiling
    channels = manifest.features.layer2.channels + manifest.features.layer3.channels
    # Nothing is decided by these two objects, so nothing in them has to be there.
    config, packages = manifest.config, manifest.provenance.get("packages")
    listed = packages.items() if isinstance(packages, dict) else [("unknown", "packages")]
    made = ", ".join(f"{name} {of}" for name, of in listed)
    lines = {
        "category": manifest.training.category,
        "recipe": f"{config.get('recipe', '?')}, seed {config.get('seed', '?')}",
        "trained on": _training(manifest.training),
        "backbone": manifest.features.backbone,
        "input": f"{size.height} x {size.width} px (H x W), {size.resize}, {size.filter}",
        "looks at": "the region in roi.png" if manifest.region.kind == "mask" else "all of it",
        "tiles": f"{tiles.rows} x {tiles.columns} of {tiles.tile_height} x {tiles.tile_width} px",
        "memory bank": f"{bank.rows} rows of {channels}",
        "index": _index_line(manifest.index),
        "image score": manifest.scoring.image_score,
        **describe_calibration(calibration),
        "made with": made,
    }
    for name, value in lines.items():
        print(f"{name + ':':17}{value}")
    return 0


def _index_line(index: Index) -> str:
    if index.kind == "exact":
        return "exact"
    return (
        f"{index.kind}, effort {index.effort}, recall {index.recall:.4f}, "
        f"scores within {index.score_change:.2%} of the exact search's, as measured"
    )


def _training(training: Training) -> str:
    dropped = len(training.dropped)
    left_out = f", {dropped} suspicious ones dropped" if dropped else ""
    return f"{len(training.images)} pictures{left_out}"
