"""A matplotlib figure -> an SVG element to put into an HTML page, the same bytes every time.

Colours are names of the page's CSS variables, so that a chart follows light and dark. Text stays
text: it is set in the page's font, can be selected, and needs no glyphs of matplotlib's fonts.
"""

import contextlib
import io
import logging
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from patchcore_runtime.files.names import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# matplotlib wants colours as numbers; each of these becomes a CSS variable of report.css.
INK, FAINT, LINE, GOOD, DEFECT = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {INK: "ink", FAINT: "faint", LINE: "line", GOOD: "good", DEFECT: "defect"}
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "patchcore",  # without a salt, identifiers are random
    "svg.fonttype": "none",
    "path.simplify": False,  # every point of a curve is drawn
    "font.size": 11.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Give matplotlib our settings alone, whatever the user's own are, and keep it silent.

    Its first import on a machine lists the fonts and logs that to stderr.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import matplotlib as mpl

        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_SETTINGS)
            yield
    finally:
        logger.setLevel(level)


def inline_svg(
    figure: "Figure",
    name: str,
    title: str,
    description: str,
    words: Mapping[str, str] | None = None,
) -> Markup:
    """Write a figure as an `<svg>` element with a title and a description.

    Args:
        figure: Drawn inside of `drawing()`.
        name: Of the chart, unique on the page; it begins every identifier.
        title: What the chart shows, for screen readers.
        description: The same in a sentence or two.
        words: Text of the figure -> text to put in its place; here for names, which matplotlib
            would measure in fonts that lack their letters.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    root = ET.fromstring(file.getvalue())  # noqa: S314 - our own text
    for element in root.iter():
        element.tag = _plain(element.tag)
        element.attrib = {
            _plain(key): _own(_plain(key), value, name) for key, value in element.attrib.items()
        }
        if words and element.tag == "text" and element.text:
            element.text = printable(words.get(element.text, element.text))
    for definitions in root.findall("defs"):
        for style in definitions.findall("style"):
            definitions.remove(style)  # it would apply to the whole page
    for key in ("width", "height", "version"):
        del root.attrib[key]
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ET.Element(tag, {"id": f"{name}-{tag}"})
        child.text = printable(text)
        root.insert(place, child)
    labels = f"{name}-title {name}-desc"
    root.attrib |= {"class": "chart", "id": name, "role": "img", "aria-labelledby": labels}
    element_text = ET.tostring(root, encoding="unicode")
    return Markup(element_text)  # noqa: S704 - serialized, so that every name in it is escaped


def _plain(name: str) -> str:
    """A name without its namespace: HTML knows none."""
    return name.rpartition("}")[2]


def _own(key: str, value: str, name: str) -> str:
    """An attribute with the chart's own identifiers and the page's colours."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        for color, variable in _VARIABLES.items():
            value = value.replace(color, f"var(--{variable})")
    return value
