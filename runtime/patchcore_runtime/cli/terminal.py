"""What the commands print: one line for each thing, safe for a terminal, and nothing of libraries.

text, JSON values, errors -> stdout and stderr. Names and texts of strangers cannot steer the
terminal: see `files/names.py`. Libraries in C write to file descriptor 2 on their own (libtiff
about damaged images, onnxruntime about graphs); the commands keep that aside.
"""

import contextlib
import json
import logging
import math
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TextIO

from patchcore_runtime.errors import ImageWarning, OutputError, PatchCoreError
from patchcore_runtime.files.names import printable, shown_path

_LAYOUT = re.compile("[\n\r\t]")  # of our own lines and progress bars
_LINES_KEPT = 20  # of foreign messages, shown when a command breaks


def print_json(value: Any) -> None:
    """Print a value as one line of JSON.

    Numbers that JSON cannot express become null, and paths have their shown form.
    """
    print(json.dumps(_plain(value), allow_nan=False), flush=True)


def print_error(program: str, message: object) -> None:
    """Print a message as one line on stderr."""
    print(f"{program}: {printable(str(message))}", file=sys.stderr)


def print_notes(program: str, notes: Iterable[str]) -> None:
    """Print each note as one line on stderr."""
    for note in notes:
        print_error(program, note)


def words_of(error: PatchCoreError | OSError) -> str:
    """Return what a refusal says; of an error of the system its file and its reason."""
    if isinstance(error, PatchCoreError):
        return str(error)
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


class SafeText:
    """A text stream that escapes everything a terminal may obey, except the ends of lines.

    Args:
        stream: The stream below.
        name: Name of the stream in the OutputError that says that it cannot be written.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """Write a text; return the number of characters given."""
        parts = _LAYOUT.split(text)
        layout = [*_LAYOUT.findall(text), ""]
        safe = (printable(part) + end for part, end in zip(parts, layout, strict=True))
        with self._named():
            self._stream.write("".join(safe))
        return len(text)

    def flush(self) -> None:
        """Hand everything written to the system."""
        with self._named():
            self._stream.flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written ({error.strerror})") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def safe_terminal(program: str) -> Iterator[None]:
    """Escape what is printed in the block, and keep foreign messages off stderr.

    An `ImageWarning` becomes one line of the program. If the block breaks with an unexpected
    exception, the last foreign messages are printed.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    stdout, stderr = sys.stdout, sys.stderr
    with warnings.catch_warnings(), _foreign_aside() as own:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("once", category=ImageWarning)
        warnings.showwarning = _shown_by(program, warnings.showwarning)
        for stream in (stdout, own):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        sys.stdout, sys.stderr = SafeText(stdout, "standard output"), SafeText(own, "stderr")
        try:
            yield
        finally:
            with contextlib.suppress(OSError, ValueError):
                own.flush()
            sys.stdout, sys.stderr = stdout, stderr


def _shown_by(program: str, usual: Callable[..., None]) -> Callable[..., None]:
    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, ImageWarning):
            print_error(program, message)
        else:
            usual(message, category, *place)

    return show


@contextlib.contextmanager
def _foreign_aside() -> Iterator[TextIO]:
    """Yield a stream to the real stderr; meanwhile file descriptor 2 leads to a hidden file.

    On a full disk it leads nowhere, because a command that writes no file needs no disk.
    """
    try:
        redirected = sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # captured by a test, or closed
        redirected = False
    if not redirected:
        yield sys.stderr
        return
    sys.stderr.flush()
    real = os.dup(2)
    with _hidden_file() as foreign, os.fdopen(real, "w", buffering=1) as own:
        os.dup2(foreign.fileno(), 2)
        try:
            yield own
        except Exception:
            lines = _text_of(foreign).splitlines()[-_LINES_KEPT:]
            own.writelines(printable(line) + "\n" for line in lines)
            raise
        finally:
            os.dup2(real, 2)


def _hidden_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return Path(os.devnull).open("wb")


def _text_of(foreign: IO[bytes]) -> str:
    if not foreign.readable():
        return ""
    foreign.seek(0)
    return foreign.read().decode(errors="replace")


def drop_output() -> None:
    """Let standard output lead nowhere: Python writes what is left there when the process ends."""
    with contextlib.suppress(OSError, ValueError):  # captured by a test, or closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return shown_path(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
