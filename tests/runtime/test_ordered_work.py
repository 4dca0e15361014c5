"""Laws of parallel work: results in order, bounded memory, and a clean early end."""

import threading
import time

import pytest

from patchcore_runtime.ordered_work import (
    MOST_WORKERS,
    MemoryBudget,
    work_in_order,
    workers_for,
)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_results_come_in_the_order_of_the_items(workers, count):
    def work(item):
        time.sleep(0.001 * (item % 3))
        return item * item

    assert list(work_in_order(work, range(count), workers=workers)) == [i * i for i in range(count)]


def test_several_items_are_in_work_at_once_and_never_more_than_the_workers():
    meeting, most, lock, inside = threading.Barrier(3), [0], threading.Lock(), [0]

    def work(item):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        meeting.wait(timeout=30)  # three must be here at once, or this breaks
        with lock:
            inside[0] -= 1
        return item

    assert list(work_in_order(work, range(9), workers=3)) == list(range(9))
    assert most[0] == 3


def test_items_are_taken_no_further_ahead_than_twice_the_workers():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = work_in_order(lambda item: item, items(), workers=2)
    assert taken == []
    for item in range(50):
        assert next(results) == item
        assert len(taken) <= item + 4
    results.close()


def test_a_failure_is_raised_in_its_place_and_ends_the_work():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError("item 3")
        return item

    results = work_in_order(work, range(1000), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="item 3"):
        next(results)
    assert len(begun) <= 8


@pytest.mark.parametrize("how", ["close", "use up"])
def test_no_thread_is_left_behind(how):
    results = work_in_order(lambda item: item, range(20), workers=4)
    assert next(results) == 0
    if how == "close":
        results.close()
    else:
        list(results)
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("patchcore") for name in names)


def test_workers_are_bounded_by_threads_items_and_memory():
    assert workers_for(8, 1) == 1
    assert workers_for(1, 100) == 1
    assert workers_for(2, 100) == 2
    assert workers_for(64, 100) == MOST_WORKERS
    assert workers_for(4, 0) == 1


@pytest.mark.parametrize("needed", [30, 60, 500])
def test_images_in_work_never_need_more_than_the_budget(needed):
    """One image that needs more than there is runs alone."""
    budget, inside, most, lock = MemoryBudget(100), [0], [0], threading.Lock()

    def work(_):
        with budget.image() as reserve:
            reserve(needed)
            with lock:
                inside[0] += needed
                most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            with lock:
                inside[0] -= needed

    list(work_in_order(work, range(20), workers=4))
    assert most[0] == max(needed, 100 // needed * needed)


def test_an_image_that_fails_gives_its_bytes_back():
    budget = MemoryBudget(100)

    def fail():
        with budget.image() as reserve:
            reserve(100)
            raise MemoryError

    for _ in range(3):
        with pytest.raises(MemoryError):
            fail()
    with budget.image():  # refused before it reserved anything
        pass
    with budget.image() as reserve:
        reserve(100)
