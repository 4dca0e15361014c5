"""`patchcore-build benchmark`: fit and evaluate every category of a data set, one table.

parsed arguments -> results.json, results.csv, results.md and a report per category; exit code 1
if a category failed.
"""

import argparse
from pathlib import Path

from patchcore_build.cli.options import (
    LAYOUTS,
    add_method_options,
    add_network_options,
    config_from,
    wrong_usage,
)
from patchcore_runtime.cli.terminal import print_error, print_json


def add_benchmark_options(command: argparse.ArgumentParser) -> None:
    """Add the data set, the output and the settings."""
    command.add_argument(
        "--dataset", "--dataset_path", type=Path, metavar="DIR", required=True,
        help=f"data set ({LAYOUTS} layout)",
    )  # fmt: skip
    command.add_argument(
        "--categories", type=_names, default=(), metavar="A,B",
        help="categories to run (default: all of the data set)",
    )  # fmt: skip
    command.add_argument(
        "--seeds", type=_seeds, default=(0,), metavar="0,1,2",
        help="run each category with each seed; figures are means over seeds (default 0)",
    )  # fmt: skip
    command.add_argument(
        "--output", type=Path, metavar="DIR", default=Path("out/benchmark"),
        help="folder for results and reports; the same command continues an interrupted run "
        "(default out/benchmark)",
    )  # fmt: skip
    command.add_argument(
        "--keep-artifacts", action="store_true", help="keep every artifact after its evaluation"
    )
    add_network_options(command)
    add_method_options(command)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run the benchmark and print its table."""
    from patchcore_build.benchmark.benchmark import BenchmarkJob, run_benchmark
    from patchcore_build.benchmark.results_table import (
        results_dict,
        results_markdown,
        write_results,
    )

    config = config_from(arguments, parser, seed=None)
    with wrong_usage(parser):
        job = BenchmarkJob(
            dataset=arguments.dataset,
            output=arguments.output,
            config=config,
            weights=arguments.weights,
            categories=arguments.categories,
            seeds=arguments.seeds,
            device=arguments.device,
            device_id=arguments.device_id,
            keep_artifacts=arguments.keep_artifacts,
        )
    log = _Log()
    result = run_benchmark(job, tell=log.tell, progress=log.count)
    path = write_results(job, result)
    table = results_dict(job, result)
    if arguments.json:
        print_json(table)
    else:
        print(results_markdown(table))
        print(f"results: {path}; reports: {job.output / 'reports'}")
    for failed in result.failed:
        print_error("patchcore-build", f"{failed.category}, seed {failed.seed}: {failed.error}")
    return 1 if result.failed else 0


class _Log:
    """Prints lines on stderr, each with the number of its run."""

    def __init__(self) -> None:
        self._run = ""

    def count(self, number: int, total: int | None) -> None:
        """Note the number of the run that comes next."""
        self._run = f"{number} of {total}: "

    def tell(self, line: str) -> None:
        """Print a line."""
        print_error("patchcore-build", f"{self._run}{line}")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("expected names separated by commas, got none")
    return tuple(dict.fromkeys(names))


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(dict.fromkeys(int(seed) for seed in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers separated by commas, got {text!r}"
        ) from None
    if min(seeds) < 0 or max(seeds) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected seeds from 0 to 2^32 - 1, got {text}")
    return seeds
