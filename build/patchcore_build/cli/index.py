"""`patchcore-build index`: copy an artifact with another kind of index, and measure the index.

parsed arguments -> a new artifact folder, figures on stdout.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from patchcore_build.cli.options import add_public_key_option, add_signing_option
from patchcore_runtime.cli.option_types import number, whole_number
from patchcore_runtime.cli.terminal import print_json
from patchcore_runtime.manifest.manifest import IndexKind

if TYPE_CHECKING:
    from patchcore_build.indexes.reindex import IndexReport

_MEASURING = ("images", "max_score_change")
_GRAPH = ("m", "ef_construction", "ef", *_MEASURING)
# Options of each kind.
_TAKEN: dict[IndexKind, tuple[str, ...]] = {
    "exact": (),
    "hnsw": _GRAPH,
    "faiss-flat": _MEASURING,
    "faiss-ivfpq": ("nlist", "nprobe", "pq_m", *_MEASURING),
}
_SETTINGS = {
    "m": "links", "ef_construction": "ef_construction", "ef": "effort",
    "nlist": "cells", "nprobe": "probes", "pq_m": "code_parts",
}  # fmt: skip
_MOST = {"m": 1024, "ef_construction": 65536, "ef": 65536, "nlist": 65536}  # artifacts/FORMAT.md
_ABOUT = """kinds of index (every artifact keeps its exact search, index.onnx, whatever its kind):
  exact         index.onnx alone; needs no library, and finds every nearest row
  hnsw          a graph for hnswlib, for large banks; Python and C++ search it
  faiss-flat    all rows for faiss's IndexFlatL2, the original PatchCore's own file
  faiss-ivfpq   compressed rows in cells for faiss; the bank's own rows rank the best 32
The faiss kinds need faiss (pip install 'patchcore-build[faiss]', on the line PC
'patchcore-runtime[faiss]'); hnsw needs 'patchcore-runtime[hnsw]'. The C++ runner searches the
faiss kinds exactly. `patchcore-build advise ARTIFACT` recommends a kind for this machine."""


def add_index_options(command: argparse.ArgumentParser) -> None:
    """Add the artifact, the kind and its options."""
    command.description = f"{command.description or ''}\n\n{_ABOUT}".strip()
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the artifact folder")
    command.add_argument(
        "--kind", choices=get_args(IndexKind), required=True, help="kind of the new index"
    )
    command.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="artifact folder to create"
    )
    _add_graph_options(command.add_argument_group("options of --kind hnsw"))
    _add_cell_options(command.add_argument_group("options of --kind faiss-ivfpq"))
    measuring = command.add_argument_group("measuring (not for exact)")
    measuring.add_argument(
        "--images", type=Path, metavar="DIR",
        help="measure on these images, as they are and with a drawn defect, preferably on held-out "
        "ones (default: images made from the self-test image, which is a training image and gives "
        "optimistic results)",
    )  # fmt: skip
    measuring.add_argument(
        "--max-score-change", type=number("0 to 1", lambda value: 0 <= value <= 1), metavar="R",
        help="fail if an image score changes by more than this share (default 0.01)",
    )  # fmt: skip
    measuring.add_argument(
        "--force", action="store_true", help="accept a larger change of scores, up to 1"
    )
    command.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="threads (default: available cores)"
    )
    add_public_key_option(command)
    add_signing_option(command)


def _add_graph_options(graph: argparse._ArgumentGroup) -> None:
    graph.add_argument(
        "--m", type=whole_number(2), metavar="N", help="links of each row (default 16)"
    )
    graph.add_argument(
        "--ef-construction", type=whole_number(1), metavar="N",
        help="number of candidates while the graph is built (default 200)",
    )  # fmt: skip
    graph.add_argument(
        "--ef", type=whole_number(1), metavar="N",
        help="number of candidates of a search; more are slower and more exact (default 128)",
    )  # fmt: skip


def _add_cell_options(cells: argparse._ArgumentGroup) -> None:
    cells.add_argument(
        "--nlist", type=whole_number(1), metavar="N",
        help="number of cells (default: the square root of the number of rows)",
    )  # fmt: skip
    cells.add_argument(
        "--nprobe", type=whole_number(1), metavar="N",
        help="number of cells of a search; more are slower and more exact (default: a quarter)",
    )  # fmt: skip
    cells.add_argument(
        "--pq-m", type=whole_number(1), metavar="N",
        help="bytes of a row's code, a divisor of its length (default: the largest up to 64)",
    )  # fmt: skip


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Make the artifact and print the measurements of its index."""
    given = {name: getattr(arguments, name) for name in (*_SETTINGS, *_MEASURING)}
    given = {name: value for name, value in given.items() if value is not None}
    _refuse_misplaced(arguments, given, parser)
    from patchcore_build.indexes.reindex import IndexJob, change_index
    from patchcore_build.indexes.settings import IndexSettings

    settings = {_SETTINGS[name]: value for name, value in given.items() if name in _SETTINGS}
    report = change_index(
        IndexJob(
            artifact=arguments.artifact,
            output=arguments.output,
            settings=IndexSettings(kind=arguments.kind, **settings),
            force=arguments.force,
            threads=arguments.threads,
            sign=arguments.sign,
            public_key=arguments.public_key,
            **{name: given[name] for name in _MEASURING if name in given},
        )
    )
    if arguments.json:
        print_json(dataclasses.asdict(report))
    else:
        _print_report(report)
    return 0


def _refuse_misplaced(
    arguments: argparse.Namespace, given: dict[str, object], parser: argparse.ArgumentParser
) -> None:
    """Exit with a usage error if an option does not belong to the kind, or is too large."""
    kind = arguments.kind
    names = [name for name in given if name not in _TAKEN[kind]]
    names += ["force"] if arguments.force and kind == "exact" else []
    if names:
        options = ", ".join("--" + name.replace("_", "-") for name in names)
        parser.error(f"index: --kind {kind} takes none of {options}")
    for name, most in _MOST.items():
        value = given.get(name, 0)
        if isinstance(value, int) and value > most:
            parser.error(f"index: --{name.replace('_', '-')}: expected {most} or less")


def _print_report(report: "IndexReport") -> None:
    print(f"index: {report.kind}, {report.rows} rows")
    quality = report.quality
    if quality:
        print(f"file: {report.file}, {report.index_bytes / 1e6:.1f} MB")
        print(f"measured on: {report.measured_on}, {quality.patches} patches")
        print(f"recall: {quality.recall:.5f}")
        print(
            f"change of image scores: largest {quality.largest_score_change:.3g}, "
            f"mean {quality.mean_score_change:.3g} (relative to the exact search)"
        )
        print(
            f"search: {quality.approximate_ms:.1f} ms per image, exact {quality.exact_ms:.1f} ms "
            f"({quality.exact_ms / quality.approximate_ms:.2f} times as fast on this machine)"
        )
    print(f"artifact: {report.artifact}")
