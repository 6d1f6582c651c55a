"""How often routine is done for an experiment: the more of them are under way, the more seldom for each.

A write of a status costs the API server tens of milliseconds, since it checks the whole object, and figures are new at
every look. What a person or program acts on is written at once, however many there are.
"""

import time
from collections.abc import Callable

from ada_operator.observed import Manifest
from ada_operator.work_queue import ROUTINE_A_SECOND, Key

# What grows or wavers in a status while a group trains, and nobody acts on.
FIGURES = {"frames", "progress", "framesPerSecond", "score", "goodput", "trainingSeconds", "looked"}
STAGE_FIGURES = {"frames", "framesPerSecond", "score", "bestScore"}


class Pace:
    """Which experiments are under way, and when the status of each was last written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way: set[Key] = set()
        self._written_at: dict[Key, float] = {}

    def look_again_s(self, key: Key, wanted_s: float | None) -> float | None:
        """Return when to look at an experiment again, which wants that so soon, or not at all."""
        if wanted_s is None:
            self._under_way.discard(key)
            return None
        self._under_way.add(key)
        return max(wanted_s, self._turn_s())

    def wrote(self, key: Key) -> None:
        """Note that the status of an experiment was written."""
        self._written_at[key] = self._clock()

    def may_wait(self, key: Key, before: Manifest | None, after: Manifest) -> bool:
        """Return whether an experiment's next status need not be written yet.

        Args:
            before: the status that is there, if any.
            after: the one that would be written.
        """
        written_at = self._written_at.get(key)
        if written_at is None or self._clock() - written_at >= self._turn_s():
            return False
        return before is not None and _without_figures(before) == _without_figures(after)

    def forget(self, key: Key) -> None:
        """Let go of an experiment that is no more."""
        self._under_way.discard(key)
        self._written_at.pop(key, None)

    def _turn_s(self) -> float:
        return len(self._under_way) / ROUTINE_A_SECOND


def _without_figures(status: Manifest) -> Manifest:
    stages = [
        {name: value for name, value in one.items() if name not in STAGE_FIGURES} for one in status.get("stages", [])
    ]
    return {name: value for name, value in status.items() if name not in FIGURES} | {"stages": stages}
