"""PLR's archive: the fittest tasks seen so far, drawn by rank and by staleness.

Rules (Jiang et al., "Prioritized level replay", as AdA uses them): a task is drawn from

    (1 - s) * rank ** (-1 / temperature) / Z_rank  +  s * (clock - last_used) / Z_staleness

where rank 1 is the fittest and the clock counts draws and offers. A new task enters if there is room, or in place
of the least fit if it is fitter. Every operation costs O(log n).
"""

from array import array
from bisect import bisect_right
from collections.abc import Mapping

import numpy as np

from ada_curriculum.ranking import PrefixSums, Ranking

Arrays = dict[str, np.ndarray]


class Archive:
    """At most `capacity` distinct tasks with fitness and time of last use, in slots 0, 1, ..."""

    def __init__(self, capacity: int, temperature: float, staleness_weight: float) -> None:
        self.capacity = capacity
        self.staleness_weight = staleness_weight
        weights = np.arange(1, capacity + 1, dtype=np.float64) ** (-1.0 / temperature)
        self._rank_totals = array("d", np.cumsum(weights).tobytes())
        self.load(empty_arrays())

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace the contents by a snapshot's. Raises ValueError if it does not fit or makes no sense."""
        tasks, fitness, last_used = (arrays[name] for name in ("tasks", "fitness", "last_used"))
        clock = int(arrays["clock"][0])
        size = len(tasks)
        if size > self.capacity:
            raise ValueError(f"a snapshot of {size} tasks does not fit an archive of {self.capacity}")
        if not len(fitness) == len(last_used) == size or not np.isfinite(fitness).all():
            raise ValueError(f"a snapshot of {size} tasks has {len(fitness)} fitnesses, or not all are finite")
        if size and not 0 <= int(last_used.min()) <= int(last_used.max()) <= clock:
            raise ValueError(f"a snapshot's times of last use lie outside 0 to its clock, {clock}")
        self.clock = clock
        self._tasks = array("Q", tasks.astype(np.uint64).tobytes())
        self._fitness = array("d", fitness.astype(np.float64).tobytes())
        self._last_used = array("q", last_used.astype(np.int64).tobytes())
        self._slot_of = {task: slot for slot, task in enumerate(self._tasks)}
        if len(self._slot_of) != size:
            raise ValueError(f"a snapshot of {size} tasks holds some of them twice")
        self._total_last_used = int(last_used.sum())
        self._ranking = Ranking(fitness.astype(np.float64))
        padded = np.zeros(self.capacity, np.int64)
        padded[:size] = last_used
        self._last_used_sums = PrefixSums(padded)

    def to_arrays(self) -> Arrays:
        """Return the contents: tasks uint64 [S], fitness float64 [S], last_used int64 [S], clock int64 [1]; copies."""
        return {
            "tasks": np.array(self._tasks, np.uint64),
            "fitness": np.array(self._fitness, np.float64),
            "last_used": np.array(self._last_used, np.int64),
            "clock": np.array([self.clock], np.int64),
        }

    def __len__(self) -> int:
        """Return the number of tasks held."""
        return len(self._tasks)

    def __contains__(self, task: int) -> bool:
        """Return whether the task is held."""
        return task in self._slot_of

    def fitness_of(self, task: int) -> float:
        """Return the fitness of a task that is held."""
        return self._fitness[self._slot_of[task]]

    def staleness_of(self, task: int) -> int:
        """Return how far the clock went on since the task was last drawn or inserted."""
        return self.clock - self._last_used[self._slot_of[task]]

    def fitness_at_rank(self, rank: int) -> float:
        """Return the fitness of a rank; 0 is the fittest."""
        return self._fitness[self._ranking.slot_at(rank)]

    def mean_staleness(self) -> float:
        """Return the mean staleness; 0 of an empty archive."""
        return self.clock - self._total_last_used / len(self) if len(self) else 0.0

    def draw(self, choice: float, where: float) -> int:
        """Draw a task and mark it as used now.

        Args:
            choice: uniform in [0, 1): whether by staleness or by rank.
            where: uniform in [0, 1): which one.
        """
        slot = self._stale_slot(where) if choice < self.staleness_weight else self._ranked_slot(where)
        self.clock += 1
        self._use(slot)
        return self._tasks[slot]

    def offer(self, task: int, fitness: float) -> bool:
        """Insert a new task if there is room or it beats the least fit, or refresh one that is held; is it held now?"""
        self.clock += 1
        if self.refresh(task, fitness):
            self._use(self._slot_of[task])
            return True
        if len(self) < self.capacity:
            self._append(task, fitness)
            return True
        least = self._ranking.slot_at(len(self) - 1)
        if fitness <= self._fitness[least]:
            return False
        del self._slot_of[self._tasks[least]]
        self._tasks[least] = task
        self._slot_of[task] = least
        self._set_fitness(least, fitness)
        self._use(least)
        return True

    def refresh(self, task: int, fitness: float) -> bool:
        """Set the fitness of a task if it is held; is it?"""
        slot = self._slot_of.get(task)
        if slot is None:
            return False
        self._set_fitness(slot, fitness)
        return True

    def _append(self, task: int, fitness: float) -> None:
        slot = len(self)
        self._tasks.append(task)
        self._fitness.append(fitness)
        self._last_used.append(0)
        self._slot_of[task] = slot
        self._ranking.insert(fitness, slot)
        self._use(slot)

    def _set_fitness(self, slot: int, fitness: float) -> None:
        self._ranking.remove(self._fitness[slot], slot)
        self._fitness[slot] = fitness
        self._ranking.insert(fitness, slot)

    def _use(self, slot: int) -> None:
        amount = self.clock - self._last_used[slot]
        self._last_used[slot] = self.clock
        self._total_last_used += amount
        self._last_used_sums.add(slot, amount)

    def _ranked_slot(self, where: float) -> int:
        size = len(self)
        rank = bisect_right(self._rank_totals, where * self._rank_totals[size - 1], 0, size)
        return self._ranking.slot_at(min(rank, size - 1))

    def _stale_slot(self, where: float) -> int:
        size = len(self)
        total = self.clock * size - self._total_last_used
        if total == 0:  # all were used just now
            return int(where * size)
        return min(self._last_used_sums.find_ramp(self.clock, int(where * total), size), size - 1)


def empty_arrays() -> Arrays:
    """Return the snapshot of an archive that holds nothing."""
    return {
        "tasks": np.zeros(0, np.uint64),
        "fitness": np.zeros(0),
        "last_used": np.zeros(0, np.int64),
        "clock": np.zeros(1, np.int64),
    }
