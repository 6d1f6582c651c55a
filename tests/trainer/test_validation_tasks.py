"""The tasks of the validation: experts solve them, chance does not, CartPole is Gymnasium's, and the harness learns."""

import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.peers.tasks import EPISODES, CartPole, Catch, Step, Tally, Task, TMaze
from benchmarks.validation import Run, learn, line_of, run

Play = Callable[[np.ndarray, np.ndarray], np.ndarray]  # first observation of the episode and present one, to actions


def mean_return(task: Task, play: Play, timesteps: int, worlds: int) -> float:
    first, tally, returns = task.look(), Tally(worlds, task.best), []
    for _ in range(timesteps):
        step = task.step(play(first, task.look()))
        returns += tally.add(step)
        first = np.where(step.ended[:, None], task.look(), first)
    return float(np.mean(returns))


def follow_the_ball(first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    board = seen.reshape(-1, 10, 5)
    return 1 + np.sign(board[:, :9].any(1).argmax(1) - board[:, 9].argmax(1)).astype(np.int64)


def remember_the_cue(first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.where(seen[:, 2] > 0, 1 + first[:, 0], 1).astype(np.int64)


def lean_with_the_pole(first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return (0.02 * seen[:, 0] + 0.05 * seen[:, 1] + seen[:, 2] + seen[:, 3] > 0).astype(np.int64)


@pytest.mark.parametrize(
    ("make", "expert", "timesteps"),
    [(Catch, follow_the_ball, 90), (TMaze, remember_the_cue, 153), (CartPole, lean_with_the_pole, 1001)],
)
def test_an_expert_solves_a_task_and_chance_does_not(make: type[Catch], expert: Play, timesteps: int) -> None:
    rng = np.random.default_rng(1)
    assert mean_return(make(16, 0), expert, timesteps, 16) >= make.best
    by_chance = mean_return(make(16, 0), lambda *_: rng.integers(0, make.actions, 16), timesteps, 16)
    assert by_chance < 0.5 * make.best


def test_cartpole_is_that_of_gymnasium() -> None:
    ours, theirs = CartPole(1, 3), gymnasium.make("CartPole-v1").unwrapped
    rng, ends = np.random.default_rng(0), 0
    theirs.reset(seed=0)
    theirs.state = tuple(ours.state[:, 0])
    for _ in range(400):
        action = int(rng.integers(2))
        seen, reward, terminated, *_ = theirs.step(action)
        step = ours.step(np.array([action]))
        np.testing.assert_allclose(step.last[0], seen, rtol=1e-5, atol=1e-6)
        assert (step.reward[0], step.ended[0]) == (reward, terminated)
        if terminated:
            ends += 1
            theirs.reset()
            theirs.state = tuple(ours.state[:, 0])
    assert ends > 5


def test_a_task_is_solved_at_the_frame_where_the_mean_of_a_hundred_returns_reaches_its_threshold() -> None:
    tally = Tally(2, best=0.5)
    for episode in range(200):
        reward = np.array([1.0, 1.0]) if episode >= 60 else np.zeros(2)
        tally.add(Step(reward, np.ones(2, bool), np.zeros(2, bool), np.zeros((2, 1))))
        assert (tally.solved_at is None) == (episode < 60 + EPISODES // 4 - 1)
    assert tally.solved_at == 2 * (60 + EPISODES // 4) and tally.frames == 400


@pytest.mark.parametrize("system", ["ppo", "muesli"])
def test_the_harness_plays_learns_and_reads_what_it_left(system: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    done = run("catch", system, 1, 1_200, tmp_path)
    assert done.frames >= 1_200 and done.solved_at is None and "not solved" in line_of(done)
    assert [frames for frames, _ in done.curve] == sorted(frames for frames, _ in done.curve)
    assert all(-1 <= mean <= 1 for _, mean in done.curve)
    again = run("catch", system, 1, 1_200, tmp_path)
    assert isinstance(again, Run) and again.processor_s == done.processor_s and again.frames == done.frames


def test_two_actions_are_enough_for_the_agent() -> None:
    torch.set_num_threads(1)
    done = learn("cartpole", "muesli", 1, 600)
    assert done.curve[-1][1] > 1
