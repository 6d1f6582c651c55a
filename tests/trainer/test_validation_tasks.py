"""The tasks of the validation: an expert solves them, chance does not, and the harness learns from them."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.validation import CartPole, Catch, Task, TMaze, learn

Play = Callable[[np.ndarray, np.ndarray], np.ndarray]  # first observation of the episode and present one, to actions


def mean_return(task: Task, play: Play, timesteps: int, worlds: int) -> float:
    first, sums, returns = task.look(), np.zeros(worlds), []
    for _ in range(timesteps):
        reward, ended = task.step(play(first, task.look()))
        sums += reward
        returns += sums[ended].tolist()
        sums[ended] = 0
        first = np.where(ended[:, None], task.look(), first)
    return float(np.mean(returns))


def follow_the_ball(first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    board = seen.reshape(-1, 10, 5)
    return 1 + np.sign(board[:, :9].any(1).argmax(1) - board[:, 9].argmax(1)).astype(np.int64)


def remember_the_cue(first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.where(seen[:, 2] > 0, 1 + first[:, 0], 1).astype(np.int64)


def lean_with_the_pole(first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.where(seen[:, 2] / 5 + seen[:, 3] / 2 > 0, 2, 0)


@pytest.mark.parametrize(
    ("make", "expert", "timesteps"),
    [(Catch, follow_the_ball, 90), (TMaze, remember_the_cue, 153), (CartPole, lean_with_the_pole, 900)],
)
def test_an_expert_solves_a_task_and_chance_does_not(make: type[Catch], expert: Play, timesteps: int) -> None:
    rng = np.random.default_rng(1)
    best = make.best if make is not CartPole else 100.0  # this player drifts off the rails in the end
    assert mean_return(make(16, np.random.default_rng(0)), expert, timesteps, 16) >= best
    by_chance = mean_return(make(16, np.random.default_rng(0)), lambda *_: rng.integers(0, 3, 16), timesteps, 16)
    assert by_chance < 0.5 * best


@pytest.mark.parametrize("algorithm", ["ppo", "muesli"])
def test_the_harness_plays_and_learns(algorithm: str) -> None:
    torch.set_num_threads(1)
    curve = learn("catch", algorithm, seed=1, frames=2_400)
    assert [frames for frames, _ in curve] == sorted({frames for frames, _ in curve})
    assert curve[-1][0] >= 2_400 and all(-1 <= mean <= 1 for _, mean in curve)
