"""`python -m benchmarks.validation TASK [--algorithm NAME]`: our learner on small tasks that others know.

The tasks are written here in NumPy, many copies at once, so that nothing has to be installed: `catch` (bsuite),
`cartpole` (Barto, Sutton and Anderson, as in Gymnasium, 500 timesteps), `tmaze` (Bakker, 2002, a corridor of 50). The
agent is that of the experiments: a task's numbers take the place of `ranges`, its actions that of a group.

Prints, for each algorithm and seed, frames and the mean return of the episodes that ended since the last line.
No published implementation stands beside ours yet, and MiniGrid's tasks are not here.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import numpy as np
import torch

from ada_api.environment import Environment
from ada_api.stages import AgentModel, Algorithm, Muesli
from ada_curriculum.types import Lease
from ada_sim.batch import TimeStep
from ada_sim.observation import Field, specification
from ada_trainer.learner import Learner
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.rollout import Collector

WORLDS = 64
GROUP = "strafe"  # three choices


class Task(Protocol):
    """B copies of a task that start anew by themselves."""

    numbers: int  # of an observation
    best: float  # return that counts as solved

    def look(self) -> np.ndarray:
        """Return float64 [B, numbers]."""
        ...

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take actions 0 to 2, int [B]; return reward [B] and whether the episode ended, bool [B]."""
        ...


class Catch:
    """A ball falls through 10 rows of 5; the paddle at the bottom moves left, stays or moves right."""

    numbers, best = 50, 0.95

    def __init__(self, worlds: int, rng: np.random.Generator) -> None:
        self.rng, self.every = rng, np.arange(worlds)
        self.row = np.zeros(worlds, np.int64)
        self.ball, self.paddle = rng.integers(0, 5, worlds), np.full(worlds, 2)

    def look(self) -> np.ndarray:
        board = np.zeros((len(self.every), 10, 5))
        board[self.every, self.row, self.ball] = 1
        board[self.every, 9, self.paddle] = 1
        return board.reshape(len(board), -1)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.paddle = np.clip(self.paddle + actions - 1, 0, 4)
        self.row = self.row + 1
        ended = self.row == 9
        reward = np.where(ended, np.where(self.paddle == self.ball, 1.0, -1.0), 0.0)
        self.row = np.where(ended, 0, self.row)
        self.ball = np.where(ended, self.rng.integers(0, 5, len(ended)), self.ball)
        self.paddle = np.where(ended, 2, self.paddle)
        return reward, ended


class TMaze:
    """What is seen at the first timestep tells which way is right at the end of a corridor of 50."""

    numbers, best = 3, 0.9
    length, patience = 50, 150

    def __init__(self, worlds: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.place, self.clock = np.zeros(worlds, np.int64), np.zeros(worlds, np.int64)
        self.cue = rng.integers(0, 2, worlds) * 2 - 1

    def look(self) -> np.ndarray:
        start = self.clock == 0
        return np.stack([self.cue * start, start, self.place == self.length], 1).astype(float)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        junction, walks = self.place == self.length, actions == 1
        chooses = junction & ~walks
        right = (actions - 1) == self.cue
        reward = np.where(chooses, np.where(right, 1.0, -1.0), np.where(walks & ~junction, 0.0, -0.02))
        self.place = self.place + (walks & ~junction)
        self.clock = self.clock + 1
        ended = chooses | (self.clock == self.patience)
        self.place, self.clock = np.where(ended, 0, self.place), np.where(ended, 0, self.clock)
        self.cue = np.where(ended, self.rng.integers(0, 2, len(ended)) * 2 - 1, self.cue)
        return reward, ended


class CartPole:
    """Push a cart left or right (or not) so that the pole on it stays up; 500 timesteps, then the episode ends."""

    numbers, best = 4, 450.0

    def __init__(self, worlds: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.state, self.clock = rng.uniform(-0.05, 0.05, (4, worlds)), np.zeros(worlds, np.int64)

    def look(self) -> np.ndarray:
        return self.state.T * np.array([1.0, 0.5, 5.0, 0.5])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, speed, angle, turning = self.state  # m, m/s, rad, rad/s; masses 1 and 0.1 kg, half length 0.5 m
        push = (10.0 * (actions - 1) + 0.05 * turning**2 * np.sin(angle)) / 1.1
        falling = (9.8 * np.sin(angle) - np.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
        moving = push - 0.05 * falling * np.cos(angle) / 1.1
        self.state = self.state + 0.02 * np.stack([speed, moving, turning, falling])
        self.clock = self.clock + 1
        ended = (np.abs(self.state[0]) > 2.4) | (np.abs(self.state[2]) > 0.2095) | (self.clock == 500)
        fresh = self.rng.uniform(-0.05, 0.05, self.state.shape)
        self.state, self.clock = np.where(ended, fresh, self.state), np.where(ended, 0, self.clock)
        return np.ones(len(ended)), ended


@dataclass(frozen=True)
class Setting:
    """How a task is learned; the same for all algorithms."""

    make: type[Catch] | type[TMaze] | type[CartPole]
    unroll: int
    discount: float
    reward_scale: float


SETTINGS = {
    "catch": Setting(Catch, unroll=18, discount=0.97, reward_scale=1.0),
    "cartpole": Setting(CartPole, unroll=32, discount=0.99, reward_scale=0.1),
    "tmaze": Setting(TMaze, unroll=104, discount=0.98, reward_scale=1.0),
}
ALGORITHMS = {
    "ppo": {"name": "ppo", "learning_rate": 2e-3},
    "muesli": {
        "name": "muesli",
        "learning_rate": 2e-3,
        "muesli": Muesli(samples=8, bins=51, value_range=5.0, policy_gradient_weight=6.0, model_stride=2),
    },
}


class Worlds:
    """A task behind the face of a simulator; remembers the returns of episodes that ended."""

    def __init__(self, task: Task, fields: Sequence[Field], worlds: int) -> None:
        self.task, self.fields, self.worlds = task, fields, worlds
        self.started, self.sums = False, np.zeros(worlds)
        self.returns: list[float] = []

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Take no note: every episode is of the same task."""

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance all copies; the first step only looks."""
        reward, ended = np.zeros(self.worlds), np.zeros(self.worlds, bool)
        started = ended
        if self.started:
            reward, started = self.task.step(actions[:, 0, 1].astype(np.int64))
            ended = started
            self.sums += reward
            self.returns += self.sums[ended].tolist()
            self.sums[ended] = 0
        else:
            self.started, started = True, ~ended
        seen = {field.name: np.zeros((self.worlds, 1, *field.shape), field.dtype) for field in self.fields}
        seen["ranges"][:, 0] = self.task.look()
        seen["last_action"][:, 0] = np.where(started[:, None], 0, actions[:, 0] + 1)
        seen["last_reward"][:, 0, 0] = np.where(started, 0, reward)
        trial = np.where(ended, 0, -1).astype(np.int16)
        everywhere = np.ones(self.worlds, bool)
        return TimeStep(seen, reward[:, None].astype(np.float32), trial, ended, started, everywhere)


def learn(task: str, algorithm: str, seed: int, frames: int) -> list[tuple[int, float]]:
    """Learn a task; return frames and mean return since the entry before, ten times."""
    setting = SETTINGS[task]
    settings = Algorithm(
        worlds=WORLDS,
        unroll=setting.unroll,
        minibatches=4,
        discount=setting.discount,
        reward_scale=setting.reward_scale,
        **ALGORITHMS[algorithm],
    )
    space = Environment(observation="symbolic", action_groups=[GROUP])
    made = setting.make(WORLDS, np.random.default_rng([seed, 1]))
    fields = [
        replace(field, shape=(made.numbers,)) if field.name == "ranges" else field for field in specification(space)
    ]
    torch.manual_seed(seed)
    model = AgentModel(preset="nano", core="gru")
    network = AgentNetwork(model, fields, [GROUP], settings.muesli if settings.name == "muesli" else None)
    learner = Learner(network, settings, seed=seed)
    worlds, numbers = Worlds(made, fields, WORLDS), count()

    def lend(wanted: int) -> list[Lease]:
        return [Lease(str(next(numbers)), 0, 1, 0, True, "agent") for _ in range(wanted)]

    collector = Collector(worlds, WORLDS, 1, learner.acting, settings, lend, seed=seed)
    played, curve = 0, []
    while played < frames:
        learner.update(collector.collect().batch, played / frames)
        played += WORLDS * setting.unroll
        if played >= frames * (len(curve) + 1) / 10 and worlds.returns:
            curve.append((played, float(np.mean(worlds.returns))))
            worlds.returns.clear()
    return curve


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=SETTINGS)
    parser.add_argument("--algorithm", choices=ALGORITHMS, help="only this one")
    parser.add_argument("--frames", type=int, default=400_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for algorithm in [options.algorithm] if options.algorithm else ALGORITHMS:
        for seed in range(1, options.seeds + 1):
            began = time.process_time()
            curve = learn(options.task, algorithm, seed, options.frames)
            seconds, best = time.process_time() - began, SETTINGS[options.task].make.best
            solved = next((frames for frames, mean in curve if mean >= best), None)
            points = " ".join(f"{frames // 1000}k:{mean:.2f}" for frames, mean in curve)
            print(f"{options.task} {algorithm} seed {seed}: {points}; {seconds:.0f} s of processor time; ", end="")
            print("not solved" if solved is None else f"solved ({best}) by {solved} frames", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
