"""`patchcore-build index`: the same artifact with another kind of index, measured.

parsed arguments -> a new artifact folder, figures on stdout.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_build.cli_options import add_signing_option, at_least

if TYPE_CHECKING:
    from patchcore_build.reindex import IndexReport

_OF_THE_GRAPH = ("m", "ef_construction", "ef", "images", "max_score_change")
_MOST = {"m": 1024, "ef_construction": 65536, "ef": 65536}  # artifacts/FORMAT.md


def add_index_options(command: argparse.ArgumentParser) -> None:
    """What to make of which artifact."""
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the artifact folder")
    command.add_argument(
        "--kind", choices=("exact", "hnsw"), required=True,
        help="exact: index.onnx alone; hnsw: a graph beside it, faster for large banks, not exact",
    )  # fmt: skip
    command.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="the artifact folder to make"
    )
    graph = command.add_argument_group("of --kind hnsw (needs hnswlib)")
    graph.add_argument("--m", type=at_least(2), metavar="N", help="links of a row (default 16)")
    graph.add_argument(
        "--ef-construction", type=at_least(1), metavar="N",
        help="candidates kept while the graph is built (default 200)",
    )  # fmt: skip
    graph.add_argument(
        "--ef", type=at_least(1), metavar="N",
        help="candidates kept while it is searched: more find more, slower (default 128)",
    )  # fmt: skip
    graph.add_argument(
        "--images", type=Path, metavar="DIR",
        help="measure on these pictures, best ones the bank was not made of (default: pictures "
        "made of the self-test's, which is a training picture: that flatters)",
    )  # fmt: skip
    graph.add_argument(
        "--max-score-change", type=_share, metavar="R",
        help="refuse when an image score moves by more than this share (default 0.01)",
    )  # fmt: skip
    graph.add_argument("--force", action="store_true", help="do not refuse")
    command.add_argument(
        "--threads", type=at_least(1), metavar="N", help="threads (default: the cores given)"
    )
    add_signing_option(command)


def _share(text: str) -> float:
    """An argparse type: 0 to 1."""
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, got {text}")
    return float(text)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Make the artifact and print what its index is worth."""
    given = {name: getattr(arguments, name) for name in _OF_THE_GRAPH}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.kind == "exact" and (given or arguments.force):
        names = [*given, *(["force"] if arguments.force else [])]
        options = ", ".join("--" + name.replace("_", "-") for name in names)
        parser.error(f"index: --kind exact takes none of {options}")
    for name, most in _MOST.items():
        if given.get(name, 0) > most:
            parser.error(f"index: --{name.replace('_', '-')}: expected {most} or less")
    from patchcore_build.reindex import IndexJob, change_index

    renamed = {"m": "links", "ef": "effort"}
    report = change_index(
        IndexJob(
            artifact=arguments.artifact,
            output=arguments.output,
            kind=arguments.kind,
            force=arguments.force,
            threads=arguments.threads,
            sign=arguments.sign,
            **{renamed.get(name, name): value for name, value in given.items()},
        )
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report), default=str))
    else:
        _print_report(report)
    return 0


def _print_report(report: "IndexReport") -> None:
    print(f"index: {report.kind}, {report.rows} rows")
    quality = report.quality
    if quality:
        print(f"file: index.hnsw, {report.index_bytes / 1e6:.1f} MB")
        print(f"measured on: {report.measured_on}, {quality.patches} patches")
        print(f"recall: {quality.recall:.5f}")
        print(
            f"change of image scores: largest {quality.largest_score_change:.3g}, "
            f"mean {quality.mean_score_change:.3g} (relative to the exact search)"
        )
        print(
            f"search: {quality.approximate_ms:.1f} ms a picture, exact {quality.exact_ms:.1f} ms "
            f"({quality.exact_ms / quality.approximate_ms:.2f} times as fast, here)"
        )
    print(f"artifact: {report.artifact}")
