"""Docstrings are plain text with backticks: escape what reStructuredText would take for markup.

A docstring says `|a - b|` or `*.png` and means just that. Text between backticks, and indented
examples, stay as they are.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_MARKS = re.compile(r"(?<!\\)([*|])")


def _escape(_app: Sphinx, _what: str, _name: str, _object: Any, _opts: Any, lines: list[str]) -> None:
    for number, line in enumerate(lines):
        pieces = line.split("`")
        pieces[::2] = [_MARKS.sub(r"\\\1", piece) for piece in pieces[::2]]
        lines[number] = "`".join(pieces)


def setup(app: Sphinx) -> dict[str, Any]:
    """Run before napoleon, which itself writes stars and bars."""
    app.connect("autodoc-process-docstring", _escape, priority=100)
    return {"parallel_read_safe": True}
