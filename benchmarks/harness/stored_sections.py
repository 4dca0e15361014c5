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
    """The old results with the sections just measured in place of their former selves."""
    sections = dict(old.get("sections", {})) | dict(new["sections"])
    return dict(old) | dict(new) | {"sections": sections}


def load(path: Path) -> dict[str, Any]:
    """What was measured before; nothing where there is no file yet."""
    results: dict[str, Any] = {"sections": {}}
    if path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
    return results


def store(path: Path, name: str, section: Mapping[str, Any], page: Page) -> None:
    """Put one section into both files at once, so that a later failure loses nothing."""
    results = merged(load(path), {"sections": {name: section}})
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(results), encoding="utf-8")


def machine_line() -> str:
    """When, on what, and how busy it already was."""
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    return f"{machine}; load average at the start {os.getloadavg()[0]:.1f}"


def add_common_options(parser: argparse.ArgumentParser, sections: Collection[str]) -> None:
    """--shared and --only."""
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument(
        "--only",
        type=names_among(sections),
        default=list(sections),
        help=f"measure these sections, keep the figures of the others: {','.join(sections)}",
    )


def names_among(known: Collection[str]) -> Callable[[str], list[str]]:
    """An argparse type: names with commas between, all of them known."""

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
    """An argparse type: whole numbers with commas between."""
    return [int(number) for number in text.split(",")]
