"""An argparse parser -> the reference of a command line: one section for each command.

`{command-line} MODULE` imports MODULE and calls its `_parser()`, the very parser that the program
uses. So usage, options, choices and defaults on the page are those of the installed package.
"""
# ruff: noqa: SLF001 - argparse shows what a parser consists of by private names alone

import argparse
import importlib
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_COLUMNS = 78
_TITLES = {"positional arguments": "Arguments"}


class CommandLine(SphinxDirective):
    """Write the sections of all commands of one program."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        """One section for each command, in the order of `--help`."""
        module = importlib.import_module(self.arguments[0])
        parser: argparse.ArgumentParser = module._parser()
        written: list[nodes.Node] = []
        for name, command in _commands(parser).items():
            section = nodes.section(ids=[nodes.make_id(f"{parser.prog} {name}")])
            section += nodes.title("", "", nodes.literal("", name))
            self.state.document.note_implicit_target(section, section)
            section += _description(command)
            section += _usage(command)
            for group in command._action_groups:
                section += _group(command, group)
            written.append(section)
        return written


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names: dict[int, list[str]] = {}
            for name, command in action.choices.items():  # an alias has its command's parser
                names.setdefault(id(command), []).append(name)
            return {", ".join(names[id(c)]): c for c in action.choices.values()}
    return {}


def _description(command: argparse.ArgumentParser) -> list[nodes.Node]:
    """The description; an indented block in it is a table that keeps its line ends."""
    written: list[nodes.Node] = []
    for part in (command.description or "").strip().split("\n\n"):
        table = any(line.startswith("  ") for line in part.splitlines())
        written.append(nodes.literal_block(part, part) if table else nodes.paragraph(part, part))
    return written


def _usage(command: argparse.ArgumentParser) -> nodes.literal_block:
    formatter = argparse.HelpFormatter(command.prog, width=_COLUMNS)
    formatter.add_usage(command.usage, command._actions, command._mutually_exclusive_groups)
    text = formatter.format_help().strip()
    return nodes.literal_block(text, text, language="text")


def _group(command: argparse.ArgumentParser, group: Any) -> list[nodes.Node]:
    actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
    actions = [a for a in actions if not isinstance(a, argparse._HelpAction)]
    if not actions:
        return []
    options = nodes.definition_list(classes=["options"])
    for action in actions:
        item = nodes.definition_list_item()
        item += _term(command, action)
        words = _help(command, action)
        if words:
            item += nodes.definition("", nodes.paragraph("", "", *words))
        options += item
    title = _TITLES.get(group.title, (group.title or "options").capitalize())
    return [nodes.rubric("", title), options]


def _term(command: argparse.ArgumentParser, action: argparse.Action) -> nodes.term:
    formatter = argparse.HelpFormatter(command.prog)
    if not action.option_strings:
        words = [formatter._format_args(action, action.dest)]
    elif action.nargs == 0:
        words = list(action.option_strings)
    else:
        value = formatter._format_args(action, action.dest.upper())
        words = [f"{option} {value}" for option in action.option_strings]
    term = nodes.term()
    for number, word in enumerate(words):
        if number:
            term += nodes.Text(", ")
        term += nodes.literal("", word)
    return term


def _help(command: argparse.ArgumentParser, action: argparse.Action) -> list[nodes.Node]:
    """The help text; what is between backticks is code."""
    formatter = argparse.HelpFormatter(command.prog)
    text = formatter._expand_help(action) if action.help else ""
    if action.required and action.option_strings:
        text += " Required."
    pieces = text.split("`")
    return [nodes.literal("", p) if i % 2 else nodes.Text(p) for i, p in enumerate(pieces) if p]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
