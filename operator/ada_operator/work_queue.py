"""Keys that wait to be worked on: each at most once in the queue, each with at most one worker.

A key that is added while it is worked on is worked on again afterwards, so nothing that happened is overlooked, however
many events it made. Failures back off, doubling up to a limit, with jitter; success forgets them.

Keys are worked on in the order in which they were added, but that a patient one is passed over by those that come
within its patience: where many are added at once, a short first piece of work for each comes before long later ones,
and what happened comes before routine, which is what only time asks for. Nobody is passed over for ever, since what
comes later than that is behind.
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
ROUTINE_PATIENCE_S = 5.0
ROUTINE_A_SECOND = 15.0  # pieces of routine work for all keys together; who asks for it spreads it out
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

    due: float | None = None  # its place in the queue, if it is there
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
        return sum(state.due is not None for state in self._states.values())

    def add(self, key: Key, *, routine: bool = False) -> None:
        """Have a key worked on as soon as a worker is free; routine lets others go first for a while."""
        state = self._states.setdefault(key, _State())
        if state.working:
            state.again = True
            return
        due = time.monotonic() + self._patience_s(key) + ROUTINE_PATIENCE_S * routine
        if state.due is None or due < state.due:  # what it had in the queue before is passed over when its turn comes
            state.due = due
            self._ready.put_nowait((due, next(self._numbers), key))

    def add_after(self, key: Key, delay_s: float, *, routine: bool = True) -> None:
        """Have a key worked on after a while; an earlier time that was asked for holds."""
        loop = asyncio.get_running_loop()
        state = self._states.setdefault(key, _State())
        if state.timer is not None and state.timer.when() <= loop.time() + delay_s:
            return
        self._stop_timer(state)
        state.timer = loop.call_later(delay_s, self._on_timer, key, state, routine)

    async def run_worker(self) -> None:
        """Work on keys until cancelled."""
        while True:
            due, _, key = await self._ready.get()
            state = self._states.get(key)
            if state is None or state.due != due:
                continue
            state.due, state.working, state.again = None, True, False
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
            self.add_after(key, max(delay_s, PAUSE_S), routine=delay_s > PAUSE_S and not state.failures)
        elif state.timer is None:
            del self._states[key]

    def _on_timer(self, key: Key, state: _State, routine: bool) -> None:
        state.timer = None
        self.add(key, routine=routine)

    @staticmethod
    def _stop_timer(state: _State) -> None:
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None
