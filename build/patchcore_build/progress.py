"""Tell a person how far a long step is: a bar with an ETA on a terminal, silence elsewhere.

label, total -> callback(done, total), as the long functions of this package take it.
"""

import sys
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
    """The callback of those who do not want to know."""
