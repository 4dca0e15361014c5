"""How far a long step is, and how long each took.

label, total -> callback(done, total), as the long functions of this package take it; a bar with an
ETA on a terminal, silence elsewhere. Stage names -> seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[int, int | None], None]  # done, total (None: not known)


@contextmanager
def progress_bar(label: str, unit: str = "it") -> Iterator[Progress]:
    """A bar on stderr, shown only where stderr is a terminal; gone when the block ends."""
    hidden = not sys.stderr.isatty()
    with tqdm(desc=label, unit=unit, leave=False, delay=0.5, disable=hidden) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def silent(done: int, total: int | None) -> None:
    """A progress callback that does nothing."""


class Stopwatch:
    """Seconds per named stage; a stage may come several times.

    Args:
        after_stage: Called at the end of every stage.
    """

    def __init__(self, after_stage: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._after_stage = after_stage

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.perf_counter()
        yield
        if self._after_stage is not None:
            self._after_stage()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
