"""Trials, episodes, and what a batch owes to each of its worlds."""

import gc
import os
import threading
import time

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST, ACTION_SIZES
from ada_sim.observation import specification
from ada_sim.tasks.task import PLAYER_1, InitialObject, Predicate, ProductionRule, Relation

CUBE, SPHERE, PYRAMID = 3, 6, 9
PICTURE = """
########
#......#
#.S.2..#
#..>2#.#
#@.C...#
#..~...#
#...P..#
########
"""
RULES = (
    ProductionRule(Predicate(Relation.TOUCHING, PLAYER_1, CUBE), (PYRAMID, CUBE)),
    ProductionRule(Predicate(Relation.NEAR, SPHERE, PYRAMID), (SPHERE,)),
    ProductionRule(Predicate(Relation.HOLD, PLAYER_1, PYRAMID), (CUBE, CUBE)),
)
GOAL = Predicate(Relation.SEE, PLAYER_1, SPHERE)
SYMBOLIC = Environment(observation="symbolic")


@pytest.fixture
def source(draw, source_of):
    return source_of(*(draw(PICTURE, rules=RULES, goal=GOAL, trial_timesteps=n) for n in (5, 7)))


def batch(num_worlds, source, threads=1, environment=SYMBOLIC):
    return BatchSim(num_worlds, environment, source, threads=threads)


def assign(sim, worlds, tasks=None, trials=2, seeds=None):
    worlds = np.asarray(worlds, np.int64)
    tasks = worlds % 2 if tasks is None else np.full(len(worlds), tasks)
    seeds = worlds + 100 if seeds is None else np.full(len(worlds), seeds)
    sim.assign(worlds, tasks.astype(np.uint64), np.full(len(worlds), trials), seeds.astype(np.uint64))


def actions(num_worlds, seed=0, timesteps=1):
    rng = np.random.default_rng(seed)
    choices = [rng.integers(0, size, (timesteps, num_worlds, 1)) for size in ACTION_SIZES]
    return np.stack(choices, axis=-1).astype(np.int8)


REST = np.full((1, 1, 6), ACTION_REST, np.int8)


def copied(timestep):
    return [array.copy() for array in (*timestep.observation.values(), timestep.reward, timestep.trial_ended)]


def test_a_world_without_an_episode_idles(source):
    timestep = batch(1, source).step(REST)
    assert not timestep.active[0]
    assert not timestep.episode_started[0]
    assert timestep.reward[0, 0] == 0


def test_an_idle_world_starts_its_assigned_episode_with_the_next_step(source):
    sim = batch(1, source)
    assign(sim, [0])
    timestep = sim.step(REST)
    assert timestep.active[0]
    assert timestep.episode_started[0]
    assert timestep.observation["trial_start"][0, 0] == 1
    assert not timestep.observation["last_action"][0, 0].any()


def test_trials_end_on_time_and_the_episode_with_the_last(source):
    sim = batch(1, source)
    assign(sim, [0], trials=2)
    sim.reset(np.array([0]))
    ended, over = [], []
    for _ in range(10):
        timestep = sim.step(REST)
        ended.append(int(timestep.trial_ended[0]))
        over.append(bool(timestep.episode_ended[0]))
    assert ended == [-1, -1, -1, -1, 0, -1, -1, -1, -1, 1]
    assert over == [False] * 9 + [True]
    assert not sim.timestep().active[0]
    assert not any(array.any() for array in sim.timestep().observation.values())


def test_the_next_episode_follows_at_once_when_it_waits(source):
    sim = batch(1, source)
    assign(sim, [0], tasks=0, trials=1)
    sim.reset(np.array([0]))
    assign(sim, [0], tasks=1, trials=3)
    for _ in range(5):
        timestep = sim.step(REST)
    assert timestep.episode_ended[0]
    assert timestep.episode_started[0]
    assert timestep.active[0]
    assert timestep.observation["timers"][0, 0].tolist() == pytest.approx(
        [1.4 * 4 / 30, 0.7 * 4 / 30, 0.7 * 4 / 30, 0.7 * 4 / 30]
    )
    assert timestep.observation["trials_remaining"][0, 0].tolist() == [0, 0, 1, 0, 0, 0]


def test_reset_ends_the_episode_now(source):
    sim = batch(2, source)
    assign(sim, [0, 1])
    sim.reset(np.array([0, 1]))
    sim.reset(np.array([1]))
    assert sim.timestep().active.tolist() == [True, False]


def test_each_trial_starts_the_same_but_for_the_yaw(source):
    sim = batch(1, source)
    assign(sim, [0], trials=3)
    sim.reset(np.array([0]))
    starts = [sim.state()]
    for action in actions(1, timesteps=10):
        if sim.step(action).trial_ended[0] >= 0:
            starts.append(sim.state())
    a, b = starts[0], starts[1]
    assert a["world.yaw"][0, 0] != b["world.yaw"][0, 0]
    for name in ("position", "velocity", "kind", "used", "bodies_of", "spent", "held", "pitch"):
        assert np.array_equal(a[f"world.{name}"], b[f"world.{name}"]), name


def test_last_action_is_kept_between_trials_and_cleared_between_episodes(source):
    sim = batch(1, source)
    assign(sim, [0], trials=2)
    sim.reset(np.array([0]))
    assign(sim, [0], trials=2)
    for n in range(1, 11):
        shown = sim.step(REST).observation["last_action"][0, 0].tolist()
        assert shown == ([0] * 6 if n == 10 else [choice + 1 for choice in ACTION_REST])


def test_groups_that_the_experiment_does_not_list_stay_at_rest(source):
    sim = batch(1, source, environment=Environment(observation="symbolic", action_groups=["turn"]))
    assign(sim, [0])
    sim.reset(np.array([0]))
    moved = REST.copy()
    moved[0, 0] = [2, 2, 4, 2, 1, 2]
    shown = sim.step(moved).observation["last_action"][0, 0]
    assert shown.tolist() == [2, 2, 5, 2, 1, 2]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_equals_its_singles_bit_for_bit(source, threads):
    many = batch(33, source, threads=threads)
    assign(many, range(33))
    many.reset(np.arange(33))
    sequence = actions(33, timesteps=9)
    seen = [copied(many.timestep())] + [copied(many.step(action)) for action in sequence]
    many.close()
    for b in (0, 1, 17, 32):
        one = batch(1, source)
        assign(one, [0], tasks=b % 2, seeds=b + 100)
        one.reset(np.array([0]))
        alone = [copied(one.timestep())] + [copied(one.step(action[b : b + 1])) for action in sequence]
        for together, apart in zip(seen, alone, strict=True):
            for x, y in zip(together, apart, strict=True):
                assert np.array_equal(x[b : b + 1], y)


@pytest.mark.parametrize("pause_s", [0.0, 0.002], ids=["helpers stay awake", "helpers fall asleep"])
def test_threads_change_nothing_in_many_steps(source, pause_s):
    states = []
    for threads in (1, 2, 3):
        sim = batch(100, source, threads=threads)
        assign(sim, range(100), trials=48)
        sim.reset(np.arange(100))
        for n, action in enumerate(actions(100, timesteps=100)):
            sim.step(action)
            if threads > 1 and n % 3 == 0:
                time.sleep(pause_s)
        states.append(sim.state())
        sim.close()
    assert all(np.array_equal(states[0][name], state[name]) for state in states[1:] for name in state)


def helpers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("helper")]


@pytest.mark.parametrize("closes", [True, False], ids=["a batch that is closed", "a batch that is forgotten"])
def test_threads_end_with_their_batch(source, closes):
    before = len(helpers())
    sim = batch(64, source, threads=2)
    assign(sim, range(64))
    sim.step(actions(64, timesteps=1)[0])
    if os.cpu_count() != 1:
        assert len(helpers()) > before
    if closes:
        sim.close()
    del sim
    gc.collect()
    ends = time.monotonic() + 10
    while len(helpers()) > before and time.monotonic() < ends:
        time.sleep(0.01)
    assert len(helpers()) == before


def test_the_same_seed_and_actions_give_the_same_episode(source):
    runs = []
    for _ in range(2):
        sim = batch(3, source)
        assign(sim, range(3))
        sim.reset(np.arange(3))
        for action in actions(3, timesteps=9):
            sim.step(action)
        runs.append(sim.state())
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_a_loaded_state_goes_on_exactly(source):
    sim = batch(4, source)
    assign(sim, range(4), trials=4)
    sim.reset(np.arange(4))
    sequence = actions(4, timesteps=12)
    for action in sequence[:4]:
        sim.step(action)
    saved = sim.state()
    first = [copied(sim.step(action)) for action in sequence[4:]]
    other = batch(4, source)
    other.load(saved)
    second = [copied(other.step(action)) for action in sequence[4:]]
    for a, b in zip(first, second, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_observations_stay_within_their_specification(source):
    sim = batch(8, source)
    assign(sim, range(8), trials=2)
    sim.reset(np.arange(8))
    fields = specification(SYMBOLIC)
    assert list(sim.timestep().observation) == [field.name for field in fields]
    for action in actions(8, timesteps=14):
        timestep = sim.step(action)
        for field in fields:
            array = timestep.observation[field.name]
            assert array.shape == (8, 1, *field.shape)
            assert array.dtype == field.dtype
            assert array.min() >= field.low, field.name
            assert array.max() <= field.high, field.name
        if timestep.episode_ended.any():
            assign(sim, np.flatnonzero(timestep.episode_ended))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 1, 6), np.int64), "must be int8"),
        (np.zeros((1, 1, 6), np.int8), r"must be \(2, 1, 6\)"),
        (np.full((2, 1, 6), 3, np.int8), "3 for move, must be 0 to 2"),
        (np.full((2, 1, 6), -1, np.int8), "-1 for move"),
    ],
)
def test_wrong_actions_are_refused_and_nothing_changes(source, wrong, message):
    sim = batch(2, source)
    assign(sim, [0, 1])
    sim.reset(np.arange(2))
    before = sim.state()
    with pytest.raises(ValueError, match=message):
        sim.step(wrong)
    after = sim.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_wrong_assignments_are_refused_and_nothing_changes(draw, source_of):
    crowd = tuple(InitialObject(CUBE, 2.5, 2.5) for _ in range(33))
    good, crowded = draw(PICTURE), draw(PICTURE, extra=crowd)
    walled = draw(PICTURE, extra=(InitialObject(CUBE, 5.5, 4.5),))
    sim = batch(2, source_of(good, crowded, walled))
    before = sim.state()
    for task, message in ((1, "objects is 36, must be 0 to 32"), (2, "inside a wall")):
        with pytest.raises(ValueError, match=message):
            sim.assign(np.arange(2), np.array([0, task], np.uint64), np.ones(2, int), np.zeros(2, np.uint64))
    with pytest.raises(ValueError, match="worlds holds 0 to 2, must be 0 to 1"):
        assign(sim, [0, 2])
    with pytest.raises(ValueError, match="trials holds 0, must be 1 to 48"):
        assign(sim, [0], trials=0)
    after = sim.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_state_of_another_shape_is_refused(source):
    with pytest.raises(ValueError, match="this batch needs"):
        batch(2, source).load(batch(3, source).state())
