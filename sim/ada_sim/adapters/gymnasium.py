"""A Gymnasium VectorEnv: one player in each world, an episode of k trials of one task after another.

The mode of automatic resets is NEXT_STEP: the step after an episode's end takes no action and returns the first
observation of the next. The observation beside `terminated` is zero, for a world between two episodes has none.
"""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ada_api.environment import Environment
from ada_sim.adapters.spaces import action_space, observation_space
from ada_sim.batch import BatchSim
from ada_sim.tasks.source import TaskSource


class TaskSpaceVectorEnv(VectorEnv[dict[str, np.ndarray], np.ndarray, np.ndarray]):
    """Worlds of one player with tasks drawn uniformly from the experiment's task space."""

    def __init__(self, num_envs: int, environment: Environment, held_out: bool = False) -> None:
        """Make `num_envs` worlds; `held_out` draws test tasks.

        Raises:
            ValueError: the environment has two players.
        """
        if environment.players != 1:
            raise ValueError(
                f"environment.players is {environment.players}, a VectorEnv has 1; see adapters.pettingzoo"
            )
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}
        self.single_observation_space = observation_space(environment)
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._source = TaskSource(environment)
        self._sim = BatchSim(num_envs, environment, self._source)
        self._held_out = held_out
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """End all episodes and start new ones; a seed makes everything that follows repeatable."""
        if seed is not None:
            self._rng = np.random.default_rng([s or 0 for s in seed] if isinstance(seed, list) else seed)
        everyone = np.arange(self.num_envs)
        self._assign(everyone)
        self._sim.reset(everyone)
        return self._observation(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all worlds; rewards are shares of the timestep's ticks in the goal; only time ends an episode."""
        timestep = self._sim.step(np.asarray(actions).astype(np.int8)[:, None, :])
        terminated = timestep.episode_ended.copy()
        if terminated.any():
            self._assign(np.flatnonzero(terminated))
        rewards = timestep.reward[:, 0].astype(np.float64)
        infos = {"trial_ended": timestep.trial_ended.copy()}
        return self._observation(), rewards, terminated, np.zeros_like(terminated), infos

    def close_extras(self, **_: Any) -> None:
        """End the simulator's threads."""
        self._sim.close()

    def _assign(self, worlds: np.ndarray) -> None:
        tasks = [self._source.draw(self._rng, self._held_out) for _ in worlds]
        trials = np.array([self._source.trials(task) for task in tasks])
        seeds = self._rng.integers(0, 2**63, len(worlds)).astype(np.uint64)
        self._sim.assign(worlds, np.array(tasks, np.uint64), trials, seeds)

    def _observation(self) -> dict[str, np.ndarray]:
        return {name: array[:, 0].copy() for name, array in self._sim.timestep().observation.items()}
