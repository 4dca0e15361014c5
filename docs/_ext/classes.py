"""Names of classes -> their autodoc entries, wherever in the package their module is.

`{classes} PACKAGE` takes one name a line. A class that public functions take or give need not be
public itself: users read its fields, but import it from nowhere. So its module may move.
"""

import ast
import importlib.util
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


class Classes(SphinxDirective):
    """Document some classes of one package."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """One entry for each name, in the order given."""
        package = self.arguments[0]
        modules = _modules_of_classes(package)
        source = ["```{eval-rst}"]
        for name in filter(None, map(str.strip, self.content)):
            places = modules.get(name, [])
            if len(places) != 1:
                got = ", ".join(places) or "none"
                raise self.error(f"expected one class {name} in {package}, got {got}")
            source += [f".. autoclass:: {places[0]}.{name}", "   :members:", ""]
        container = nodes.Element()
        text = StringList([*source, "```"], source=self.get_location())
        self.state.nested_parse(text, self.content_offset, container)
        return container.children


def _modules_of_classes(package: str) -> dict[str, list[str]]:
    """Name of each top-level class -> the modules that define it, without importing any."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ExtensionError(f"{package}: expected an installed package")
    root = Path(found.submodule_search_locations[0])
    modules: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        below = path.relative_to(root).with_suffix("").parts
        parts = below[:-1] if below[-1] == "__init__" else below
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.ClassDef):
                modules.setdefault(statement.name, []).append(".".join((package, *parts)))
    return modules


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("classes", Classes)
    return {"parallel_read_safe": True}
