"""Keys that wait to be worked on: each at most once in the queue, each with at most one worker.

A key that is added while it is worked on is worked on again afterwards, so nothing that happened is overlooked, however
many events it made. Failures back off, doubling up to a limit, with jitter; success forgets them.

Keys are worked on in the order in which they were added, but that a patient one is passed over by those that come
within its patience: where many are added at once, a short first piece of work for each comes before long later ones.
Nobody is passed over for ever, since what comes later than that is behind.
"""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

Key = tuple[str, str]  # namespace, name
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 60.0
PAUSE_S = 0.2  # after a key was worked on, so that a burst of events costs one round more, not one each


def backoff_s(failures: int, share: float) -> float:
    """Return how long to wait after so many failures in a row (from 1).

    Args:
        share: where between half and the whole of the full wait; from [0, 1), drawn at random by the caller.
    """
    full = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 30))
    return full * (0.5 + 0.5 * share)


@dataclass
class _State:
    """What is known about one key."""

    queued: bool = False
    working: bool = False
    again: bool = False
    failures: int = 0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class WorkQueue:
    """A queue of keys with its workers; used from one event loop."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        plain_errors: tuple[type[Exception], ...] = (),
        patience_s: Callable[[Key], float] = lambda key: 0.0,
    ) -> None:
        """Make an empty queue.

        Args:
            work: handles a key and returns after how many seconds it wants it again, if at all.
            plain_errors: errors whose message says everything; for others the log shows where they came from.
            patience_s: for how long others that are added later may go before a key.
        """
        self._work, self._patience_s = work, patience_s
        self._plain_errors = plain_errors
        self._states: dict[Key, _State] = {}
        self._ready: asyncio.PriorityQueue[tuple[float, int, Key]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return self._ready.qsize()

    def add(self, key: Key) -> None:
        """Have a key worked on as soon as a worker is free."""
        state = self._states.setdefault(key, _State())
        if state.working:
            state.again = True
        elif not state.queued:
            self._enqueue(key, state)

    def add_after(self, key: Key, delay_s: float) -> None:
        """Have a key worked on after a while; an earlier time that was asked for holds."""
        loop = asyncio.get_running_loop()
        state = self._states.setdefault(key, _State())
        if state.timer is not None and state.timer.when() <= loop.time() + delay_s:
            return
        self._stop_timer(state)
        state.timer = loop.call_later(delay_s, self._on_timer, key, state)

    async def run_worker(self) -> None:
        """Work on keys until cancelled."""
        while True:
            _, _, key = await self._ready.get()
            state = self._states[key]
            state.queued, state.working, state.again = False, True, False
            self._stop_timer(state)
            try:
                delay_s = await self._work(key)
                state.failures = 0
            except Exception as error:
                state.failures += 1
                delay_s = backoff_s(state.failures, random.random())
                trace = None if isinstance(error, self._plain_errors) else error
                logger.warning("%s/%s: %s; trying again in %.1f s", *key, error, delay_s, exc_info=trace)
            finally:
                state.working = False
            self._schedule(key, state, delay_s)

    def _schedule(self, key: Key, state: _State, delay_s: float | None) -> None:
        if state.again and not state.failures:
            delay_s = PAUSE_S
        if delay_s is not None:
            self.add_after(key, max(delay_s, PAUSE_S))
        elif not state.queued and state.timer is None:
            del self._states[key]

    def _on_timer(self, key: Key, state: _State) -> None:
        state.timer = None
        self.add(key)

    def _enqueue(self, key: Key, state: _State) -> None:
        state.queued = True
        due = time.monotonic() + self._patience_s(key)
        self._ready.put_nowait((due, next(self._numbers), key))

    @staticmethod
    def _stop_timer(state: _State) -> None:
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None
