"""What our HTML pages share: the page around them, a figure with its exact value, a table."""

from collections.abc import Sequence
from importlib.resources import files

from patchcore_build.report.facts import four_digits

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_ALIGNED = ' class="number"'
_NUMBER_HEADS = ("Value", "Flagged", "Passed", "Pictures", "Median score")


def document(title: str, body: str) -> str:
    """One file that needs no other: no scripts, nothing from elsewhere.

    Args:
        title: Escaped already.
        body: What stands between the tags of the body, each line with its end.
    """
    style = files("patchcore_build.report").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}</body>
</html>
"""


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
