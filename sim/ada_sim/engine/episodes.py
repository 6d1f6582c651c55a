"""Trials and episodes: begin, count, end."""

import numpy as np
from numba import njit

from ada_sim.constants import (
    FIRST_OBJECT,
    HALF,
    MAX_BODIES,
    NUM_KINDS,
    PLAYER_HEIGHT_M,
    SLEEP_TICKS,
    TICKS_PER_TIMESTEP,
)
from ada_sim.engine.movement import look
from ada_sim.engine.random import draw_yaw
from ada_sim.engine.terrain import ground
from ada_sim.tasks.task import PLAYER_1


@njit
def begin_trial(w, t):  # type: ignore[no-untyped-def]
    """Put a world into the state in which every trial of its task begins; only the players' yaw is drawn anew."""
    for kind in range(NUM_KINDS):
        w.bodies_of[kind] = 0
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
    w.latched = 0
    w.clock = 0


@njit
def put(w, t, k, kind, x, y, half_z):  # type: ignore[no-untyped-def]
    """Put a body of this kind into slot k, standing on the ground."""
    w.kind[k] = kind
    w.bodies_of[kind] |= 1 << k
    w.position[k, 0] = x
    w.position[k, 1] = y
    w.position[k, 2] = ground(t, x, y) + half_z
    w.supported[k] = 1
    w.awake[k] = SLEEP_TICKS


@njit
def begin_episode(worlds, tasks, assigned, out, b):  # type: ignore[no-untyped-def]
    """Start the assigned episode of world b, or idle if there is none."""
    w = worlds[b]
    starts = assigned[b].present
    w.active = starts
    out.active[b] = starts != 0
    out.episode_started[b] = starts != 0
    for p in range(out.reward.shape[1]):
        out.last_reward[b, p, 0] = np.float32(0.0)
        for group in range(out.last_action.shape[2]):
            out.last_action[b, p, group] = 0
    if not starts:
        return
    tasks[b] = assigned[b]
    assigned[b].present = 0
    w.trial = 0
    begin_trial(w, tasks[b])


@njit
def begin_step(w, out, actions, b):  # type: ignore[no-untyped-def]
    """Take the actions, clear the last step's outputs, and remember what the observation compares with."""
    out.trial_ended[b] = -1
    out.episode_ended[b] = False
    out.episode_started[b] = False
    for p in range(out.reward.shape[1]):
        out.reward[b, p] = np.float32(0.0)
        w.in_goal[p] = 0
        w.last_height[p] = w.position[p, 2]
        for group in range(actions.shape[2]):
            w.action[p, group] = actions[b, p, group]


@njit
def end_step(worlds, tasks, assigned, out, b):  # type: ignore[no-untyped-def]
    """Turn ticks in the goal into reward, count the timestep, and end what is over. Idle worlds start what waits."""
    w = worlds[b]
    t = tasks[b]
    if not w.active:
        if assigned[b].present:
            begin_episode(worlds, tasks, assigned, out, b)
        return
    for p in range(t.players):
        reward = np.float32(w.in_goal[p] / TICKS_PER_TIMESTEP)
        out.reward[b, p] = reward
        out.last_reward[b, p, 0] = reward
        for group in range(out.last_action.shape[2]):
            out.last_action[b, p, group] = w.action[p, group] + 1
    w.clock += 1
    if w.clock < t.trial_timesteps:
        return
    out.trial_ended[b] = w.trial
    w.trial += 1
    if w.trial < t.trials:
        begin_trial(w, t)
    else:
        out.episode_ended[b] = True
        begin_episode(worlds, tasks, assigned, out, b)


@njit
def restart(worlds, tasks, assigned, out, b):  # type: ignore[no-untyped-def]
    """End the present episode of world b and start the assigned one."""
    out.trial_ended[b] = -1
    out.episode_ended[b] = False
    for p in range(out.reward.shape[1]):
        out.reward[b, p] = np.float32(0.0)
    begin_episode(worlds, tasks, assigned, out, b)
