"""Markdown tables and figures, in the format of all benchmark pages.

head and rows of text -> lines; seconds -> text.
"""

from collections.abc import Collection, Iterable, Sequence


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[int] = (0,)
) -> list[str]:
    """Return the lines of a table; columns are aligned right except for the numbers in `left`.

    Raises:
        ValueError: a row does not have as many cells as the head.
    """
    marks = ["---" if column in left else "--:" for column in range(len(head))]
    lines = [_line(head), "|" + "|".join(marks) + "|"]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"table: expected {len(head)} cells, got {list(row)}")
        lines.append(_line(row))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def time_text(seconds: float | None) -> str:
    """Format seconds, below one as milliseconds; empty if the figure is missing."""
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
