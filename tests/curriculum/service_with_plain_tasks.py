"""The real curriculum service over a pool of bare numbers, for the tests that need no worlds."""

import numpy as np

from ada_api.environment import Environment
from ada_curriculum.__main__ import main


class PlainTasks:
    """Task n has 1 + n % 3 trials."""

    def __init__(self, environment: Environment) -> None:
        pool = environment.task_pool
        self.size = pool.worlds * pool.games

    def draw(self, rng: np.random.Generator, held_out: bool) -> int:
        return int(rng.integers(self.size))

    def trials(self, number: int) -> int:
        return 1 + number % 3

    def metrics(self, number: int) -> dict[str, float]:
        return {"num_trials": float(self.trials(number)), "num_rules": 2.0}


if __name__ == "__main__":
    raise SystemExit(main(make_tasks=PlainTasks))
