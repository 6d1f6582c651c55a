"""New experiments that come by the dozen: all of them are begun before they are built up.

Whoever applies hundreds of experiments shares the API server with the operator. A first child is one small write; what
follows is twenty and the pods' own. While more experiments keep coming, those that have their first child wait: the
rest are accepted sooner, and in sum nobody trains later for it, since the API server is busy either way.
"""

import time
from collections import deque
from collections.abc import Callable

from ada_operator.work_queue import Key

MANY, WITHIN_S = 5, 2.0  # so many new ones in that time, and more are expected
TURN_S = 10.0  # meanwhile one may go on each time, the oldest: however long it lasts, somebody starts


class Arrivals:
    """Which experiments were begun lately, and whether the next step of one should wait for others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[Key, None] = {}  # those that have only their first child, the oldest first
        self._latest: deque[float] = deque(maxlen=MANY)
        self._last_turn = clock()

    def begin(self, key: Key) -> None:
        """Note an experiment that has just got its first child."""
        self._begun[key] = None
        self._latest.append(self._clock())

    def forget(self, key: Key) -> None:
        """Let go of an experiment that is no more: nobody waits for its turn."""
        self._begun.pop(key, None)

    def hold(self, key: Key) -> bool:
        """Return whether an experiment that has only its first child should wait for newer ones; False for others."""
        if key not in self._begun:
            return False
        now = self._clock()
        if len(self._latest) == MANY and now - self._latest[0] < WITHIN_S:
            if key != next(iter(self._begun)) or now - self._last_turn < TURN_S:
                return True
            self._last_turn = now
        del self._begun[key]
        return False
