"""Show the progress of long steps, and measure the time of each stage.

label, total -> callback(done, total), which the long functions of this package take: a bar with an
ETA on a terminal, nothing elsewhere. Stage names -> seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[int, int | None], None]  # done, total (None if unknown)


@contextmanager
def progress_bar(label: str, unit: str = "it") -> Iterator[Progress]:
    """A bar on stderr if stderr is a terminal; it disappears when the block ends."""
    hidden = not sys.stderr.isatty()
    with tqdm(desc=label, unit=unit, leave=False, delay=0.5, disable=hidden) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


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
