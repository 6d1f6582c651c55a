"""How comparisons are timed: ours and the yardstick by turns, the median of several repeats, on chosen cores."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How much work a benchmark puts into its figures."""

    repeats: int = 5
    seconds: float = 1.0  # of each repeat, about
    peers: bool = True  # install and run other people's software
    small: bool = False  # sizes for a test of the benchmark itself; such figures mean nothing


FULL = Effort()
QUICK = Effort(repeats=1, seconds=0.05, peers=False, small=True)


def by_turns(measures: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """Return the median of each measure; they take turns, so that all see the same drift of the machine."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(repeats):
        for measure, values in zip(measures, found, strict=True):
            values.append(measure())
    return [statistics.median(values) for values in found]


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median seconds of `repeats` runs of `work`, after one that is not counted."""
    work()
    return by_turns([lambda: seconds_of(work)], repeats)[0]


def median_rate(work: Callable[[], object], amount: float, repeats: int = 5) -> float:
    """Return `amount` a second of the median of `repeats` runs of `work`, after one that is not counted."""
    return amount / median_seconds(work, repeats)


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds of one run of `work`."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rate_of(work: Callable[[], object], amount: float, seconds: float) -> float:
    """Return `amount` for each call of `work`, a second, over as many calls as fill `seconds`."""
    calls, start = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        spent = time.perf_counter() - start
        if spent >= seconds:
            return calls * amount / spent


def cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(number: int, effort: Effort = FULL) -> Iterator[None]:
    """Have this process use the first `number` of its cores, and all again afterwards; figures of no worth move on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if effort.small else cores()[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
