"""The import-linter contracts of pyproject.toml -> the drawn layers of each package.

`{layers} PACKAGE` draws the contract of type `layers` whose container is PACKAGE: one row for each
layer, the highest first, one box for each room. The first line of a room's docstring says what is
in it. The drawing cannot differ from the rule, because both are read from the same table.
"""

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

if sys.version_info >= (3, 11):
    import tomllib
else:  # Sphinx brings tomli there
    import tomli as tomllib


class _NoContractError(Exception):
    """pyproject.toml has no contract to draw; the page that needs it fails with this line."""


class Layers(SphinxDirective):
    """Draw one package."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        """One container of rows; the page is written again when the contract changes."""
        self.env.note_dependency(str(_contracts_path(self.env.app)))
        package = self.arguments[0]
        try:
            contract = _layers_contract(self.env.app, package)
        except _NoContractError as error:
            raise self.error(str(error)) from None
        drawing = nodes.container(classes=["layers"])
        for layer in contract["layers"]:
            row = nodes.container(classes=["layer"])
            for room in _rooms(layer):
                row += _box(package, room)
            drawing += row
        return [drawing]


class Forbidden(SphinxDirective):
    """Say in one sentence what each contract of type `forbidden` rules out."""

    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """One paragraph for each contract."""
        paragraphs: list[nodes.Node] = []
        try:
            contracts = _contracts(self.env.app)
        except _NoContractError as error:
            raise self.error(str(error)) from None
        for contract in contracts:
            if contract["type"] != "forbidden":
                continue
            sources = ", ".join(contract["source_modules"])
            targets = ", ".join(contract["forbidden_modules"])
            paragraphs.append(nodes.paragraph("", f"{sources} never imports {targets}."))
        return paragraphs


def _contracts_path(app: Sphinx) -> Path:
    return Path(app.confdir, app.config.layers_contracts).resolve()


def _contracts(app: Sphinx) -> list[dict[str, Any]]:
    path = _contracts_path(app)
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    contracts = settings.get("tool", {}).get("importlinter", {}).get("contracts")
    if not contracts:
        raise _NoContractError(
            f"{path}: expected contracts below [tool.importlinter], got none; "
            "explanation/architecture.md is drawn from them"
        )
    return list(contracts)


def _layers_contract(app: Sphinx, package: str) -> dict[str, Any]:
    for contract in _contracts(app):
        if contract["type"] == "layers" and package in contract.get("containers", ()):
            return contract
    raise _NoContractError(
        f"{app.config.layers_contracts}: expected a contract of type layers whose container is "
        f"{package}, got none"
    )


def _rooms(layer: str) -> list[str]:
    """`a | b`, or `a : b`, and optional rooms in brackets."""
    return [name.strip(" ()") for name in layer.replace(":", "|").split("|")]


def _box(package: str, room: str) -> nodes.container:
    box = nodes.container(classes=["room"])
    box += nodes.paragraph("", "", nodes.literal("", room))
    summary = _summary(package, room)
    if summary:
        box += nodes.paragraph("", summary, classes=["room-summary"])
    return box


def _summary(package: str, room: str) -> str:
    """The first line of a room's docstring, read without importing it; empty where it has none."""
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        for path in (Path(folder, room, "__init__.py"), Path(folder, f"{room}.py")):
            if path.is_file():
                words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                return words.partition("\n")[0].replace("`", "")
    return ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register both directives."""
    app.add_config_value("layers_contracts", "../pyproject.toml", "env")
    app.add_directive("layers", Layers)
    app.add_directive("forbidden-imports", Forbidden)
    return {"parallel_read_safe": True}
