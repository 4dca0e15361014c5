"""Names of files and texts of strangers -> text that is safe to print.

artifacts/FORMAT.md, section Names, defines the shown form of a name. Different names have different
forms, and no form can steer a terminal, break a line, or be invalid Unicode. Ordinary names are
unchanged.
"""

import os
import re
from pathlib import Path

# Control characters, marks that reverse the writing direction, line separators, surrogates.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_UNSAFE_TEXT = re.compile(f"[{_UNSAFE}]")
_UNSAFE_NAME = re.compile(f"[\\\\{_UNSAFE}]")
# Spreadsheets take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LONGEST_NAME = 255  # bytes of a file name on common file systems


def shown(name: str) -> str:
    r"""Return the form of a name in JSON, tables, pages and messages: O(length).

    Args:
        name: A file name or path. Bytes that are not UTF-8 are surrogates, as in `os.fsdecode`.

    Returns:
        The name with `\\` for a backslash, `\xNN` for a control character and for a byte that is
        not UTF-8, and `\uNNNN` for other characters that a terminal may obey.
    """
    return _UNSAFE_NAME.sub(_escaped, name)


def shown_path(path: str | os.PathLike[str]) -> str:
    """Return the `shown` form of a path, with forward slashes."""
    return shown(Path(path).as_posix())


def printable(text: str) -> str:
    """Return a text as one line that is safe to print: as `shown`, but backslashes stay."""
    return _UNSAFE_TEXT.sub(_escaped, text)


def cell(text: str) -> str:
    """Return a text as a cell of a CSV table; a formula gets an apostrophe before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def with_suffix(name: str, suffix: str) -> str:
    """Return a file name with a suffix added, shortened to what file systems allow.

    Args:
        name: Path below a folder, with forward slashes; only its last part is changed.
        suffix: Such as `.heatmap.png`.
    """
    import hashlib

    folder, slash, last = name.rpartition("/")
    raw, end = os.fsencode(last), os.fsencode(suffix)
    if len(raw) + len(end) > _LONGEST_NAME:
        mark = b"~" + hashlib.sha256(raw).hexdigest()[:16].encode()
        raw = raw[: _LONGEST_NAME - len(end) - len(mark)] + mark
    return folder + slash + os.fsdecode(raw + end)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}"
