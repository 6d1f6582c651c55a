"""The operator's queue: nothing is overlooked, nothing is done twice at once, failures wait longer each time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ada_operator import work_queue
from ada_operator.work_queue import LONGEST_BACKOFF_S, WorkQueue, backoff_s

KEY, OTHER = ("ns", "one"), ("ns", "two")


def run_with_workers(
    queue: WorkQueue, act: Callable[[], Awaitable[None]], workers: int = 2, timeout_s: float = 20.0
) -> None:
    """Run `act` beside the queue's workers."""

    async def both() -> None:
        tasks = [asyncio.create_task(queue.run_worker()) for _ in range(workers)]
        try:
            await asyncio.wait_for(act(), timeout_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(both())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "PAUSE_S", 0.01)
    monkeypatch.setattr(work_queue, "FIRST_BACKOFF_S", 0.01)


def test_a_key_added_many_times_before_it_is_worked_on_is_worked_on_once():
    done = []

    async def work(key):
        done.append(key)

    queue = WorkQueue(work)

    async def act():
        for _ in range(100):
            queue.add(KEY)
        queue.add(OTHER)
        await until(lambda: OTHER in done)

    run_with_workers(queue, act, workers=1)
    assert done == [KEY, OTHER]


def test_a_key_added_while_it_is_worked_on_is_worked_on_once_more_and_never_twice_at_once():
    running, most, rounds = 0, 0, 0

    async def work(key):
        nonlocal running, most, rounds
        running += 1
        most = max(most, running)
        if rounds == 0:
            for _ in range(50):
                queue.add(key)
        await asyncio.sleep(0.02)
        rounds += 1
        running -= 1

    queue = WorkQueue(work)

    async def act():
        queue.add(KEY)
        await until(lambda: rounds == 2)
        await asyncio.sleep(0.1)

    run_with_workers(queue, act, workers=4)
    assert (most, rounds) == (1, 2)


def test_a_key_whose_work_fails_is_tried_again_and_others_are_not_held_up():
    tries: list[tuple[str, str]] = []

    async def work(key):
        tries.append(key)
        if key == KEY and tries.count(KEY) < 4:
            raise RuntimeError("not yet")

    queue = WorkQueue(work, (RuntimeError,))

    async def act():
        queue.add(KEY)
        queue.add(OTHER)
        await until(lambda: tries.count(KEY) == 4)

    run_with_workers(queue, act, workers=1)
    assert tries.index(OTHER) == 1


def test_work_may_ask_to_be_called_again_and_the_earlier_of_two_times_holds():
    times = 0

    async def work(key):
        nonlocal times
        times += 1
        return 0.02 if times < 3 else None

    queue = WorkQueue(work)

    async def act():
        queue.add_after(KEY, 1000)
        queue.add_after(KEY, 0.01)
        queue.add_after(KEY, 1000)
        await until(lambda: times == 3)

    run_with_workers(queue, act)
    assert times == 3


def test_backoff_doubles_is_capped_and_jitters_within_half():
    assert [backoff_s(n, 1.0) for n in (1, 2, 3)] == [0.01, 0.02, 0.04]
    assert backoff_s(10_000, 1.0) == LONGEST_BACKOFF_S
    assert backoff_s(10_000, 0.0) == LONGEST_BACKOFF_S / 2


def test_a_patient_key_is_passed_over_by_those_that_come_within_its_patience_and_no_longer():
    done: list[tuple[str, str]] = []
    late = ("ns", "late")

    async def work(key):
        done.append(key)

    queue = WorkQueue(work, patience_s=lambda key: 0.05 if key == KEY else 0.0)

    async def act():
        await asyncio.sleep(0)
        queue.add(KEY)
        queue.add(OTHER)
        await asyncio.sleep(0.1)
        queue.add(late)

    async def all_of_it():
        await act()  # nobody works yet
        worker = asyncio.create_task(queue.run_worker())
        await asyncio.wait_for(until(lambda: late in done), 10)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(all_of_it())
    assert done == [OTHER, KEY, late]


def test_what_happened_comes_before_routine_also_for_a_key_that_waits_as_routine_already():
    done: list[tuple[str, str]] = []

    async def work(key):
        done.append(key)

    queue = WorkQueue(work)
    routine = [("ns", f"run-{number}") for number in range(20)]

    async def all_of_it():
        for key in routine:
            queue.add(key, routine=True)
        queue.add(routine[-1])
        queue.add(OTHER)
        assert len(queue) == 21
        worker = asyncio.create_task(queue.run_worker())
        await asyncio.wait_for(until(lambda: len(queue) == 0), 10)
        await asyncio.sleep(0.05)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(all_of_it())
    assert done == [routine[-1], OTHER, *routine[:-1]]


def test_routine_is_not_passed_over_for_longer_than_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "ROUTINE_PATIENCE_S", 0.05)
    done: list[tuple[str, str]] = []

    async def work(key):
        done.append(key)
        await asyncio.sleep(0.02)

    queue = WorkQueue(work)

    async def act():
        queue.add(KEY, routine=True)
        for number in range(1000):
            queue.add(("ns", f"run-{number}"))
            await asyncio.sleep(0.01)
            if KEY in done:
                return

    run_with_workers(queue, act, workers=1)
    assert 1 < len(done) < 1000 and KEY in done


def test_work_on_one_key_that_hangs_holds_up_no_other():
    done: set[tuple[str, str]] = set()
    never = asyncio.Event()

    async def work(key):
        if key == KEY:
            await never.wait()
        done.add(key)

    queue = WorkQueue(work)
    others = [("ns", f"run-{number}") for number in range(1000)]

    async def act():
        queue.add(KEY)
        for key in others:
            queue.add(key)
        await until(lambda: len(done) == len(others))

    run_with_workers(queue, act)
    assert KEY not in done
