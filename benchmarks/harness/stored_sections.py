"""Sections of a results file, measured at different times and kept until measured again.

name.json {"sections": {name: {"about": ..., "measured": ..., "records": [...]}}} and name.md.
"""

import argparse
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from patchcore_build.benchmark.machine import describe_machine

Page = Callable[[Mapping[str, Any]], str]


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the old results with the newly measured sections in place of the former ones."""
    sections = dict(old.get("sections", {})) | dict(new["sections"])
    return dict(old) | dict(new) | {"sections": sections}


def load(path: Path) -> dict[str, Any]:
    """Load former results; empty if the file does not exist yet."""
    results: dict[str, Any] = {"sections": {}}
    if path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
    return results


def store(path: Path, name: str, section: Mapping[str, Any], page: Page) -> None:
    """Write one section into both files at once, so that a later failure loses nothing."""
    results = merged(load(path), {"sections": {name: section}})
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(results), encoding="utf-8")


def machine_line() -> str:
    """Describe date, machine and its load before the measurement."""
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    return f"{machine}; load average at the start {os.getloadavg()[0]:.1f}"


def add_common_options(parser: argparse.ArgumentParser, sections: Collection[str]) -> None:
    """Add --shared and --only."""
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument(
        "--only",
        type=names_among(sections),
        default=list(sections),
        help=f"measure these sections, keep the figures of the others: {','.join(sections)}",
    )


def names_among(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return an argparse type for known names separated by commas."""

    def names(text: str) -> list[str]:
        given = text.split(",")
        unknown = [name for name in given if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"expected some of {', '.join(known)}, got {', '.join(unknown)}"
            )
        return given

    return names


def numbers(text: str) -> list[int]:
    """Parse whole numbers separated by commas."""
    return [int(number) for number in text.split(",")]
