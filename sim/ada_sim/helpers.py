"""Threads that help the one that steps: each carries out a call of its own when a bell rings, and no one waits for it.

Futures would cost as much as the steps of 80 worlds: here a bell is a lock, and who takes part, and when all is done,
is settled between the calls themselves (`engine.sharing`).
"""

import threading
import weakref
from collections.abc import Callable, Sequence


class Helpers:
    """One thread a call. The calls must not raise, nor mind to begin late or once too often."""

    def __init__(self, calls: Sequence[Callable[[], object]]) -> None:
        self._bells = [threading.Lock() for _ in calls]
        for bell in self._bells:
            bell.acquire()
        closed = threading.Event()
        self._threads = [
            threading.Thread(target=_help, args=(call, bell, closed), daemon=True, name=f"helper {n}")
            for n, (call, bell) in enumerate(zip(calls, self._bells, strict=True))
        ]
        for thread in self._threads:
            thread.start()
        self._end = weakref.finalize(self, _end, self._bells, closed)

    def ring(self, awake: int) -> None:
        """Have every thread carry out its call once more, unless all of them are awake anyway."""
        if awake < len(self._bells):
            _ring(self._bells)

    def close(self) -> None:
        """End the threads."""
        self._end()
        for thread in self._threads:
            thread.join()


def _help(call: Callable[[], object], bell: threading.Lock, closed: threading.Event) -> None:
    while True:
        bell.acquire()
        if closed.is_set():
            return
        call()


def _ring(bells: Sequence[threading.Lock]) -> None:
    for bell in bells:
        if bell.locked():  # else the thread has not heard the last ring yet
            bell.release()


def _end(bells: Sequence[threading.Lock], closed: threading.Event) -> None:
    closed.set()
    _ring(bells)
