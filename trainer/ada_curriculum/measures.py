"""Measures of tasks, worked out beside the service.

Measuring builds the task, and the first one compiles the generator for many seconds: no trainer should wait for that.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence

MAX_WAITING = 64  # tasks; more are left for later points of the history
MAX_KEPT = 4096

logger = logging.getLogger(__name__)


class TaskMeasures:
    """Measures by task, as far as they are known. Asked for by one thread, worked out by another of its own."""

    def __init__(self, measure: Callable[[int], dict[str, float]]) -> None:
        self._measure = measure
        self._known: dict[int, dict[str, float]] = {}
        self._waiting: queue.Queue[int] = queue.Queue(MAX_WAITING)
        self._asked: set[int] = set()
        self._thread: threading.Thread | None = None

    def ask_for(self, tasks: Iterable[int]) -> None:
        """Have tasks measured that are not yet, as many as there is room for."""
        for task in tasks:
            if task in self._known or task in self._asked:
                continue
            if self._waiting.full():
                break
            self._asked.add(task)
            self._waiting.put_nowait(task)
        if self._thread is None:
            # A daemon: a process that is told to stop does not wait for a compiler.
            self._thread = threading.Thread(target=self._work, name="task-measures", daemon=True)
            self._thread.start()

    def is_busy_with(self, tasks: Iterable[int]) -> bool:
        """Say whether any of the tasks waits to be measured."""
        return not self._asked.isdisjoint(tasks)

    def mean(self, tasks: Sequence[int]) -> dict[str, float]:
        """Return the mean of each measure over those of the tasks that are known."""
        known = [self._known[task] for task in tasks if task in self._known]
        if not known:
            return {}
        return {name: sum(one[name] for one in known) / len(known) for name in known[0]}

    def wait(self) -> None:
        """Return when everything asked for is measured."""
        self._waiting.join()

    def _work(self) -> None:
        while True:
            task = self._waiting.get()
            try:
                self._known[task] = self._measure(task)
            except Exception:
                logger.exception("task %#x could not be measured; it is left out of the history", task)
            while len(self._known) > MAX_KEPT:
                del self._known[next(iter(self._known))]
            self._asked.discard(task)
            self._waiting.task_done()
