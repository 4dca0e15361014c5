"""Blocks named `console` hold commands without a prompt: colour them as shell, not as output."""

from typing import Any

from pygments.lexers.shell import BashLexer
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Put the lexer of the shell under the name `console`."""
    app.add_lexer("console", BashLexer)
    return {"parallel_read_safe": True}
