"""The policies that are compared: the agent, a random one, and one that does nothing. And a scripted one, to watch."""

import numpy as np
import torch

from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST, ACTION_SIZES
from ada_sim.scripted.planner import Planner
from ada_sim.tasks.task import Task
from ada_trainer.evaluation.episodes import Clear, Observation, Policy
from ada_trainer.networks.agent import AgentNetwork


class AgentPolicy:
    """Samples from the agent's policy, with its memory."""

    def __init__(self, network: AgentNetwork, seed: int) -> None:
        self._network = network.eval()
        self._generator = torch.Generator().manual_seed(seed)
        self._state = network.initial_state(1)

    def start(self, players: int) -> None:
        """Empty the memories."""
        self._state = self._network.initial_state(players)

    @torch.inference_mode()
    def act(self, observation: Observation, clear: Clear) -> np.ndarray:
        """Sample one action a player."""
        tensors = {name: torch.from_numpy(field) for name, field in observation.items()}
        output, self._state = self._network.step(tensors, self._state, torch.from_numpy(clear))
        return self._network.sample(output, self._generator).numpy()


class RandomPolicy:
    """Chooses every action group uniformly."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def start(self, players: int) -> None:
        """Do nothing: there is no memory."""

    def act(self, observation: Observation, clear: Clear) -> np.ndarray:
        """Draw actions."""
        return self._rng.integers(0, ACTION_SIZES, (len(clear), len(ACTION_SIZES))).astype(np.int8)


class BesidePolicy:
    """Two policies, one in each seat of tasks of two players.

    The first has seat 0 of every other task and seat 1 of the rest. Players come task by task: of 2 N rows task n has
    rows 2 n and 2 n + 1.
    """

    def __init__(self, first: Policy, second: Policy) -> None:
        self._policies = (first, second)
        self._rows = (np.empty(0, np.int64), np.empty(0, np.int64))

    def start(self, players: int) -> None:
        """Empty the memories of both."""
        tasks = np.arange(players // 2)
        self._rows = (2 * tasks + tasks % 2, 2 * tasks + 1 - tasks % 2)
        for policy in self._policies:
            policy.start(players // 2)

    def act(self, observation: Observation, clear: Clear) -> np.ndarray:
        """Let each choose for its seats."""
        actions = np.empty((len(clear), len(ACTION_SIZES)), np.int8)
        for policy, rows in zip(self._policies, self._rows, strict=True):
            actions[rows] = policy.act({name: field[rows] for name, field in observation.items()}, clear[rows])
        return actions


class NoopPolicy:
    """Rests."""

    def start(self, players: int) -> None:
        """Do nothing: there is no memory."""

    def act(self, observation: Observation, clear: Clear) -> np.ndarray:
        """Rest."""
        return np.tile(np.array(ACTION_REST, np.int8), (len(clear), 1))


class ScriptedPolicy:
    """Follows the shortest plan in one world for one player, whose task and state it knows."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._player: Planner | None = None

    def start(self, players: int) -> None:
        """Do nothing: there is no memory."""

    def look(self, sim: BatchSim) -> None:
        """See world 0; to be called before the first action (`episodes.play`'s `watch`).

        Raises:
            ValueError: the task has more than one player.
        """
        if self._player is None:
            self._player = Planner(self._task, sim.world(0))

    def act(self, observation: Observation, clear: Clear) -> np.ndarray:
        """Take the plan's next action; rest until `look` was called."""
        if self._player is None:
            return NoopPolicy().act(observation, clear)
        return self._player.act()[None]
