"""Several images in work at once, their results in the order of the images.

items + a function -> results in order. Each worker does all steps of an image by itself: that
keeps the cores busier than one image shared by several threads, which wait for one another
after every operator (benchmarks/results/results.md). NumPy, Pillow and onnxruntime let go of the
interpreter while they compute.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MOST_WORKERS = 4  # images in memory at once: twice as many


def workers_for(threads: int, items: int) -> int:
    """How many items to work on at once with that many threads in all; at least one."""
    return max(1, min(threads, items, MOST_WORKERS))


def work_in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int
) -> Iterator[_Result]:
    """Yield `work(item)` of each item, in order, as soon as it and all before it are there.

    At most twice as many items as workers are begun before their turn, so memory stays bounded.
    What `work` raises is raised in that item's place; items after it are then not begun. Closing
    the iterator early waits for those in work and begins no others.

    Args:
        work: Called from several threads at once where `workers` is above 1.
        items: Taken one by one.
        workers: Threads; 1 works in the caller's.
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
