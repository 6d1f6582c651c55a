"""Properties of generated worlds under random and adversarial players: a short run, or 10 million steps.

The long run: ADA_TEST_LONG=1 pytest tests/sim/test_engine_properties.py
"""

import os
from dataclasses import replace

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim import constants as c
from ada_sim.batch import BatchSim
from ada_sim.tasks.source import TaskSource
from ada_sim.tasks.task import Tile

LONG = os.environ.get("ADA_TEST_LONG") == "1"
WORLDS = 1024 if LONG else 64
TIMESTEPS = 2500 if LONG else 150  # of each of the four runs: 10 million steps in all
LOOK_EVERY = 5
REST = np.array(c.ACTION_REST, np.int8)
MOST_M = c.MAX_SPEED_M_S * c.TIMESTEP_S  # that a body moves in a timestep by itself
SLIDE_J_KG = 0.5  # what an object gains that begins to slide off the top of a wall, at 1 m/s
LEAST_J_KG = 1e-6
PUSHED_M = 1.5  # and what pushes may add


class Drawn:
    """Generated tasks, with or without their production rules."""

    def __init__(self, environment, with_rules):
        self.source, self.with_rules = TaskSource(environment), with_rules

    def task(self, number):
        task = self.source.task(number)
        return task if self.with_rules else replace(task, game=replace(task.game, rules=()))


def batch_of(players, with_rules, seed):
    environment = Environment(observation="symbolic", players=players)
    source = Drawn(environment, with_rules)
    sim = BatchSim(WORLDS, environment, source)
    rng, everyone = np.random.default_rng(seed), np.arange(WORLDS)
    pool = np.array([source.source.draw(rng, held_out=False) for _ in range(256 if LONG else WORLDS)], np.uint64)
    sim.assign(everyone, pool[everyone % len(pool)], np.full(WORLDS, 48), everyone.astype(np.uint64))
    sim.reset(everyone)
    return sim, rng


def random_actions(rng, shape):
    return np.stack([rng.integers(0, size, shape) for size in c.ACTION_SIZES], axis=-1).astype(np.int8)


def adversarial_actions(rng, shape, last):
    """Keep most choices for long, mostly forward with a closed hand: walk into corners, crush piles, throw."""
    drawn = random_actions(rng, shape)
    drawn[..., c.MOVE] = np.where(rng.random(shape) < 0.6, 2, drawn[..., c.MOVE])
    drawn[..., c.GRIP] = rng.random(shape) < 0.8
    return np.where(rng.random(shape)[..., None] < 0.1, drawn, last)


def heights(records, x, y):
    """Return the height of the terrain under points [B, K]."""
    b = np.arange(len(x))[:, None]
    i, j = x.astype(int), y.astype(int)
    tile, top = records["tile"][b, i, j], records["top"][b, i, j]
    up = np.zeros_like(x)
    for ramp, rise in (
        (Tile.RAMP_NORTH, y - j),
        (Tile.RAMP_EAST, x - i),
        (Tile.RAMP_SOUTH, 1 - y + j),
        (Tile.RAMP_WEST, 1 - x + i),
    ):
        up = np.where(tile == ramp, rise, up)
    return top + up * c.LEVEL_HEIGHT_M, tile


def check(worlds, tasks, objects):
    """Assert what holds of every body at every moment."""
    present = worlds["kind"] >= 0
    position, velocity = worlds["position"], worlds["velocity"]
    assert np.isfinite(position[present]).all()
    assert np.isfinite(velocity[present]).all()
    assert np.linalg.norm(velocity[:, c.FIRST_OBJECT :], axis=-1)[present[:, c.FIRST_OBJECT :]].max() < 30
    half = c.HALF[np.maximum(worlds["kind"], 0) // 3]
    x, y, z = (np.where(present, position[..., axis], 1.5) for axis in range(3))
    for at, wide in ((x, half[..., 0]), (y, half[..., 1])):
        inside = (at >= 1 + wide) & (at <= tasks["size"][:, None] - 1 - wide)
        assert (inside | ~present).all(), "left the world"
    floor, tile = heights(tasks, x, y)
    assert ((z - half[..., 2] >= floor - 1e-5) | ~present).all(), "sank into the ground"
    assert ((z <= floor + 30) | ~present).all(), "left upwards"
    players = present[:, : c.FIRST_OBJECT]
    assert not (players & (tile[:, : c.FIRST_OBJECT] == Tile.WALL)).any(), "a player is inside a wall"
    if objects is not None:
        assert np.array_equal(present[:, c.FIRST_OBJECT :].sum(axis=1), objects), "an object was lost"


@pytest.mark.parametrize(("players", "with_rules"), [(1, True), (2, True), (1, False), (2, False)])
def test_nothing_is_lost_tunnels_or_leaves_a_generated_world(players, with_rules):
    sim, rng = batch_of(players, with_rules, seed=players)
    worlds, tasks = sim._worlds, sim._tasks
    objects = None if with_rules else tasks["num_objects"].copy()
    shape = (WORLDS, players)
    actions = random_actions(rng, shape)
    random_half = np.arange(WORLDS) % 2 == 0
    for timestep in range(TIMESTEPS):
        before, kinds = worlds["position"].copy(), worlds["kind"].copy()
        actions = adversarial_actions(rng, shape, actions)
        actions[random_half] = random_actions(rng, shape)[random_half]
        ended = sim.step(actions).trial_ended >= 0
        if timestep % LOOK_EVERY:
            continue
        check(worlds, tasks, objects)
        if not with_rules:
            same = (worlds["kind"] == kinds) & (kinds >= 0) & ~ended[:, None]
            way = np.abs(worlds["position"] - before)[..., :2].max(axis=-1)
            assert way[same].max() < MOST_M + PUSHED_M, "went through something"


def energy(worlds):
    """Return the mechanical energy of each world's objects, J/kg; a sphere rolls, so its turning counts."""
    kind = worlds["kind"][:, c.FIRST_OBJECT :]
    velocity, position = worlds["velocity"][:, c.FIRST_OBJECT :], worlds["position"][:, c.FIRST_OBJECT :]
    half = np.where(kind // 3 == 2, 0.5 / c.ROLL_SHARE, 0.5)
    along = (velocity[..., :2] ** 2).sum(axis=-1)
    each = half * along + 0.5 * velocity[..., 2] ** 2 + c.GRAVITY_M_S2 * position[..., 2]
    return (each * (kind >= 0)).sum(axis=1)


def on_walls(worlds, tasks):
    """Count each world's objects above the tiles of walls."""
    position = worlds["position"][:, c.FIRST_OBJECT :]
    i, j = position[..., 0].astype(int), position[..., 1].astype(int)
    tile = tasks["tile"][np.arange(len(i))[:, None], i, j]
    return ((tile == Tile.WALL) & (worlds["kind"][:, c.FIRST_OBJECT :] >= 0)).sum(axis=1)


def test_left_alone_a_world_loses_its_energy_and_comes_to_rest():
    sim, rng = batch_of(1, with_rules=False, seed=5)
    shape = (WORLDS, 1)
    actions = random_actions(rng, shape)
    for _ in range(60):
        actions = adversarial_actions(rng, shape, actions)
        sim.step(actions)
    worlds = sim._worlds
    worlds["clock"] = 0  # no trial ends meanwhile
    resting = np.broadcast_to(REST, (*shape, 6)).copy()
    sim.step(resting)
    first = last = energy(worlds)
    sliding = on_walls(worlds, sim._tasks)
    for _ in range(60):
        worlds["clock"] = 0
        sim.step(resting)
        now = energy(worlds)
        gain = now - last - SLIDE_J_KG * sliding
        assert (gain <= LEAST_J_KG).all(), (gain.max(), gain.argmax())
        sliding = on_walls(worlds, sim._tasks)
        last = now
    assert (last <= first + 1e-3).all(), (last - first).max()
    awake = (worlds["awake"][:, c.FIRST_OBJECT :] > 0) & (worlds["kind"][:, c.FIRST_OBJECT :] >= 0)
    assert awake.any(axis=1).mean() < 0.05, "in a few worlds an object still trembles against others"
