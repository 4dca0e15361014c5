"""What a monitor remembers <-> one small JSON file that survives a power cut.

The file is written beside, flushed to the disk and renamed, so there is always a whole one; a
digest inside finds what the disk spoilt.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from patchcore_runtime.errors import ArtifactError, MonitorError
from patchcore_runtime.files.strict_json import build, check, parse_json

FORMAT = "patchcore-monitor"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ChartState:
    """One statistic's chart."""

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
    """All charts, after a number of pictures of one artifact."""

    format: str = FORMAT
    version: int = VERSION
    artifact: str  # SHA-256 of its manifest.json's content
    pictures: int
    charts: tuple[ChartState, ...]


def write_state(path: Path, state: MonitorState) -> None:
    """Write or replace a state file; a power cut leaves the old one or the new one.

    Raises:
        MonitorError: the folder cannot be written, or the disk is full; an older file stays.
    """
    text = _text(dataclasses.asdict(state))
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise MonitorError(
            f"{path}: cannot be written ({error.strerror}); create the folder or free the disk"
        ) from error


def _flush_folder(folder: Path) -> None:
    """Make a rename last; Windows cannot open folders and does not need it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_state(path: Path, artifact: str) -> MonitorState | None:
    """The state in a file; None where there is no file yet.

    Args:
        path: The file.
        artifact: Digest that it has to be of.

    Raises:
        MonitorError: the file is damaged, of another artifact, or of another version.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MonitorError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        document = parse_json(content.decode("utf-8"))
        digest = document.pop("sha256")
        whole = digest == _digest(document)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise MonitorError(
            f"{path}: expected a monitor's state whose digest fits, got a damaged or other file; "
            "remove it to begin anew"
        )
    version = document.get("version")
    if document.get("format") != FORMAT or version != VERSION:
        raise MonitorError(
            f"{path}: version: expected {VERSION}, got {version!r:.40}; remove it to begin anew"
        )
    try:
        state = build(MonitorState, document, str(path), "")
    except ArtifactError as error:
        raise MonitorError(str(error).replace("copy the folder", "remove it and begin")) from None
    if state.artifact != artifact:
        raise MonitorError(
            f"{path}: belongs to another artifact; name another --state, or remove it to begin anew"
        )
    return state


def _text(document: dict[str, object]) -> str:
    return json.dumps({**document, "sha256": _digest(document)}) + "\n"


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
