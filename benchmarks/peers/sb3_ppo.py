"""Stable-Baselines3's PPO, or sb3-contrib's recurrent one, on a task: `sb3_ppo.py TASK SEED FRAMES [COMMAND ...]`.

The command, if there is one, is of a process that serves the task (tasks.Served); it is told copies and seed.

Settings are the published ones: RL Baselines3 Zoo's for the task where it has any (hyperparams/ppo.yml), else the
library's defaults, with the 2,048 timesteps of a roll-out (1,024 of the recurrent one) split over 8 copies.
Prints `at FRAMES MEAN` after each roll-out and in the end `solved FRAMES` or `unsolved FRAMES`.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tasks import ONE_TRY, Served, Tally, Task, make, tally

COPIES = 8


def falling(first: float) -> Callable[[float], float]:
    """The zoo's `lin_`: falls to 0 over the run."""
    return lambda left: left * first


ZOO = {
    "cartpole": {
        "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "ent_coef": 0.0,
        "learning_rate": falling(0.001), "clip_range": falling(0.2),
    },
    "doorkey": {
        "n_steps": 128, "batch_size": 64, "gae_lambda": 0.95, "gamma": 0.99, "n_epochs": 10, "ent_coef": 0.0,
        "learning_rate": 2.5e-4, "clip_range": 0.2,
    },
}  # fmt: skip
NORMALISED = ("doorkey", "memory")  # `normalize: true`, as the zoo has it for its tasks of MiniGrid
REMEMBERED = ("tmaze", "memory", ONE_TRY)


class WholeSequences(RecurrentActorCriticPolicy):
    """The library's policy, many times faster: its LSTM is told a sequence at once where the library goes by timestep.

    It does so wherever an episode begins in the minibatch, to empty the memory in time. Its buffer cuts sequences where
    episodes begin (`create_sequencers`), so it is enough to empty the memory that a sequence starts from.
    """

    @staticmethod
    def _process_sequence(
        features: torch.Tensor,
        lstm_states: tuple[torch.Tensor, torch.Tensor],
        episode_starts: torch.Tensor,
        lstm: torch.nn.LSTM,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        begins = episode_starts.reshape(lstm_states[0].shape[1], -1)
        assert not begins[:, 1:].any(), "an episode begins in mid-sequence"
        kept = (1.0 - begins[:, 0])[None, :, None]
        states = (kept * lstm_states[0], kept * lstm_states[1])
        process = RecurrentActorCriticPolicy._process_sequence
        return process(features, states, torch.zeros_like(episode_starts), lstm)


class Copies(VecEnv):
    """A task as Stable-Baselines3 wants it."""

    def __init__(self, task: Task, tally: Tally) -> None:
        self.task, self.tally = task, tally
        super().__init__(COPIES, Box(-np.inf, np.inf, (task.numbers,), np.float32), Discrete(task.actions))

    def reset(self) -> np.ndarray:
        return self.task.look().astype(np.float32)

    def step_async(self, actions: np.ndarray) -> None:
        self.came = self.task.step(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        step, told = self.came, [{} for _ in range(COPIES)]
        self.tally.add(step)
        for place in np.flatnonzero(step.ended):
            told[place] = {"terminal_observation": step.last[place], "TimeLimit.truncated": bool(step.cut[place])}
        return self.reset(), step.reward.astype(np.float32), step.ended, told

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * COPIES

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        pass

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [None] * COPIES

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * COPIES


class UntilSolved(BaseCallback):
    """Ends the run when the task is solved."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def _on_step(self) -> bool:
        return self.tally.solved_at is None

    def _on_rollout_end(self) -> None:
        print(f"at {self.tally.frames} {self.tally.mean:.3f}", flush=True)


def main() -> None:
    name, seed, frames, command = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    torch.set_num_threads(1)
    task = Served([*command, str(COPIES), str(seed)], COPIES) if command else make(name, COPIES, seed)
    counted = tally(name, COPIES)
    worlds: VecEnv = Copies(task, counted)
    if name in NORMALISED:
        worlds = VecNormalize(worlds)
    if name in REMEMBERED:
        agent: Any = RecurrentPPO(WholeSequences, worlds, n_steps=128, seed=seed, device="cpu")
    else:
        settings = ZOO.get(name, {"n_steps": 2048 // COPIES})
        agent = PPO("MlpPolicy", worlds, seed=seed, device="cpu", **settings)
    agent.learn(frames, callback=UntilSolved(counted))
    print("solved" if counted.solved_at else "unsolved", counted.solved_at or counted.frames, flush=True)
    if isinstance(task, Served):
        task.close()


if __name__ == "__main__":
    main()
