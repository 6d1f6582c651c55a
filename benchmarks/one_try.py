"""The quickstart's own task, for our learner as it is and for others as plain numbers; episodes of five trials.

    python -m benchmarks.one_try WORLDS SEED    serve it to a process in another virtual environment (peers/tasks.py)

Others see every field of the observation but the rules, which are hidden and so look alike in all of its tasks: indices
as one-hot, the rest as it is. They choose among the 15 pairs of a move and a turn.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

from ada_api.environment import Environment
from ada_curriculum.types import Lease
from ada_sim.batch import BatchSim, TimeStep
from ada_sim.constants import ACTION_GROUPS, ACTION_REST, ACTION_SIZES
from ada_sim.tasks.encoding import GOAL_FIELD_SIZES
from ada_sim.tasks.source import TaskSource
from benchmarks.peer import ROOT
from benchmarks.peers.tasks import ONE_TRY, ONE_TRY_BEST, Step, serve, tally

TRIALS = 5
GROUPS = ("move", "turn")
INDICES = {"goal": GOAL_FIELD_SIZES, "last_action": tuple(size + 1 for size in ACTION_SIZES)}


def environment() -> Environment:
    """Return the quickstart's."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text(encoding="utf-8"))
    return Environment.model_validate(document["spec"]["environment"])


def leases(seed: int) -> Iterator[Lease]:
    """Yield episodes of tasks that are drawn as the quickstart's are."""
    source, rng, number = TaskSource(environment()), np.random.default_rng([seed, 2]), 0
    while True:
        task, number = source.draw(rng, held_out=False), number + 1
        yield Lease(str(number), task, TRIALS, int(rng.integers(2**63)), True, "agent")


class CountedSim:
    """The simulator, its frames and returns counted."""

    def __init__(self, worlds: int) -> None:
        """Make idle worlds."""
        self.sim, self.tally = BatchSim(worlds, environment()), tally(ONE_TRY, worlds)
        self.started = False
        self.assign = self.sim.assign

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance all worlds; the first step begins their episodes and does not count."""
        timestep = self.sim.step(actions)
        if self.started:
            nothing = np.zeros(len(actions), bool)
            self.tally.add(Step(timestep.reward[:, 0].astype(float), timestep.episode_ended, nothing, np.empty(0)))
        self.started = True
        return timestep


class OneTry:
    """The task as plain numbers."""

    actions, best = ACTION_SIZES[0] * ACTION_SIZES[2], ONE_TRY_BEST

    def __init__(self, worlds: int, seed: int) -> None:
        self.sim, self.leases = BatchSim(worlds, environment()), leases(seed)
        self.resting = np.tile(np.array(ACTION_REST, np.int8), (worlds, 1, 1))
        self._assign(np.arange(worlds))
        self.timestep = self.sim.step(self.resting)
        self._assign(np.arange(worlds))
        self.numbers = self.look().shape[1]

    def look(self) -> np.ndarray:
        parts = []
        for name, field in self.timestep.observation.items():
            if name in INDICES:
                columns = zip(np.moveaxis(field[:, 0], -1, 0), INDICES[name], strict=True)
                parts += [np.eye(size)[column] for column, size in columns]
            elif name != "rules":
                parts.append(field.reshape(len(field), -1))
        return np.concatenate(parts, 1)

    def step(self, actions: np.ndarray) -> Step:
        chosen = self.resting.copy()
        move, turn = (ACTION_GROUPS.index(group) for group in GROUPS)
        chosen[:, 0, move], chosen[:, 0, turn] = np.divmod(actions, ACTION_SIZES[turn])
        self.timestep = self.sim.step(chosen)
        ended = self.timestep.episode_ended.copy()
        self._assign(np.flatnonzero(ended))
        return Step(self.timestep.reward[:, 0].astype(float), ended, np.zeros_like(ended), self.look())

    def _assign(self, worlds: np.ndarray) -> None:
        if len(worlds):
            lent = [next(self.leases) for _ in worlds]
            tasks = np.array([one.task for one in lent], np.uint64)
            seeds = np.array([one.seed for one in lent], np.uint64)
            self.sim.assign(worlds, tasks, np.full(len(worlds), TRIALS), seeds)


if __name__ == "__main__":
    serve(OneTry(int(sys.argv[1]), int(sys.argv[2])), int(sys.argv[1]))
