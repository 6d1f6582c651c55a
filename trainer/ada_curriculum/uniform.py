"""`uniform`: every task of the pool is as likely as every other, and all experience is learned from."""

from collections.abc import Mapping, Sequence

import numpy as np

from ada_curriculum.orders import Order, Purpose, Tasks


class Uniform:
    """Has no state."""

    def next_orders(self, random: np.random.Generator, tasks: Tasks) -> list[Order]:
        """Order one episode of a new task."""
        task = tasks.draw(random, held_out=False)
        return [Order(task, tasks.trials(task), learn=True, purpose=Purpose.TRAIN)]

    def apply(self, order: Order, returns: Sequence[float], fitness: float, tasks: Tasks) -> list[Order]:
        """Nothing follows from an outcome."""
        return []

    def lost(self, order: Order) -> list[Order]:
        """Nothing takes the place of a lost episode."""
        return []

    def figures(self) -> dict[str, float]:
        """Nothing to log."""
        return {}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """No state."""
        return {}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """No state."""
