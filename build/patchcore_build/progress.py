"""Show the progress of long steps, and measure the time of each stage.

label, total -> callback(done, total), which the long functions of this package take: a bar with an
ETA on a terminal; elsewhere a plain line after a second, and then every ten seconds. A thread
writes the lines, so that a step without a callback shows that it lives, too.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

Progress = Callable[[int, int | None], None]  # done, total (None if unknown)

FIRST_LINE_S = 0.8
EVERY_S = 10.0


@contextmanager
def progress_bar(label: str, unit: str = "it") -> Iterator[Progress]:
    """A bar on stderr if it is a terminal, which disappears at the end; else plain lines."""
    if not sys.stderr.isatty():
        with _Lines(label, unit, sys.stderr) as lines:
            yield lines.show
        return
    bar: tqdm[Any] = tqdm(desc=label, unit=unit, leave=False)
    with bar, _redrawn(bar):

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


@contextmanager
def _redrawn(bar: "tqdm[Any]") -> Iterator[None]:
    """Redraw a bar each second, so that its time runs during a step that reports nothing."""
    with _every(bar.refresh, first_s=1.0, then_s=1.0):
        yield


class _Lines:
    """Plain lines about one step, at a low rate; none if it ends within `FIRST_LINE_S`."""

    def __init__(self, label: str, unit: str, stream: TextIO) -> None:
        self._label, self._unit, self._stream = label, unit, stream
        self._done, self._total = 0, 0
        self._start = time.monotonic()
        self._ticks = _every(self._write, first_s=FIRST_LINE_S, then_s=EVERY_S)

    def __enter__(self) -> "_Lines":
        self._ticks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._ticks.__exit__(None, None, None)

    def show(self, done: int, total: int | None) -> None:
        """Note how far the step is; the next line says it."""
        self._done, self._total = done, total or 0

    def _write(self) -> None:
        passed = time.monotonic() - self._start
        line = progress_line(self._label, self._unit, self._done, self._total, passed)
        print(line, file=self._stream, flush=True)


def progress_line(label: str, unit: str, done: int, total: int | None, passed_s: float) -> str:
    """A plain line: the step, how far it is, and how long the rest will take at this rate.

    Args:
        label: Name of the step.
        unit: What is counted.
        done: Units that are done.
        total: Units in all; None if unknown.
        passed_s: Seconds since the step began.
    """
    if not done:
        return f"{label} …"
    if not total:
        return f"{label}: {done} {unit}s …"
    left_s = passed_s * max(0, total - done) / done
    return f"{label}: {done} of {total} {unit}s, about {left_s:.0f} s left …"


@contextmanager
def _every(act: Callable[[], object], *, first_s: float, then_s: float) -> Iterator[None]:
    """Call a function in a thread of its own, first after `first_s` seconds, then regularly."""
    ended = threading.Event()

    def run() -> None:
        wait_s = first_s
        while not ended.wait(wait_s):
            act()
            wait_s = then_s

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def silent(done: int, total: int | None) -> None:
    """A progress callback that does nothing."""


class Stopwatch:
    """Seconds per named stage; times of a stage that runs several times are added.

    Args:
        after_stage: Called at the end of every stage.
    """

    def __init__(self, after_stage: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._after_stage = after_stage

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        yield
        if self._after_stage is not None:
            self._after_stage()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def shown(self, name: str, unit: str = "it") -> Iterator[Progress]:
        """`stage` with a `progress_bar` of the same name."""
        with self.stage(name), progress_bar(name, unit) as progress:
            yield progress
