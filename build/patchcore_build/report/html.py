"""Values -> pages: one HTML file that needs no other, made from the templates in `templates/`.

Jinja2 escapes every value (https://jinja.palletsprojects.com/en/stable/api/#autoescaping), and
`printable` first replaces what a browser could take for something else than text. Only `Markup`
passes unchanged: our style sheet, our script, our charts, and JSON that Jinja2 has made safe.
"""

import base64
import functools
import hashlib
from importlib.resources import files

import jinja2
from markupsafe import Markup

from patchcore_runtime.files.names import printable

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = "report.css"


def four_digits(value: float) -> str:
    """A score or threshold with four significant digits, as every part of a report writes it."""
    return f"{value:#.4g}".rstrip(".")


def jpeg_uri(jpeg: bytes) -> str:
    """A JPEG as the `src` of an image element."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def render(template: str, *, script: str = "", **values: object) -> str:
    """Fill a template.

    The page's content security policy forbids everything from elsewhere and every script but
    ours, which it names by its SHA-256.

    Args:
        template: Its file name in `templates/`.
        script: File name of the page's script in `templates/`; empty for a page without one.
        **values: What the template names; text is escaped, `Markup` is not.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
    """
    code = read_template(script) if script else ""
    policy = _POLICY
    if code:
        digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup(read_template(_STYLE)),  # noqa: S704 - our own file
            script=Markup(code),  # noqa: S704 - our own file
            **values,
        )
    )


def read_template(name: str) -> str:
    """The text of a file in `templates/`, with a line feed at each line's end."""
    folder = files("patchcore_build.report").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["four_digits"] = four_digits
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _shown(value: object) -> object:
    """What `{{ value }}` becomes before it is escaped; a missing value is a mistake of ours."""
    if value is None:
        raise TypeError("a template shows a value that is None; test for it in the template")
    if isinstance(value, (Markup, jinja2.Undefined)):
        return value
    return printable(str(value))
