"""What a step may not cost: memory taken while it runs, memory of a world; and shortcuts that must not show."""

import tracemalloc

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim import constants as c
from ada_sim.batch import BatchSim
from ada_sim.engine.terrain import ground, height_on, is_blocked, walkable_distance
from ada_sim.engine.types import TASK, TOLD, WORLD

WORLDS = 64
LIMIT_BYTES = 64_000
MAZE = """
############
#1111.....2#
#1@.1<..#..#
#11>2.~~.P.#
#.^.22S~W..#
#..#.###...#
#.C#S#.#.c.#
#..#.#.#...#
#W.....<1..#
#...s.2111P#
#...p......#
############
"""


@pytest.fixture
def maze(draw, source_of):
    sim = BatchSim(WORLDS, Environment(observation="symbolic"), source_of(draw(MAZE, trial_timesteps=20)))
    everyone = np.arange(WORLDS)
    sim.assign(everyone, np.zeros(WORLDS, np.uint64), np.full(WORLDS, 40), everyone.astype(np.uint64))
    sim.reset(everyone)
    return sim


def actions_of(rng, count):
    choices = [rng.integers(0, size, (count, WORLDS, 1)) for size in c.ACTION_SIZES]
    return np.stack(choices, axis=-1).astype(np.int8)


def test_a_step_takes_no_memory(maze):
    actions = actions_of(np.random.default_rng(0), 60)  # three trials
    maze.step(actions[0])
    tracemalloc.start()
    try:
        for action in actions:
            maze.step(action)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for action in actions:
            maze.step(action)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 2_000, "less than a single array over the worlds"


def test_a_world_takes_less_than_its_limit(maze):
    outputs = sum(array.nbytes for array in maze._out)
    assert WORLD.itemsize + 2 * TASK.itemsize + outputs / WORLDS + TOLD.itemsize / WORLDS < LIMIT_BYTES


def walked(task, x, y, cos, sin):
    """Return how far one walks from (x, y) along the ground, by steps of 2 mm."""
    i, j = int(x), int(y)
    for distance in np.arange(0, c.RANGE_LIMIT_M, 0.002):
        to_x, to_y = x + distance * cos, y + distance * sin
        if (int(to_x), int(to_y)) != (i, j):
            here = height_on(task, i, j, to_x, to_y)
            i, j = int(to_x), int(to_y)
            if is_blocked(task, i, j, to_x, to_y, here, True):
                return distance
    return c.RANGE_LIMIT_M


def test_ranges_agree_with_steps_over_the_ground(maze):
    task, rng = maze._tasks[0], np.random.default_rng(2)
    differing = 0
    for _ in range(200):
        x, y, angle = *rng.uniform(1, 11, 2), rng.uniform(-np.pi, np.pi)
        if task["tile"][int(x), int(y)] == 1:
            continue
        cos, sin = np.cos(angle), np.sin(angle)
        expected = walked(task, x, y, cos, sin)
        differing += abs(walkable_distance(task, x, y, cos, sin, c.RANGE_LIMIT_M) - expected) > 0.005
    assert differing <= 2  # a line may cross a corner between two steps


def test_what_is_kept_beside_the_gaze_follows_it(maze):
    for action in actions_of(np.random.default_rng(3), 90):
        maze.step(action)
        state = maze._worlds
        yaw, pitch = state["yaw"][:, :1], state["pitch"][:, :1]
        assert (np.abs(yaw) <= np.pi).all()
        assert (np.abs(pitch) <= c.MAX_PITCH).all()
        assert np.allclose(state["cos_yaw"][:, :1], np.cos(yaw), rtol=0, atol=1e-15)
        assert np.allclose(state["sin_yaw"][:, :1], np.sin(yaw), rtol=0, atol=1e-15)
        assert np.allclose(state["tan_pitch"][:, :1], np.tan(pitch), rtol=0, atol=1e-15)


def test_terrain_that_the_engine_reads_is_that_of_pictures(maze):
    task = maze._tasks[0]
    size = int(task["size"])
    for i in range(size):
        for j in range(size):
            assert task["cell"][i * size + j] & 7 == task["tile"][i, j]
            assert ground(task, i + 1e-9, j + 1e-9) >= task["top"][i, j] - 1e-6


def test_forgetting_what_rules_were_settled_changes_nothing(maze):
    rng = np.random.default_rng(4)
    twin = BatchSim(WORLDS, maze.environment, maze._source)
    twin.load(maze.state())
    for action in actions_of(rng, 60):
        twin._worlds["settled"] = 0
        twin._worlds["charted"] = 0
        one, other = maze.step(action), twin.step(action)
        for name, array in one.observation.items():
            assert np.array_equal(array, other.observation[name])
        assert np.array_equal(one.reward, other.reward)
