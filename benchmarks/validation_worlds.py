"""The validation's tasks behind the face of a simulator; episodes that a limit of time cut off are told apart."""

from dataclasses import replace
from itertools import count

import numpy as np
import torch

from ada_api.environment import Environment
from ada_api.stages import Algorithm
from ada_curriculum.types import Lease
from ada_sim.batch import TimeStep
from ada_sim.constants import ACTION_GROUPS
from ada_sim.observation import Field, specification
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.noting import History
from ada_trainer.rollout import Collector
from benchmarks.peers.tasks import Step, Tally, Task

GROUP = "strafe"  # the action group that takes a task's actions


def fields_of(task: Task) -> list[Field]:
    """Return the observation of the task space with the task's numbers in place of `ranges`."""
    fields = specification(Environment(observation="symbolic", action_groups=[GROUP]))
    return [replace(one, shape=(task.numbers,)) if one.name == "ranges" else one for one in fields]


class Normalised:
    """A task whose numbers are told as deviations from their mean so far, in standard deviations, within 10 of them.

    The same as Stable-Baselines3's VecNormalize does to observations (`normalize: true` of RL Baselines3 Zoo).
    """

    def __init__(self, task: Task) -> None:
        self.task, self.numbers, self.actions, self.best = task, task.numbers, task.actions, task.best
        self._count, self._mean, self._variance = 1e-4, np.zeros(task.numbers), np.ones(task.numbers)
        self._see(task.look())

    def look(self) -> np.ndarray:
        return self._told(self.task.look())

    def step(self, actions: np.ndarray) -> Step:
        step = self.task.step(actions)
        self._see(self.task.look())
        return replace(step, last=self._told(step.last))

    def _see(self, numbers: np.ndarray) -> None:
        """Take B observations into mean and variance (Chan, Golub and LeVeque, 1979)."""
        count = self._count + len(numbers)
        off, share = numbers.mean(0) - self._mean, len(numbers) / count
        self._variance = (1 - share) * self._variance + share * numbers.var(0) + off**2 * share * (1 - share)
        self._mean, self._count = self._mean + off * share, count

    def _told(self, numbers: np.ndarray) -> np.ndarray:
        deviations: np.ndarray = (numbers - self._mean) / np.sqrt(self._variance + 1e-8)
        return np.clip(deviations, -10, 10)


class Worlds:
    """A task behind the face of a simulator."""

    def __init__(self, task: Task, tally: Tally, worlds: int) -> None:
        self.task, self.tally, self.fields, self.worlds = task, tally, fields_of(task), worlds
        self.started = False
        self.cut = np.zeros(worlds, bool)  # ended by the last step, by a limit of time alone
        self.beyond: dict[str, np.ndarray] = {}  # what the last step led to, where no episode had ended

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Take no note: every episode is of the same task."""

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance all copies; the first step only looks."""
        reward, ended = np.zeros(self.worlds), np.zeros(self.worlds, bool)
        started = ~ended
        if self.started:
            step = self.task.step(actions[:, 0, ACTION_GROUPS.index(GROUP)].astype(np.int64))
            self.tally.add(step)
            reward, ended, self.cut = step.reward, step.ended, step.cut
            started = ended
            if self.cut.any():
                self.beyond = self._seen(step.last, actions, reward, np.zeros_like(ended))
        self.started = True
        seen = self._seen(self.task.look(), actions, reward, started)
        trial = np.where(ended, 0, -1).astype(np.int16)
        everywhere = np.ones(self.worlds, bool)
        return TimeStep(seen, reward[:, None].astype(np.float32), trial, ended, started, everywhere)

    def _seen(
        self, numbers: np.ndarray, actions: np.ndarray, reward: np.ndarray, started: np.ndarray
    ) -> dict[str, np.ndarray]:
        seen = {one.name: np.zeros((self.worlds, 1, *one.shape), one.dtype) for one in self.fields}
        seen["ranges"][:, 0] = numbers
        seen["last_action"][:, 0] = np.where(started[:, None], 0, actions[:, 0] + 1)
        seen["last_reward"][:, 0, 0] = np.where(started, 0, reward)
        return seen


class CutCollector(Collector):
    """Adds to the reward of a timestep that a limit of time made the last what the next would have been worth.

    The same as Stable-Baselines3 does (`collect_rollouts` of its on_policy_algorithm.py). In our own task space the
    agent sees its time, so that the end of an episode is one of its own and the trainer needs no such thing.
    """

    def __init__(self, worlds: Worlds, network: AgentNetwork, settings: Algorithm, seed: int) -> None:
        numbers = count()

        def lend(wanted: int) -> list[Lease]:
            return [Lease(str(next(numbers)), 0, 1, 0, True, "agent") for _ in range(wanted)]

        super().__init__(worlds, worlds.worlds, 1, network, settings, lend, seed=seed)
        self._cutting = worlds

    def _turn_over(self, t: int, history: History) -> bool:
        if (cut := self._cutting.cut).any():
            beyond = {name: torch.from_numpy(field).flatten(0, 1) for name, field in self._cutting.beyond.items()}
            going_on = torch.zeros_like(self._clear)
            output, _ = self._network.step(beyond, self._network.clone(self._state), going_on)
            worth = output.value.numpy() * (self._algorithm.discount / self._algorithm.reward_scale)
            history.reward[t, cut, 0] += worth[cut]
        return super()._turn_over(t, history)
