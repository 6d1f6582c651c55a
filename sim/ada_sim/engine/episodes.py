"""Trials and episodes: begin, count, end."""

import numpy as np
from numba import njit

from ada_sim.constants import (
    HALF,
    MAX_BODIES,
    MAX_OBJECTS,
    NUM_KINDS,
    PLAYER_HEIGHT_M,
    SLEEP_TICKS,
    TICKS_PER_TIMESTEP,
)
from ada_sim.engine.random import draw_yaw
from ada_sim.engine.terrain import ground
from ada_sim.tasks.task import PLAYER_1


@njit(cache=True)
def begin_trial(worlds, tasks, b):  # type: ignore[no-untyped-def]
    """Put world b into the state in which every trial of its task begins; only the players' yaw is drawn anew."""
    for kind in range(NUM_KINDS):
        worlds.bodies_of[b, kind] = 0
    worlds.used[b] = 0
    worlds.latched[b] = 0
    for k in range(MAX_BODIES):
        worlds.kind[b, k] = -1
        worlds.frozen[b, k] = 0
        worlds.awake[b, k] = 0
        worlds.supported[b, k] = 0
        worlds.spent[b, k] = 0
        for axis in range(3):
            worlds.velocity[b, k, axis] = 0.0
            worlds.position[b, k, axis] = 0.0
    for k in range(MAX_OBJECTS):
        kind = tasks.kind[b, k]
        if kind < 0:
            continue
        x = tasks.place[b, k, 0]
        y = tasks.place[b, k, 1]
        put(worlds, b, k, kind, x, y, ground(tasks.tile, tasks.top, b, x, y) + HALF[kind // 3, 2])
        worlds.frozen[b, k] = tasks.frozen[b, k]
        worlds.used[b] = k + 1
    for p in range(worlds.yaw.shape[1]):
        x = tasks.spawn[b, p, 0]
        y = tasks.spawn[b, p, 1]
        height = ground(tasks.tile, tasks.top, b, x, y) + PLAYER_HEIGHT_M / 2
        put(worlds, b, MAX_OBJECTS + p, PLAYER_1 + p, x, y, height)
        worlds.yaw[b, p] = draw_yaw(tasks.seed[b], worlds.trial[b], p)
        worlds.pitch[b, p] = 0.0
        worlds.held[b, p] = -1
        worlds.hand_distance[b, p] = 0.0
        worlds.hand_force[b, p] = 0.0
        worlds.last_height[b, p] = height
    worlds.clock[b] = 0


@njit(cache=True)
def put(worlds, b, k, kind, x, y, z):  # type: ignore[no-untyped-def]
    """Put a body of this kind into slot k, standing on the ground."""
    worlds.kind[b, k] = kind
    worlds.bodies_of[b, kind] |= 1 << k
    worlds.position[b, k, 0] = x
    worlds.position[b, k, 1] = y
    worlds.position[b, k, 2] = z
    worlds.supported[b, k] = 1
    worlds.awake[b, k] = SLEEP_TICKS


@njit(cache=True)
def copy_task(source, target, b):  # type: ignore[no-untyped-def]
    """Copy row b of one set of tasks to the other."""
    target.present[b] = source.present[b]
    target.size[b] = source.size[b]
    target.tile[b] = source.tile[b]
    target.top[b] = source.top[b]
    target.kind[b] = source.kind[b]
    target.place[b] = source.place[b]
    target.frozen[b] = source.frozen[b]
    target.spawn[b] = source.spawn[b]
    target.rule[b] = source.rule[b]
    target.num_rules[b] = source.num_rules[b]
    target.goal[b] = source.goal[b]
    target.shown_goal[b] = source.shown_goal[b]
    target.shown_rules[b] = source.shown_rules[b]
    target.trial_timesteps[b] = source.trial_timesteps[b]
    target.trials[b] = source.trials[b]
    target.seed[b] = source.seed[b]


@njit(cache=True)
def begin_episode(worlds, tasks, assigned, out, b):  # type: ignore[no-untyped-def]
    """Start the assigned episode of world b, or idle if there is none."""
    worlds.active[b] = assigned.present[b]
    tasks.present[b] = assigned.present[b]
    out.active[b] = assigned.present[b] != 0
    out.episode_started[b] = assigned.present[b] != 0
    for p in range(worlds.yaw.shape[1]):
        out.last_reward[b, p, 0] = np.float32(0.0)
        for group in range(out.last_action.shape[2]):
            out.last_action[b, p, group] = 0
    if not assigned.present[b]:
        return
    copy_task(assigned, tasks, b)
    assigned.present[b] = 0
    worlds.trial[b] = 0
    begin_trial(worlds, tasks, b)


@njit(cache=True)
def begin_step(worlds, out, begin, end):  # type: ignore[no-untyped-def]
    """Clear the last step's outputs, and remember what the observation compares with."""
    for b in range(begin, end):
        out.trial_ended[b] = -1
        out.episode_ended[b] = False
        out.episode_started[b] = False
        for p in range(worlds.yaw.shape[1]):
            out.reward[b, p] = np.float32(0.0)
            worlds.in_goal[b, p] = 0
            if worlds.active[b]:
                worlds.last_height[b, p] = worlds.position[b, MAX_OBJECTS + p, 2]


@njit(cache=True)
def end_step(worlds, tasks, assigned, out, actions, begin, end):  # type: ignore[no-untyped-def]
    """Turn ticks in the goal into reward, count the timestep, and end what is over. Idle worlds start what waits."""
    for b in range(begin, end):
        if not worlds.active[b]:
            if assigned.present[b]:
                begin_episode(worlds, tasks, assigned, out, b)
            continue
        for p in range(worlds.yaw.shape[1]):
            reward = np.float32(worlds.in_goal[b, p] / TICKS_PER_TIMESTEP)
            out.reward[b, p] = reward
            out.last_reward[b, p, 0] = reward
            for group in range(out.last_action.shape[2]):
                out.last_action[b, p, group] = actions[b, p, group] + 1
        worlds.clock[b] += 1
        if worlds.clock[b] < tasks.trial_timesteps[b]:
            continue
        out.trial_ended[b] = worlds.trial[b]
        worlds.trial[b] += 1
        if worlds.trial[b] < tasks.trials[b]:
            begin_trial(worlds, tasks, b)
        else:
            out.episode_ended[b] = True
            begin_episode(worlds, tasks, assigned, out, b)


@njit(cache=True)
def restart(worlds, tasks, assigned, out, chosen):  # type: ignore[no-untyped-def]
    """End the present episode of the chosen worlds and start the assigned one."""
    for b in chosen:
        out.trial_ended[b] = -1
        out.episode_ended[b] = False
        for p in range(worlds.yaw.shape[1]):
            out.reward[b, p] = np.float32(0.0)
        begin_episode(worlds, tasks, assigned, out, b)
