"""Process several images in parallel and return their results in order.

items + a function -> results in order. Each worker performs all steps of an image. This keeps the
cores busier than several threads per image, which wait for one another after every operator
(benchmarks/results/results.md). NumPy, Pillow and onnxruntime release the interpreter lock while
they compute.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

MOST_BYTES = 2**31  # of the images that are worked on at once, unless there is only one

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MOST_WORKERS = 4  # twice as many images are in memory at once


class MemoryBudget:
    """Bytes that workers share: each waits until those of its image are free.

    An image that alone needs more than there is waits until it is the only one.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._used = 0
        self._freed = threading.Condition()

    @contextmanager
    def image(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that reserves bytes, once; the end of the block frees them."""
        taken = 0

        def reserve(needed: int) -> None:
            nonlocal taken
            with self._freed:
                self._freed.wait_for(lambda: not self._used or self._used + needed <= self._most)
                self._used += needed
                taken = needed

        try:
            yield reserve
        finally:
            with self._freed:
                self._used -= taken
                self._freed.notify_all()


def workers_for(threads: int, items: int) -> int:
    """Return the number of items to process in parallel with that many threads; at least one."""
    return max(1, min(threads, items, MOST_WORKERS))


def work_in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int
) -> Iterator[_Result]:
    """Yield `work(item)` of each item in order, as soon as it and all results before it are ready.

    At most twice as many items as workers are started ahead, so memory is bounded. An exception
    of `work` is raised at that item's turn, and no further item is started. Closing the iterator
    early waits for the running items and starts no others.

    Args:
        work: Called from several threads in parallel if `workers` is above 1.
        items: Items, taken one by one.
        workers: Number of threads; with 1 the caller's thread does the work.
    """
    if workers == 1:
        yield from map(work, items)
        return
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="patchcore") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) == 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
