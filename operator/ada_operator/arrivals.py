"""New experiments that come by the dozen: all of them are begun before any is built up.

Whoever applies hundreds of experiments shares the API server with the operator. A first child is one small write; what
follows is twenty and the pods' own. While more experiments keep coming, those that have their first child wait: the
rest are accepted sooner, and nobody trains later for it, since the API server is busy either way.
"""

import time
from collections import deque
from collections.abc import Callable

from ada_operator.work_queue import Key

MANY, WITHIN_S = 5, 2.0  # so many new ones in that time, and more are expected
LONGEST_HELD_S = 30.0  # an experiment is not held for longer, whatever else comes


class Arrivals:
    """Which experiments were begun lately, and whether the next step of one should wait for others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[Key, float] = {}  # those not built up yet, and when each got its first child
        self._latest: deque[float] = deque(maxlen=MANY)

    def begin(self, key: Key) -> None:
        """Note an experiment that has just got its first child."""
        self._begun[key] = self._clock()
        self._latest.append(self._begun[key])

    def hold(self, key: Key) -> bool:
        """Return whether an experiment that has only its first child should wait for newer ones; False for others."""
        begun, now = self._begun.get(key), self._clock()
        if begun is None:
            return False
        if now - begun < LONGEST_HELD_S and len(self._latest) == MANY and now - self._latest[0] < WITHIN_S:
            return True
        del self._begun[key]
        return False
