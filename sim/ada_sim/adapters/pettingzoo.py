"""A PettingZoo parallel environment: the players of one world, one episode of k trials after each reset."""

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from ada_api.environment import Environment
from ada_sim.adapters.spaces import action_space, observation_space
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST
from ada_sim.tasks.source import TaskSource

Observation = dict[str, np.ndarray]
FIRST = np.zeros(1, np.int64)


class TaskSpaceParallelEnv(ParallelEnv[str, Observation, np.ndarray]):  # type: ignore[misc]  # the library has no types
    """One world; its tasks are drawn uniformly from the experiment's task space."""

    metadata = {"name": "ada_task_space_v1", "render_modes": []}  # noqa: RUF012 - the library's own declaration

    def __init__(self, environment: Environment, held_out: bool = False) -> None:
        """Make one world of `environment.players` players; `held_out` draws test tasks."""
        self.possible_agents = [f"player_{p + 1}" for p in range(environment.players)]
        self.agents: list[str] = []
        self.render_mode = None
        self._observation_spaces = {agent: observation_space(environment) for agent in self.possible_agents}
        self._action_spaces = {agent: action_space() for agent in self.possible_agents}
        self._source = TaskSource(environment)
        self._sim = BatchSim(1, environment, self._source)
        self._held_out = held_out
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> spaces.Dict:
        """Return the space of this player's observation."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.MultiDiscrete:
        """Return the space of this player's action."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode of a newly drawn task; a seed makes everything that follows repeatable."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        task = self._source.draw(self._rng, self._held_out)
        drawn = self._rng.integers(0, 2**63, 1).astype(np.uint64)
        self._sim.assign(FIRST, np.array([task], np.uint64), np.array([self._source.trials(task)]), drawn)
        self._sim.reset(FIRST)
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, np.ndarray]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Advance the world; players without an action rest. Time is all that ends an episode."""
        chosen = np.array([[actions.get(agent, ACTION_REST) for agent in self.possible_agents]]).astype(np.int8)
        timestep = self._sim.step(chosen)
        over = bool(timestep.episode_ended[0])
        observations = self._observations()
        agents = self.agents
        rewards = {agent: float(timestep.reward[0, self.possible_agents.index(agent)]) for agent in agents}
        infos = {agent: {"trial_ended": int(timestep.trial_ended[0])} for agent in agents}
        if over:
            self.agents = []
        return observations, rewards, dict.fromkeys(agents, over), dict.fromkeys(agents, False), infos

    def _observations(self) -> dict[str, Observation]:
        observation = self._sim.timestep().observation
        return {
            agent: {name: array[0, self.possible_agents.index(agent)].copy() for name, array in observation.items()}
            for agent in self.agents or self.possible_agents
        }
