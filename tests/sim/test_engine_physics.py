"""Objects fall, slide, roll, stack and stop; nothing leaves the world, whatever the actions."""

import os

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_SIZES, FIRST_OBJECT, HALF
from ada_sim.tasks.task import InitialObject, Predicate, ProductionRule, Relation, Tile

LONG = os.environ.get("ADA_TEST_LONG") == "1"
CUBE, SPHERE, PYRAMID = 3, 6, 9
ROOM = """
##########
#........#
#........#
#........#
#@.......#
#........#
#........#
#........#
#........#
##########
"""
WILD = """
############
#1111..CS..#
#1@C1<.....#
#11>2.~~.P.#
#.^.22S~W..#
#..#.###...#
#.C#S#.#.c.#
#..#.#.#...#
#W.....<1..#
#...s.2111P#
#...p.....&#
############
"""


def room(row):
    return ROOM.replace("#@.......#", row)


def lifted(one, height, number=0):
    position = one.world("position")
    position[FIRST_OBJECT + number, 2] = height
    return position


def test_an_object_in_the_air_falls_and_rests(world_of):
    one = world_of(room("#@...C...#"))
    one.change(position=lifted(one, 2.0))
    one.act(10)
    assert one.place()[2] == pytest.approx(0.25)
    assert not one.world("velocity")[FIRST_OBJECT].any()


def test_a_pushed_cube_slides_to_rest(world_of):
    one = world_of(room("#@.C.....#"))
    one.act(6, move=2)
    assert one.place()[0] > one.player()[0] + 0.5
    one.act(10)
    resting = one.place()
    one.act()
    assert np.array_equal(one.place(), resting)
    assert one.world("awake")[FIRST_OBJECT] == 0


def test_a_pushed_sphere_rolls_farther_than_a_cube(world_of):
    ways = []
    for letter in "CS":
        one = world_of(room(f"#@{letter}......#"))
        one.act(2, move=2)
        one.act(20)
        ways.append(one.place()[0])
    assert ways[1] > ways[0] + 0.5


def test_a_sphere_rolls_down_a_ramp_and_a_cube_stays(world_of):
    picture = room("#@...>...#")
    for kind, moves in ((SPHERE, True), (CUBE, False)):
        one = world_of(picture, extra=(InitialObject(kind, 5.5, 5.5),))
        one.act(15)
        assert (abs(one.place()[0] - 5.5) > 0.5) == moves


def test_a_cube_dropped_on_a_cube_stays_on_top(world_of):
    one = world_of(room("#@...C...#"), extra=(InitialObject(CUBE, 6.6, 5.5),))
    position = lifted(one, 1.2, 1)
    position[FIRST_OBJECT + 1, :2] = position[FIRST_OBJECT, :2] + 0.05
    one.change(position=position)
    one.act(12)
    assert one.place(1)[2] == pytest.approx(0.75, abs=0.01)
    assert one.place(0)[2] == pytest.approx(0.25, abs=0.01)


def test_what_stood_on_a_removed_object_falls(world_of):
    gone = ProductionRule(Predicate(Relation.NEAR, 12, SPHERE))
    one = world_of(room("#@..S....#"), rules=(gone,), extra=(InitialObject(CUBE, 7.5, 5.5),))
    position = lifted(one, 0.8, 1)
    position[FIRST_OBJECT + 1, :2] = position[FIRST_OBJECT, :2]
    one.change(position=position)
    one.act(4)
    assert one.place(1)[2] == pytest.approx(0.75, abs=0.02)
    one.act(4, move=2)
    one.act(6)
    assert one.objects() == [CUBE]
    assert one.place(1)[2] == pytest.approx(0.25)


def test_an_object_pushed_off_a_level_lands_below(world_of):
    one = world_of(
        """
        ########
        #......#
        #......#
        #2222..#
        #@2C...#
        #2222..#
        #......#
        ########
        """.replace("@2C", "@C2")
    )
    one.raise_ground(slice(1, 5), slice(2, 5), 1.0)
    state = one.sim.state()
    state["world.position"][0, 0, 2] = 1.5
    state["world.position"][0, FIRST_OBJECT, 2] = 1.25
    one.sim.load(state)
    one.act(9, move=2)
    one.act(10)
    assert one.place()[0] > 5
    assert one.place()[2] == pytest.approx(0.25)


def test_nothing_comes_to_rest_on_top_of_a_wall(world_of):
    one = world_of(room("#@...#...#"), extra=(InitialObject(CUBE, 7.5, 5.5),))
    position = lifted(one, 2.0)
    position[FIRST_OBJECT, :2] = 5.5, 5.5
    one.change(position=position)
    one.act(20)
    assert one.place()[2] == pytest.approx(0.25)


def test_objects_between_player_and_wall_stop_the_player(world_of):
    one = world_of(room("#@..CCC..#"))
    one.act(40, move=2)
    assert one.place(2)[0] == pytest.approx(9 - 0.25, abs=0.02)
    assert one.player()[0] < 9 - 1.5 - 0.3 + 0.1


def adversarial(rng, timesteps, worlds, players):
    """Random choices, each kept for a while: walks into corners, spins with things in hand, crushes piles."""
    shape = (timesteps // 8 + 1, worlds, players)
    held = np.stack([rng.integers(0, size, shape) for size in ACTION_SIZES], axis=-1)
    actions = np.repeat(held, 8, axis=0)[:timesteps]
    actions[..., 0] = np.where(rng.random(actions.shape[:-1]) < 0.5, 2, actions[..., 0])
    return actions.astype(np.int8)


@pytest.mark.parametrize("seed", range(40 if LONG else 2))
def test_nothing_is_lost_or_stuck_in_terrain_whatever_the_actions(draw, source_of, seed):
    rng = np.random.default_rng(seed)
    relations = list(Relation)
    rules = tuple(
        ProductionRule(
            Predicate(relations[rng.integers(3)], int(rng.integers(14)), int(rng.integers(12))),
            tuple(int(kind) for kind in rng.integers(0, 12, rng.integers(1, 4))),
        )
        for _ in range(6)
    )
    task = draw(WILD, rules=rules if seed % 2 else (), trial_timesteps=300)
    worlds = 16
    sim = BatchSim(worlds, Environment(observation="symbolic", players=2), source_of(task))
    everyone = np.arange(worlds)
    sim.assign(everyone, np.zeros(worlds, np.uint64), np.full(worlds, 2), everyone.astype(np.uint64))
    sim.reset(everyone)
    objects = len(task.objects)
    for timestep, action in enumerate(adversarial(rng, 590, worlds, 2)):
        sim.step(action)
        if timestep % 5:
            continue
        state = sim.state()
        if not rules or seed % 2 == 0:
            assert ((state["world.kind"][:, FIRST_OBJECT:] >= 0).sum(axis=1) == objects).all()
        check_bodies(state)


def check_bodies(state):
    position, kind = state["world.position"], state["world.kind"]
    assert np.isfinite(position).all()
    assert np.isfinite(state["world.velocity"]).all()
    assert np.abs(state["world.velocity"]).max() <= 6.0 + 1e-6
    for b, k in np.argwhere(kind >= 0):
        x, y, z = position[b, k]
        half = HALF[kind[b, k] // 3]
        size = state["task.size"][b]
        assert 1 + half[0] <= x <= size - 1 - half[0]
        assert 1 + half[1] <= y <= size - 1 - half[1]
        i, j = int(x), int(y)
        tile, top = state["task.tile"][b, i, j], state["task.top"][b, i, j]
        assert z - half[2] >= top - 1e-6, "sunk into the ground"
        assert z < 12
        if k < FIRST_OBJECT:
            assert tile != Tile.WALL
