"""`plr`: robust prioritised level replay as adapted by AdA (appendix D, "Auto-curriculum").

With probability p train on a task of the archive, for `training_trials` trials; else evaluate a new task once, without
learning from it, and offer it to the archive. p is 0 until the archive holds `min_archive_size` tasks.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ada_api.curriculum import PrioritisedLevelReplay
from ada_curriculum.archive import Archive
from ada_curriculum.fitness import RollingStatistics
from ada_curriculum.orders import Order, Purpose, Tasks

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def visit_episodes(training_trials: int, trials: int) -> int:
    """Return how many whole episodes of k trials make one training visit."""
    return -(-training_trials // trials)


def is_replay(chance: float, probability: float, archive_size: int, min_archive_size: int) -> bool:
    """Decide between the archive and a new task; `chance` is uniform in [0, 1)."""
    return archive_size >= min_archive_size and chance < probability


class PrioritisedReplay:
    """The archive, the statistics that normalise fitness, and AdA's rules over them."""

    def __init__(self, parameters: PrioritisedLevelReplay, pool_size: int | None = None) -> None:
        """Start with an empty archive.

        Args:
            pool_size: number of distinct tasks, if known: an archive can't wait for more tasks than there are, and
                the last ones of a small pool are long in coming, so half of it is enough to begin replay.
        """
        self.parameters = parameters
        self.archive = Archive(parameters.archive_size, parameters.temperature, parameters.staleness_weight)
        self.statistics = RollingStatistics()
        self.min_archive_size = min(parameters.min_archive_size, parameters.archive_size)
        if pool_size is not None:
            self.min_archive_size = min(self.min_archive_size, max(1, pool_size // 2))

    def next_orders(self, random: np.random.Generator, tasks: Tasks) -> list[Order]:
        """Order a training visit to an archived task, or the evaluation of a new one."""
        p = self.parameters
        if is_replay(random.random(), p.replay_probability, len(self.archive), self.min_archive_size):
            task = self.archive.draw(random.random(), random.random())
            trials = tasks.trials(task)
            order = Order(task, trials, learn=True, purpose=Purpose.REPLAY)
            return [order] * visit_episodes(p.training_trials, trials)
        task = tasks.draw(random, held_out=False)
        return [Order(task, tasks.trials(task), learn=p.train_on_new_tasks, purpose=Purpose.EVALUATE)]

    def apply(self, order: Order, returns: Sequence[float], fitness: float, tasks: Tasks) -> list[Order]:
        """Offer an evaluated task to the archive, or refresh a replayed one."""
        if order.purpose == Purpose.EVALUATE:
            self.statistics.add(order.trials, fitness)
            self.archive.offer(order.task, self.statistics.normalise(order.trials, fitness))
        else:
            self.archive.refresh(order.task, self.statistics.normalise(order.trials, fitness))
        return []

    def lost(self, order: Order) -> list[Order]:
        """Nothing takes the place of a lost episode."""
        return []

    def figures(self) -> dict[str, float]:
        """Return archive size, mean staleness and quantiles of the fitness."""
        size = len(self.archive)
        figures = {"archive_size": float(size), "staleness": self.archive.mean_staleness()}
        if size:
            for quantile in QUANTILES:
                rank = round((1.0 - quantile) * (size - 1))
                figures[f"fitness_q{round(quantile * 100)}"] = self.archive.fitness_at_rank(rank)
        return figures

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return archive and statistics."""
        archive = {f"archive.{name}": array for name, array in self.archive.to_arrays().items()}
        return {**archive, "statistics": self.statistics.to_array()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace archive and statistics by a snapshot's."""
        names = ("tasks", "fitness", "last_used", "clock")
        self.archive.load({name: arrays[f"archive.{name}"] for name in names})
        self.statistics.load(arrays["statistics"])
