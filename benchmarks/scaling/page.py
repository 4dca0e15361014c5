"""Points of `make bench-scaling` -> the page: one table per section, exponents below each.

results {"sections": {name: {"records": [{"at": ..., costs ...}]}}} -> Markdown.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.harness.figures import exponent
from benchmarks.harness.headlines import Record
from benchmarks.harness.tables import table

_Cost = Callable[[Record], float]
_STAGES = ("features", "projection", "coreset", "calibration")
_WORDS = {
    "images": (
        "Training images",
        "images",
        """\
Variations of the images there are (moved, with noise, 256 px JPEG). Peak memory is all that was
resident, pages of mapped files among it; `without files` is what the kernel cannot take back,
which is what `--memory-budget-gb` bounds: it covers the inputs, the layers, their projection, 100
bytes a patch for the coreset, and the bank while it is made. MindSpore and the imports come on top
and do not grow.""",
    ),
    "many": (
        "Many training images, 0.1 % kept",
        "images",
        "As above with a tenth of the rows; the coreset's cost grows with images times rows.",
    ),
    "ratio": (
        "Coreset ratio",
        "kept, %",
        "The same images, more and more of their patches kept; `search` is that of one image.",
    ),
    "resolution": (
        "Resolution",
        "side, px",
        """\
Few images, paper recipe without its crop: `resize_px` and `crop_px` are the side. The bank grows
with the patches, so a search grows with their square.""",
    ),
}


def page(results: Mapping[str, Any]) -> str:
    """Return the whole page."""
    lines = [
        "# How cost grows",
        "",
        "Written by `python -m benchmarks.scaling`: resnet18, paper recipe, 1 % where nothing else",
        "is said, every point a fit in a process of its own. An exponent of 1 is linear growth, 2",
        "quadratic; it is the slope of log cost by log size over all points of the column.",
    ]
    for name, (title, size, about) in _WORDS.items():
        if name in results["sections"]:
            records = results["sections"][name]["records"]
            lines += ["", f"## {title}", "", about, "", f"Measured: {_measured(records)}.", ""]
            lines += _table(size, records, _costs(name))
    return "\n".join(lines) + "\n"


def _measured(records: Sequence[Record]) -> str:
    """Describe date and machine, only once if they are the same for all points."""
    folds = ", ".join(str(count) for count in sorted({one["folds"] for one in records}))
    machines = dict.fromkeys(one["measured"].partition("; load")[0] for one in records)
    return f"{'; '.join(machines)}; calibration in {folds} folds"


def _costs(name: str) -> dict[str, tuple[_Cost, str]]:
    """Return the columns of a section: their cost and format."""
    stages: dict[str, tuple[_Cost, str]] = {
        f"{stage}, s": (lambda one, stage=stage: one["stages"][stage], ".1f")  # type: ignore[misc]
        for stage in _STAGES
    }
    total: dict[str, tuple[_Cost, str]] = {
        "fit after import, s": (lambda one: one["seconds"], ".1f")
    }
    memory: dict[str, tuple[_Cost, str]] = {
        "peak MB": (lambda one: one["peak_mb"], ".0f"),
        "without files": (lambda one: one["anonymous_mb"], ".0f"),
    }
    rows: dict[str, tuple[_Cost, str]] = {"rows kept": (lambda one: one["rows"], ".0f")}
    search: dict[str, tuple[_Cost, str]] = {
        "search, ms": (lambda one: 1e3 * one["search_s"], ".1f")
    }
    bank: dict[str, tuple[_Cost, str]] = {"bank MB": (lambda one: one["bank_mb"], ".1f")}
    if name in ("images", "many"):
        budget: dict[str, tuple[_Cost, str]] = {
            "budget MB": (lambda one: 1024 * one["budget_gb"], ".0f"),
            "imports MB": (lambda one: one["imports_mb"], ".0f"),
        }
        return rows | stages | total | memory | budget
    if name == "ratio":
        return (
            rows | {column: stages[column] for column in list(stages)[2:]} | bank | search | memory
        )
    each: dict[str, tuple[_Cost, str]] = {
        "features, ms an image": (_per_image("features"), ".1f"),
        "fit after import, ms an image": (lambda one: 1e3 * one["seconds"] / one["images"], ".0f"),
        "predict without decode and resize, ms": (lambda one: 1e3 * one["predict_s"], ".1f"),
    }
    return rows | each | search | memory


def _per_image(stage: str) -> _Cost:
    return lambda one: 1e3 * float(one["stages"][stage]) / float(one["images"])


def _table(
    size: str, records: Sequence[Record], costs: Mapping[str, tuple[_Cost, str]]
) -> list[str]:
    rows = [
        [f"{one['at']:,}", *(format(cost(one), kind) for cost, kind in costs.values())]
        for one in records
    ]
    sizes = [float(one["at"]) for one in records]
    slopes = [exponent(sizes, [cost(one) for one in records]) for cost, _ in costs.values()]
    rows.append(["exponent", *("" if slope is None else f"{slope:.2f}" for slope in slopes)])
    return table([size, *costs], rows, left=())
