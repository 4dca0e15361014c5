"""Settings of the documentation site: `sphinx-build -W -n docs out/docs` builds it.

Pages are MyST Markdown, the theme is Furo, and the site fetches nothing from other servers.
The extensions in `_ext` write the pages that would otherwise repeat the code.
"""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "PatchCore"
author = "The PatchCore authors"
copyright = "The PatchCore authors, Apache-2.0"  # noqa: A001 - Sphinx's own name
release = version = installed_version("patchcore-runtime")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "classes",
    "command_lines",
    "layers",
    "plain_docstrings",
    "shell_blocks",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
highlight_language = "text"
smartquotes = False  # they would turn `--option` in help texts into a dash
default_role = "code"  # a single backtick in a docstring means code
nitpicky = True
# Annotations name types whose pages are on other servers, or that are private to a room. The build
# needs no network, so neither has a page to link to. Links written by hand are still checked.
nitpick_ignore_regex = [
    ("py:class", r"(numpy|np|os|PIL|pathlib|collections|types|typing|patchcore_\w+)\..*"),
    ("py:class", r"[A-Z]\w+"),
    ("py:exc", r"\w+Error"),
]

myst_enable_extensions = ["attrs_block", "deflist"]
myst_heading_anchors = 3

# The public names of a package are its `__all__`, in the order of the source file.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False

# The contract that `make check` enforces, and that explanation/architecture.md draws.
layers_contracts = "../pyproject.toml"

html_theme = "furo"
html_title = f"PatchCore {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
