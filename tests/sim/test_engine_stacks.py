"""Stacks of objects come to rest and stay where they are."""

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST, FIRST_OBJECT, HALF
from ada_sim.tasks.task import InitialObject

WORLDS = 32
SLAB, CUBE, SPHERE, PYRAMID = 0, 3, 6, 9
ROOM = "\n".join(["#" * 12, *["#..........#"] * 5, "#@.........#", *["#..........#"] * 4, "#" * 12])
CENTRE = (6.0, 5.5)  # the player stands to the west of it
SETTLED = 60  # timesteps


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


def test_dropped_stacks_settle_and_drift_nowhere(stacks):
    sim, rest = stacks()
    for _ in range(SETTLED):
        sim.step(rest)
    settled = sim.state()
    assert not hanging(settled).any()
    assert (settled["world.position"][..., 2].max(axis=1) > 0.7).mean() > 0.9, "stacks are no stacks"
    for _ in range(1000):
        sim.step(rest)
    assert np.abs(sim.state()["world.position"] - settled["world.position"]).max() < 1e-6
