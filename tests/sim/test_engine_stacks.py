"""Stacks of objects come to rest, sleep, stay where they are to the last bit, and wake when touched."""

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST, FIRST_OBJECT, GRAVITY_M_S2, HALF, TIMESTEP_S
from ada_sim.tasks.task import PLAYER_1, InitialObject, Predicate, ProductionRule, Relation

WORLDS = 128
SLAB, CUBE, SPHERE, PYRAMID = 0, 3, 6, 9
ROOM = "\n".join(["#" * 12, *["#..........#"] * 5, "#@.........#", *["#..........#"] * 4, "#" * 12])
CENTRE = (6.0, 5.5)  # the player stands to the west of it
SETTLED = 60  # timesteps after which nothing of a stack moves


def dropped(rng, spheres):
    """Return kinds and places of 2 to 5 objects above one another, up to 0.3 m apart, and some spheres beside them."""
    kinds, places, top = [], [], 0.0
    for kind in rng.choice([SLAB, CUBE, PYRAMID], rng.integers(2, 6)):
        half = HALF[kind // 3, 2]
        top += rng.uniform(0, 0.3)
        places.append((*(CENTRE + rng.uniform(-0.12, 0.12, 2)), top + half))
        kinds.append(int(kind))
        top += 2 * half
    for _ in range(rng.integers(0, spheres + 1)):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.5)
        kinds.append(SPHERE)
        places.append((CENTRE[0] + away * np.cos(angle), CENTRE[1] + away * np.sin(angle), 0.25 + rng.uniform(0, 1)))
    order = rng.permutation(len(kinds))  # contacts are worked out in the order of slots
    return [kinds[k] for k in order], np.array(places)[order]


@pytest.fixture
def stacks(draw, source_of):
    """Return a batch of stacks just let go, with or without a rule; and an action of rest."""

    def make(rules=(), spheres=2, seed=0):
        rng = np.random.default_rng(seed)
        drops = [dropped(rng, spheres) for _ in range(WORLDS)]
        tasks = [
            draw(
                ROOM,
                extra=tuple(InitialObject(kind, *place[:2]) for kind, place in zip(*drop, strict=True)),
                rules=rules,
                trial_timesteps=5000,
            )
            for drop in drops
        ]
        sim = BatchSim(WORLDS, Environment(observation="symbolic"), source_of(*tasks))
        everyone = np.arange(WORLDS)
        sim.assign(everyone, everyone.astype(np.uint64), np.ones(WORLDS, np.int64), everyone.astype(np.uint64))
        sim.reset(everyone)
        state = sim.state()
        for b, (_, places) in enumerate(drops):
            state["world.position"][b, FIRST_OBJECT : FIRST_OBJECT + len(places)] = places
        sim.load(state)
        return sim, np.broadcast_to(np.array(ACTION_REST, np.int8), (WORLDS, 1, 6)).copy()

    return make


def objects_of(state):
    return state["world.kind"][:, FIRST_OBJECT:] >= 0


def awake(state):
    return (state["world.awake"][:, FIRST_OBJECT:] > 0) & objects_of(state)


def hanging(state):
    """Return which objects have neither the floor nor another object right below them."""
    place, half = state["world.position"], HALF[np.maximum(state["world.shape"], 0)]
    low, high = place[..., 2] - half[..., 2], place[..., 2] + half[..., 2]
    gap = np.abs(low[:, :, None] - high[:, None, :])
    beside = (np.abs(place[:, :, None, :2] - place[:, None, :, :2]) < half[:, :, None, :2] + half[:, None, :, :2]).all(
        -1
    )
    borne = (beside & (gap < 0.01) & (state["world.kind"] >= 0)[:, None, :]).any(-1) | (low < 0.01)
    return ~borne[:, FIRST_OBJECT:] & objects_of(state)


def on_a_head(state):
    """Return the worlds in which an object stands on the player: what a player bears doesn't sleep."""
    place, half = state["world.position"], HALF[np.maximum(state["world.shape"], 0)]
    low = (place[..., 2] - half[..., 2])[:, FIRST_OBJECT:]
    return (objects_of(state) & (np.abs(low - place[:, :1, 2] - half[:, :1, 2]) < 0.01)).any(axis=1)


def assert_at_rest(sim, rest):
    """Assert that nothing moves any more, hangs in the air, or is awake but on a player."""
    state = sim.state()
    assert not (awake(state).any(axis=1) & ~on_a_head(state)).any()
    assert not hanging(state).any()
    for _ in range(20):
        sim.step(rest)
    assert np.array_equal(sim.state()["world.position"], state["world.position"])


def test_dropped_stacks_sleep_and_never_move_again(stacks):
    sim, rest = stacks()
    for _ in range(SETTLED):
        sim.step(rest)
    settled = sim.state()
    assert not awake(settled).any()
    assert not settled["world.velocity"][:, FIRST_OBJECT:][objects_of(settled)].any()
    assert not hanging(settled).any()
    assert (settled["world.position"][..., 2].max(axis=1) > 0.7).mean() > 0.9, "stacks are no stacks"
    for _ in range(1000):
        sim.step(rest)
    assert np.array_equal(sim.state()["world.position"], settled["world.position"])


def test_a_stack_that_is_walked_into_wakes_moves_and_rests_again(stacks):
    sim, rest = stacks(seed=1)
    for _ in range(SETTLED):
        sim.step(rest)
    state = sim.state()
    before = state["world.position"].copy()
    state["world.position"][:, 0, :2] = CENTRE[0] - 2.5, CENTRE[1]
    state["world.yaw"][:], state["world.cos_yaw"][:], state["world.sin_yaw"][:] = 0, 1, 0
    sim.load(state)
    walk = rest.copy()
    walk[..., 0] = 2
    woken = np.zeros(WORLDS, bool)
    for _ in range(6):
        sim.step(walk)
        woken |= awake(sim.state()).any(axis=1)
    assert woken.all()
    for _ in range(SETTLED):
        sim.step(rest)
    assert (np.abs(sim.state()["world.position"] - before).max(axis=(1, 2)) > 0.3).all()
    assert_at_rest(sim, rest)


def test_what_stood_on_what_vanished_falls_from_rest(stacks):
    late = ProductionRule(Predicate(Relation.NEAR, 12, CUBE))
    sim, rest = stacks(rules=(late,), spheres=0, seed=2)  # none that the player is put upon
    for _ in range(SETTLED):
        sim.step(rest)
    state = sim.state()
    had = (state["world.kind"] == CUBE).any(axis=1)
    state["world.position"][:, 0, :2] = CENTRE[0] - 1.3, CENTRE[1]
    sim.load(state)
    sim.step(rest)
    state = sim.state()
    gone = had & ~(state["world.kind"] == CUBE).any(axis=1)
    assert gone.sum() > WORLDS / 4
    falling = -state["world.velocity"][gone, FIRST_OBJECT:, 2]
    assert falling.max() > 0.5
    assert falling.max() < GRAVITY_M_S2 * TIMESTEP_S + 0.01, "it had stored up speed while it stood"
    for _ in range(SETTLED):
        sim.step(rest)
    assert_at_rest(sim, rest)


def test_a_sphere_held_up_a_slope_by_a_cube_rolls_when_the_cube_is_taken(world_of):
    one = world_of(
        """
        ############
        #..........#
        #..........#
        #..........#
        #..........#
        #@.....>111#
        #..........#
        #..........#
        #..........#
        #..........#
        #..........#
        ############
        """,
        extra=(InitialObject(CUBE, 6.9, 6.5, frozen=True), InitialObject(SPHERE, 7.42, 6.5)),
        rules=(ProductionRule(Predicate(Relation.NEAR, PLAYER_1, CUBE)),),
    )
    one.act(timesteps=60)
    held_up = one.place(1)
    assert held_up[0] > 7, "it is on the ramp"
    assert np.abs(one.world("velocity")[FIRST_OBJECT + 1]).max() < 0.05, "and stays there"
    one.act(move=2, timesteps=8)
    assert one.objects() == [SPHERE]
    one.act(timesteps=5)
    assert one.place(1)[0] < held_up[0] - 0.2
