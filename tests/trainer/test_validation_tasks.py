"""The tasks of the validation: experts solve them, chance does not, CartPole is Gymnasium's, and the harness learns.

Episodes that a limit of time cuts off are worth what would have come; the quickstart's task is the same for both sides.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import one_try
from benchmarks.peers.tasks import EPISODES, ONE_TRY, CartPole, Catch, Served, Step, Tally, Task, TMaze, tally
from benchmarks.validation import SETTINGS, Run, algorithm_of, learn, line_of, network_of, run
from benchmarks.validation_worlds import CutCollector, Normalised, Worlds

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


def test_a_run_with_other_settings_is_made_again(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    done = run("catch", "ppo", 1, 400, tmp_path)
    (file,) = tmp_path.glob("*.json")
    file.write_text(json.dumps(asdict(replace(done, settings="{}", frames=7))), encoding="utf-8")
    assert run("catch", "ppo", 1, 400, tmp_path).frames == done.frames


def test_normalised_numbers_are_deviations_from_all_that_was_seen_and_what_ended_an_episode_is_told_so_too() -> None:
    plain, told, rng = CartPole(5, 1), Normalised(CartPole(5, 1)), np.random.default_rng(0)
    seen, ends = [plain.look()], 0
    for _ in range(60):
        actions = rng.integers(0, 2, 5)
        bare, step = plain.step(actions), told.step(actions)
        seen.append(plain.look())
        mean, deviation = np.concatenate(seen).mean(0), np.concatenate(seen).std(0)
        np.testing.assert_allclose(told.look(), np.clip((plain.look() - mean) / deviation, -10, 10), rtol=0.03)
        np.testing.assert_allclose(step.last, np.clip((bare.last - mean) / deviation, -10, 10), rtol=0.03)
        np.testing.assert_array_equal((step.reward, step.ended), (bare.reward, bare.ended))
        ends += bare.ended.sum()
    assert ends > 5


class Corridor:
    """Sees the time, pays 1 a timestep; every third timestep ends an episode, by turns by time alone and for good."""

    numbers, actions, best = 1, 2, 1e9

    def __init__(self, worlds: int) -> None:
        self.worlds, self.clock = worlds, 0

    def look(self) -> np.ndarray:
        return np.full((self.worlds, 1), self.clock % 3, float)

    def step(self, actions: np.ndarray) -> Step:
        last = self.look() + 1
        self.clock += 1
        ended = np.full(self.worlds, self.clock % 3 == 0)
        return Step(np.ones(self.worlds), ended, ended & (self.clock % 6 == 3), last)


@pytest.mark.parametrize("system", ["ppo", "muesli"])
def test_an_episode_cut_off_by_time_is_worth_what_its_next_observation_is_worth(system: str) -> None:
    setting = replace(SETTINGS["catch"], worlds=2, unroll=7, reward_scale=0.5)
    settings = algorithm_of(setting, system)
    torch.manual_seed(1)
    task = Corridor(2)
    network = network_of(setting, settings.muesli if system == "muesli" else None, task)
    worlds = Worlds(task, Tally(2, task.best), 2)
    batch = CutCollector(worlds, network, settings, 1).collect().batch
    state, expected = network.initial_state(2), torch.full((7, 2), 0.5)
    with torch.no_grad():
        for t in range(3):
            seen = {name: field[t] for name, field in batch.observation.items()}
            output, state = network.step(seen, state, batch.clear[t])
        beyond = {**seen, "ranges": torch.full((2, 1), 3.0), "last_reward": torch.ones(2, 1)}
        beyond["last_action"] = batch.actions[2] + 1
        output, _ = network.step(beyond, state, torch.zeros(2, dtype=torch.bool))
    expected[2] += settings.discount * output.value
    assert output.value.abs().min() > 0
    torch.testing.assert_close(batch.reward, expected)
    assert batch.continues[:, 0].tolist() == [1, 1, 0, 1, 1, 0, 1]


def test_the_quickstarts_task_comes_to_others_as_it_is_to_us() -> None:
    plain, native = one_try.OneTry(3, 5), one_try.CountedSim(3)
    lent = [lease for lease, _ in zip(one_try.leases(5), range(6), strict=False)]
    for some in (lent[:3], lent[3:]):
        chosen, seeds = (np.array([getattr(one, name) for one in some], np.uint64) for name in ("task", "seed"))
        native.assign(np.arange(3), chosen, np.full(3, one_try.TRIALS), seeds)
        if not native.started:
            native.step(plain.resting)
    rng, ended = np.random.default_rng(0), False
    while not ended:
        choice = rng.integers(0, plain.actions, 3)
        actions = plain.resting.copy()
        actions[:, 0, 0], actions[:, 0, 2] = choice // 5, choice % 5
        theirs, ours = plain.step(choice), native.step(actions)
        np.testing.assert_array_equal(theirs.reward, ours.reward[:, 0])
        np.testing.assert_array_equal(theirs.ended, ours.episode_ended)
        np.testing.assert_array_equal(plain.timestep.observation["objects"], ours.observation["objects"])
        assert (plain.timestep.observation["rules"] == plain.timestep.observation["rules"][:1]).all()
        ended = bool(theirs.ended.any())
    assert native.tally.frames == 3 * one_try.TRIALS * 30
    assert plain.look().shape == (3, plain.numbers) and np.isfinite(plain.look()).all()


def test_the_quickstarts_task_is_served_to_another_process() -> None:
    here = one_try.OneTry(2, 9)
    there = Served([sys.executable, "-m", "benchmarks.one_try", "2", "9"], 2)
    assert (there.numbers, there.actions, there.best) == (here.numbers, here.actions, here.best)
    for choice in (0, 7, 14):
        mine, other = here.step(np.full(2, choice)), there.step(np.full(2, choice))
        np.testing.assert_allclose(there.look(), here.look(), rtol=1e-6)
        np.testing.assert_array_equal(other.reward, mine.reward)
    there.close()


def test_our_learner_plays_the_quickstarts_task_and_is_counted() -> None:
    torch.set_num_threads(1)
    setting = replace(SETTINGS[ONE_TRY], worlds=4, unroll=40, minibatches=2, epochs=1)
    done = learn(ONE_TRY, "ppo", 1, 640, setting)
    assert done.frames == 640 and 0 <= done.curve[-1][1] <= 150
    assert tally(ONE_TRY, 4).episodes == 500


def test_a_process_that_cannot_serve_a_task_is_told_of() -> None:
    with pytest.raises(EOFError, match="before its task was ready"):
        Served([sys.executable, "-c", "pass"], 2)
