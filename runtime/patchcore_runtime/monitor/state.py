"""A monitor's state <-> one small JSON file that survives a power cut.

The file is written under another name, flushed to the disk and renamed, so a complete file always
exists. An embedded checksum detects corruption.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.errors import ArtifactError, MonitorError, OutputError
from patchcore_runtime.files.locks import exclusive
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.files.strict_json import build, check, parse_json
from patchcore_runtime.files.whole import write_whole

FORMAT = "patchcore-monitor"
VERSION = 2
MOST_STATE_BYTES = 2**24  # of a file; a state has a few thousand


@dataclass(frozen=True, kw_only=True)
class ChartState:
    """The state of one statistic's chart."""

    statistic: str
    average: float
    far: int  # 0 or 1, as `Chart.far`
    unlike: int
    window: tuple[float, ...]

    def __post_init__(self) -> None:
        check(self.far in (0, 1), "far", "0 or 1")
        check(self.unlike in (0, 1), "unlike", "0 or 1")


@dataclass(frozen=True, kw_only=True)
class MonitorState:
    """The state of all charts, after a number of images scored by one artifact."""

    format: str = FORMAT
    version: int = VERSION
    artifact: str  # SHA-256 of its training digest and held-out scores
    images: int
    charts: tuple[ChartState, ...]


@contextlib.contextmanager
def locked_state(path: Path) -> Iterator[None]:
    """Keep other processes from using a state file in the block.

    Two processes would each write what they know, and the line would lose images.

    Raises:
        MonitorError: another process uses the file, or its folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(path))
        except BlockingIOError:
            raise MonitorError(
                f"{path}: another process monitors with this file; wait for its end, or choose "
                "another --state"
            ) from None
        except OSError as error:
            raise MonitorError(f"{path}: cannot be locked ({error.strerror})") from None
        yield


def write_state(path: Path, state: MonitorState) -> None:
    """Write or replace a state file; a power cut leaves the old file or the new one.

    Raises:
        MonitorError: the folder cannot be written, or the disk is full; an older file remains.
    """
    text = _text(dataclasses.asdict(state))
    try:
        write_whole(path, text.encode(), sync=True)
    except OutputError as error:
        raise MonitorError(str(error)) from error


def read_state(path: Path, artifact: str) -> MonitorState | None:
    """Load the state from a file; return None if the file does not exist yet.

    Args:
        path: The file.
        artifact: Digest of the artifact that the state must belong to.

    Raises:
        MonitorError: the file is damaged, of another artifact, or of another version.
    """
    try:
        content = read_regular(path, limit=MOST_STATE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MonitorError(f"{path}: cannot be read ({error.strerror}); choose another") from error
    try:
        document = parse_json(content.decode("utf-8"))
        digest = document.pop("sha256")
        whole = digest == _digest(document)
    except (ValueError, AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise MonitorError(
            f"{path}: expected a monitor's state with a valid checksum, got a corrupt or other "
            "file; remove it to begin again"
        )
    version = document.get("version")
    if document.get("format") != FORMAT or version != VERSION:
        raise MonitorError(
            f"{path}: version: expected {VERSION}, got {version!r:.40}; remove it to begin again"
        )
    try:
        state = build(MonitorState, document, str(path), advice="remove it and begin again")
    except ArtifactError as error:
        raise MonitorError(str(error)) from None
    if state.artifact != artifact:
        raise MonitorError(
            f"{path}: belongs to another artifact; choose another --state, or remove it to begin "
            "again"
        )
    return state


def _text(document: dict[str, object]) -> str:
    return json.dumps({**document, "sha256": _digest(document)}) + "\n"


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
