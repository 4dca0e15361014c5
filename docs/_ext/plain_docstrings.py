"""Docstrings are plain text with backticks: escape what reStructuredText would take for markup.

A docstring says `|a - b|` or `*.png` and means just that. An indented block in the docstring of a
package is an example. A colon in the docstring of a property ends no type, as napoleon believes.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_MARKS = re.compile(r"(?<!\\)([*|])")
_VALUES = ("attribute", "property", "data")


def _prepare(
    _app: Sphinx, what: str, _name: str, _object: Any, _opts: Any, lines: list[str]
) -> None:
    if what == "module":
        lines[:] = _with_examples(lines)
        return
    for number, line in enumerate(lines):
        pieces = line.split("`")
        pieces[::2] = [_MARKS.sub(r"\\\1", piece) for piece in pieces[::2]]
        lines[number] = "`".join(pieces)
    if what in _VALUES and lines:
        lines[0] = lines[0].replace(": ", " \u2013 ", 1)


def _with_examples(lines: list[str]) -> list[str]:
    written: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not inside:
            written += [".. code-block:: python", ""]
        inside = indented or (inside and not line.strip())
        written.append(line)
    return written


def setup(app: Sphinx) -> dict[str, Any]:
    """Run before napoleon, which itself writes stars and bars."""
    app.connect("autodoc-process-docstring", _prepare, priority=100)
    return {"parallel_read_safe": True}
