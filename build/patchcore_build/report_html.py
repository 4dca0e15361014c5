"""Pieces of report.html that its sections share: a figure with its exact value, a table."""

from collections.abc import Sequence

from patchcore_build.report_facts import four_digits

_ALIGNED = ' class="number"'
_NUMBER_HEADS = ("Value", "Flagged", "Passed", "Pictures", "Median score")


def number(value: float, field: str, shown: str = "") -> str:
    """A figure as people read it, with its exact value and its place in report.json."""
    words = f"{value:{shown}}" if shown else four_digits(value)
    return f'<data class="value" value="{value!r}" data-field="{field}">{words}</data>'


def table(name: str, caption: str, heads: Sequence[str], rows: str) -> str:
    """A table that a narrow screen scrolls sideways, with keys too."""
    columns = "".join(
        f'<th scope="col"{_ALIGNED if head in _NUMBER_HEADS else ""}>{head}</th>' for head in heads
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-labelledby="{name}-caption">'
        f'<table><caption id="{name}-caption">{caption}</caption>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>"
    )
