"""Let the n-th write, rename, fsync, open or allocation of a command fail, and judge what it does.

The law: each file is the old or the new one, whole; nothing half-written remains; the command says
in one line why; it ends with exit code 0 or 1; and every image has its line, whatever happens to
the files beside it. fault_shim.c makes the failures, fault_server.py runs the commands.
"""

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos
from fault_server import KINDS
from faults import environment
from patchcore_runtime import Artifact, ArtifactError
from patchcore_runtime.errors import MonitorError
from patchcore_runtime.monitor.state import read_state

__all__ = ["COMMANDS", "KINDS", "Workplace", "injected", "no_shim", "server", "whole_run", "wrong"]

SUPPORT = Path(__file__).parent
COMMANDS = ("fit", "learn", "score", "monitor")
IMAGES = 3  # of score and monitor
SUMMARY = " images scored, "
_OLD = b"the old file\n"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one command did: `calls` counts the calls of each kind, failed or not."""

    code: int
    stdout: str
    stderr: str
    calls: dict[str, int]


class Server:
    """The process into which the shim is preloaded."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, argv: list[str], kind: str, nth: int, *, onward: bool) -> Run:
        """Run a command whose nth call fails, and each later one with `onward`; 0: none fails."""
        request = {"argv": argv, "kind": kind, "nth": nth, "onward": int(onward)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Run(**json.loads(self._process.stdout.readline()))


def no_shim() -> str:
    """Return why faults cannot be injected here, or an empty text."""
    if not sys.platform.startswith("linux"):
        return "needs LD_PRELOAD, as Linux has it"
    return "" if shutil.which("cc") else "needs a C compiler (cc)"


@contextlib.contextmanager
def server(scratch: Path) -> Iterator[Server]:
    """Compile the shim into a folder, and start the server."""
    shim = scratch / "fault_shim.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", shim, SUPPORT / "fault_shim.c", "-ldl"]
    subprocess.run(list(map(str, command)), check=True)
    environ = environment(LD_PRELOAD=str(shim), OPENBLAS_NUM_THREADS="1")
    environ["PYTHONPATH"] += f"{os.pathsep}{SUPPORT}"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", SUPPORT / "fault_server.py"], env=environ, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


class Workplace:
    """Inputs of the commands, and a folder for the outputs of one run."""

    def __init__(self, scratch: Path) -> None:
        self.photos = write_photos(scratch / "photos", 30)
        self.artifact = make_artifact(scratch / "artifact", self.photos, tiny_config())
        self.few = write_photos(scratch / "few", 2)
        self.strange = scratch / "strange.png"
        pixels = striped_photo(0)
        pixels[30:60, 40:90] = np.random.default_rng(0).integers(0, 256, (30, 50, 3))
        Image.fromarray(pixels).save(self.strange)
        self.images = sorted(self.photos.iterdir())[:IMAGES]
        self.out = scratch / "out"
        self._sums = (self.artifact / "SHA256SUMS").read_bytes()

    def arguments(self, command: str) -> list[str]:
        """Return the arguments of a command."""
        images, options = list(map(str, self.images)), ["--threads", "1"]
        new = str(self.out / "new")
        listed = {
            "fit": [str(self.few), new],
            "learn": [str(self.artifact), str(self.strange), "--output", new],
            "score": [str(self.artifact), *images, "--csv", str(self.table), "--maps",
                      str(self.out / "maps"), *options],
            "monitor": [str(self.artifact), *images, "--state", str(self.state), *options],
        }  # fmt: skip
        return [command, *listed[command]]

    @property
    def table(self) -> Path:
        """The table of `score`."""
        return self.out / "scores.csv"

    @property
    def state(self) -> Path:
        """The state file of `monitor`."""
        return self.out / "state"

    def prepare(self, command: str) -> None:
        """Empty the folder of outputs; files that the command replaces are there."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        if command == "score":
            (self.out / "maps").mkdir()
            for path in (self.table, *self._maps()):
                path.write_bytes(_OLD)

    def _maps(self) -> list[Path]:
        return [self.out / "maps" / f"{path.name}.heatmap.png" for path in self.images]

    def faults_of(self, command: str, run: Run) -> list[str]:
        """Return what is wrong with the outputs of a run."""
        if command in ("fit", "learn"):
            return self._artifact_faults(run)
        faults = [f"left {path.name}" for path in self.out.rglob(".*")]
        if command == "score":
            known = {self.table, *self._maps(), self.out / "maps"}
            faults += [f"left {path.name}" for path in self.out.rglob("*") if path not in known]
            faults += [f"broken {path.name}" for path in self._maps() if not _whole_map(path)]
            return faults + self._table_faults(run)
        return faults + self._state_faults(run)

    def _artifact_faults(self, run: Run) -> list[str]:
        new = self.out / "new"
        # The stand-in for the fit keeps a folder for its features.
        left = [path.name for path in self.out.iterdir() if path.name not in ("new", "new-scratch")]
        faults = [f"left {name}" for name in left]
        if self._sums != (self.artifact / "SHA256SUMS").read_bytes():
            faults.append("the source has changed")
        if new.exists():
            try:
                Artifact.open(new).verify()
            except ArtifactError as error:
                faults.append(f"broken: {error}")
        if (run.code == 0 or "nothing was kept" in run.stderr) and new.exists() != (run.code == 0):
            faults.append("exit code, words and artifact do not agree")
        return faults

    def _table_faults(self, run: Run) -> list[str]:
        content = self.table.read_bytes()
        if content == _OLD:
            return ["table was not written, but exit code 0"] if run.code == 0 else []
        rows = list(csv.DictReader(content.decode().splitlines()))
        names = [str(path) for path in self.images]
        whole = [row["image"] for row in rows] == names and content.endswith(b"\r\n")
        return [] if whole else ["broken table"]

    def _state_faults(self, run: Run) -> list[str]:
        try:
            # Any artifact's state must be whole; its digest is in it.
            digest = json.loads(self.state.read_text())["artifact"] if self.state.exists() else ""
            state = read_state(self.state, digest)
        except (MonitorError, ValueError) as error:
            return [f"broken state: {error}"]
        if run.code == 0 and (state is None or state.images != IMAGES):
            return ["exit code 0, but the state is not that of the last image"]
        return []


def _whole_map(path: Path) -> bool:
    if path.read_bytes() == _OLD:
        return True
    try:
        Image.open(path).load()
    except OSError:
        return False
    return True


def whole_run(running: Server, place: Workplace, command: str) -> Run:
    """Run a command without a failure."""
    place.prepare(command)
    run = running.run(place.arguments(command), KINDS[0], 0, onward=False)
    assert run.code == 0, run
    assert wrong(command, KINDS[0], place, run) == []
    return run


def wrong(command: str, kind: str, place: Workplace, run: Run) -> list[str]:
    """Return how a run breaks the law."""
    faults = place.faults_of(command, run)
    if run.code not in (0, 1):
        faults.append(f"exit code {run.code}: {run.stderr[-300:]!r}")
    said, expected = run.stderr.splitlines(), run.code  # one line if it is refused
    if command in ("score", "monitor"):
        rows = run.stdout.splitlines()
        # Whatever fails, each image has its line, and a summary is printed. Only a command that
        # cannot begin, or cannot print, is refused as a whole.
        if said and (SUMMARY in said[-1] or rows) and kind != "print":
            faults += _row_faults(rows, said)
            refused = sum("error" in json.loads(row) for row in rows)
            lines = len(said) - 1 - refused  # of the table, or of the state file
            if lines > 1 or (run.code == 1) != bool(lines or refused):
                faults.append(f"exit code {run.code}, {refused} refused: {said}")
            return faults
        expected += run.code == 0  # the summary
    if len(said) != expected:
        faults.append(f"exit code {run.code} and {len(said)} lines: {said}")
    return faults


def _row_faults(rows: list[str], said: list[str]) -> list[str]:
    faults = []
    if len(rows) != IMAGES:
        faults.append(f"{len(rows)} lines on stdout for {IMAGES} images")
    if not said or SUMMARY not in said[-1]:
        faults.append(f"no summary: {said}")
    rest = (row for row in map(json.loads, rows) if not {"error", "score"} & row.keys())
    return faults + [f"neither a score nor an error: {row}" for row in rest]


def injected(
    running: Server,
    place: Workplace,
    command: str,
    good: Run,
    kind: str,
    *,
    onward: bool,
    most: int,
) -> Iterator[tuple[int, Run, list[str]]]:
    """Let the n-th call of a kind fail, for at most `most` n over all calls that `good` made.

    Yields n, the run, and how it breaks the law.
    """
    calls = good.calls[kind]
    for nth in np.unique(np.linspace(1, calls, min(most, calls)).round().astype(int)).tolist():
        place.prepare(command)
        run = running.run(place.arguments(command), kind, nth, onward=onward)
        if run.calls[kind] < nth:  # it made fewer calls this time
            return
        yield nth, run, wrong(command, kind, place, run)
