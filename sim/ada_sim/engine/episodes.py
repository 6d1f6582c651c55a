"""Trials and episodes: begin, count, end."""

import numpy as np
from numba import njit

from ada_sim.constants import (
    FIRST_OBJECT,
    HALF,
    MAX_BODIES,
    MAX_PLAYERS,
    NUM_KINDS,
    PLAYER_HEIGHT_M,
    TICKS_PER_TIMESTEP,
)
from ada_sim.engine.bodies import wake
from ada_sim.engine.movement import look
from ada_sim.engine.random import draw_yaw
from ada_sim.engine.rules import list_possible
from ada_sim.engine.terrain import ground
from ada_sim.tasks.task import PLAYER_1

f32 = np.float32


@njit(error_model="numpy")
def begin_trial(w, t):  # type: ignore[no-untyped-def]
    """Put a world into the state in which every trial of its task begins; only the players' yaw is drawn anew."""
    for kind in range(NUM_KINDS):
        w.bodies_of[kind] = 0
    w.bodies = 0
    w.waking = 0
    w.charted = 0
    w.strays = 0
    w.settled = 0
    w.late = 0
    w.spending = 0
    w.leaning = 0
    w.tick = 0
    for k in range(MAX_BODIES):
        w.kind[k] = -1
        w.frozen[k] = 0
        w.awake[k] = 0
        w.supported[k] = 0
        w.spent[k] = 0
        for axis in range(3):
            w.velocity[k, axis] = 0.0
            w.position[k, axis] = 0.0
    for p in range(t.players):
        put(w, t, p, PLAYER_1 + p, t.spawn[p, 0], t.spawn[p, 1], PLAYER_HEIGHT_M / 2)
        look(w, p, draw_yaw(t.seed, w.trial, p), 0.0)
        w.held[p] = -1
        w.hand_distance[p] = 0.0
        w.hand_force[p] = 0.0
        w.last_height[p] = w.position[p, 2]
    for n in range(t.num_objects):
        put(w, t, FIRST_OBJECT + n, t.kind[n], t.place[n, 0], t.place[n, 1], HALF[t.kind[n] // 3, 2])
        w.frozen[FIRST_OBJECT + n] = t.frozen[n]
    w.used = FIRST_OBJECT + t.num_objects
    w.moved = w.bodies
    w.jumped = w.bodies
    list_possible(w, t)
    w.latched = 0
    w.clock = 0


@njit(error_model="numpy")
def put(w, t, k, kind, x, y, half_z):  # type: ignore[no-untyped-def]
    """Put a body of this kind into slot k, standing on the ground."""
    w.kind[k] = kind
    w.shape[k] = kind // 3
    w.bodies_of[kind] |= 1 << k
    w.bodies |= 1 << k
    w.position[k, 0] = x
    w.position[k, 1] = y
    w.position[k, 2] = ground(t, x, y) + half_z
    w.supported[k] = 1
    wake(w, k)


@njit(error_model="numpy")
def begin_episode(w, starts, told):  # type: ignore[no-untyped-def]
    """Make a world ready for its first trial, or idle if no episode waits (`starts` is 0)."""
    w.active = starts
    w.trial = 0
    told.episode_started = starts
    for p in range(MAX_PLAYERS):
        told.last_reward[p] = f32(0.0)
        for group in range(told.last_action.shape[1]):
            told.last_action[p, group] = 0


@njit(error_model="numpy")
def begin_step(w, told):  # type: ignore[no-untyped-def]
    """Clear what the last step told, and remember what the observation compares with."""
    told.trial_ended = -1
    told.episode_ended = 0
    told.episode_started = 0
    w.charted = 0
    w.strays = 0
    for p in range(MAX_PLAYERS):
        told.reward[p] = f32(0.0)
        w.in_goal[p] = 0
        w.last_height[p] = w.position[p, 2]


@njit(error_model="numpy")
def end_step(w, t, told):  # type: ignore[no-untyped-def]
    """Turn ticks in the goal into reward, count the timestep, begin the next trial. Returns if the episode ended."""
    for p in range(t.players):
        reward = f32(w.in_goal[p] * (1.0 / TICKS_PER_TIMESTEP))
        told.reward[p] = reward
        told.last_reward[p] = reward
        for group in range(told.last_action.shape[1]):
            told.last_action[p, group] = w.action[p, group] + 1
    w.clock += 1
    if w.clock < t.trial_timesteps:
        return False
    told.trial_ended = w.trial
    w.trial += 1
    if w.trial < t.trials:
        begin_trial(w, t)
        return False
    told.episode_ended = 1
    return True
