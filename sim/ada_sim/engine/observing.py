"""What each player is told: the scalars of AdA's table C.1, and the symbolic view."""

import math

import numpy as np
from numba import njit

from ada_sim.constants import (
    DISTANCE_UNIT_M,
    EYE_ABOVE_CENTRE_M,
    FELT_DISTANCE_M,
    MAX_HAND_DISTANCE_M,
    MAX_OBJECTS,
    NEAR_GAP_M,
    NUM_RANGES,
    OBJECT_SLOTS,
    OUTER_RADIUS,
    PLAYER_SHAPE,
    RANGE_LIMIT_M,
    TIMER_UNIT_S,
    TIMESTEP_S,
    TOUCH_GAP_M,
    TOUCH_SLOP_M,
    TRIAL_SLOTS,
    VIEW_ANGLE,
)
from ada_sim.engine.geometry import gap
from ada_sim.engine.relations import bodies_leave_open, in_view
from ada_sim.engine.terrain import line_is_clear, walkable_distance

f32 = np.float32


@njit(cache=True)
def observe(worlds, tasks, out, begin, end, symbolic):  # type: ignore[no-untyped-def]
    """Write the observation of every world; zeros where no episode runs."""
    for b in range(begin, end):
        for p in range(worlds.yaw.shape[1]):
            if worlds.active[b]:
                tell_scalars(worlds, tasks, out, b, p)
                if symbolic:
                    tell_objects(worlds, tasks, out.objects, b, p)
                    tell_ranges(worlds, tasks, out.ranges, b, p)
            else:
                tell_nothing(out, b, p)


@njit(cache=True)
def tell_nothing(out, b, p):  # type: ignore[no-untyped-def]
    """Write zeros."""
    out.objects[b, p] = f32(0.0)
    out.ranges[b, p] = f32(0.0)
    out.body[b, p] = f32(0.0)
    out.goal[b, p] = 0
    out.rules[b, p] = 0
    out.last_action[b, p] = 0
    out.last_reward[b, p] = f32(0.0)
    out.trials_remaining[b, p] = f32(0.0)
    out.timers[b, p] = f32(0.0)
    out.trial_start[b, p] = f32(0.0)


@njit(cache=True)
def tell_scalars(worlds, tasks, out, b, p):  # type: ignore[no-untyped-def]
    """Write goal, rules, body, trials remaining and timers."""
    if out.episode_started[b]:
        out.goal[b, p] = tasks.shown_goal[b, p]
        out.rules[b, p] = tasks.shown_rules[b, p]
    out.body[b, p, 0] = f32(1.0) if worlds.held[b, p] >= 0 else f32(0.0)
    out.body[b, p, 1] = worlds.hand_distance[b, p] / MAX_HAND_DISTANCE_M
    out.body[b, p, 2] = worlds.hand_force[b, p]
    out.body[b, p, 3] = worlds.pitch[b, p]
    out.body[b, p, 4] = worlds.position[b, MAX_OBJECTS + p, 2] - worlds.last_height[b, p]
    remaining = tasks.trials[b] - 1 - worlds.trial[b]
    for slot in range(TRIAL_SLOTS):
        out.trials_remaining[b, p, slot] = f32(0.0)
    out.trials_remaining[b, p, min(remaining, TRIAL_SLOTS - 1)] = f32(1.0)
    duration = tasks.trial_timesteps[b] * TIMESTEP_S / TIMER_UNIT_S
    left = (tasks.trial_timesteps[b] - worlds.clock[b]) * TIMESTEP_S / TIMER_UNIT_S
    out.timers[b, p, 0] = left + (remaining - 1) * duration if remaining > 0 else 0.0
    out.timers[b, p, 1] = left
    out.timers[b, p, 2] = duration
    out.timers[b, p, 3] = duration if remaining > 0 else 0.0
    out.trial_start[b, p, 0] = f32(1.0) if worlds.clock[b] == 0 else f32(0.0)


@njit(cache=True)
def tell_ranges(worlds, tasks, ranges, b, p):  # type: ignore[no-untyped-def]
    """Write the distance over which the ground is walkable, in directions from the view's right to its left."""
    x = worlds.position[b, MAX_OBJECTS + p, 0]
    y = worlds.position[b, MAX_OBJECTS + p, 1]
    for n in range(NUM_RANGES):
        angle = worlds.yaw[b, p] + VIEW_ANGLE * (n / (NUM_RANGES - 1) - 0.5)
        distance = walkable_distance(tasks.tile, tasks.top, b, x, y, math.cos(angle), math.sin(angle), RANGE_LIMIT_M)
        ranges[b, p, n] = distance / DISTANCE_UNIT_M


@njit(cache=True)
def tell_objects(worlds, tasks, objects, b, p):  # type: ignore[no-untyped-def]
    """Write the visible bodies, nearest first.

    Candidates are taken from the nearest on, so the line of sight is asked only as often as there are slots to fill.
    """
    me = MAX_OBJECTS + p
    position = worlds.position
    x = position[b, me, 0]
    y = position[b, me, 1]
    eye = position[b, me, 2] + EYE_ABOVE_CENTRE_M
    players = worlds.yaw.shape[1]
    slot = 0
    last = -1.0
    last_k = -1
    while slot < OBJECT_SLOTS:
        # The next nearest after (last, last_k); ties in order of slots.
        nearest = -1
        least = 1e18
        for k in range(MAX_OBJECTS + players):
            if (k >= worlds.used[b] and k < MAX_OBJECTS) or worlds.kind[b, k] < 0 or k == me:
                continue
            dx = position[b, k, 0] - x
            dy = position[b, k, 1] - y
            d2 = dx * dx + dy * dy
            if (d2 > last or (d2 == last and k > last_k)) and d2 < least:
                least = d2
                nearest = k
        if nearest < 0:
            break
        last = least
        last_k = nearest
        if is_told(worlds, tasks, b, p, nearest, x, y, eye, least):
            describe(worlds, objects, b, p, slot, nearest, math.sqrt(least))
            slot += 1
    for rest in range(slot, OBJECT_SLOTS):
        for feature in range(objects.shape[3]):
            objects[b, p, rest, feature] = f32(0.0)


@njit(cache=True)
def is_told(worlds, tasks, b, p, k, x, y, eye, d2):  # type: ignore[no-untyped-def]
    """Say whether player p is told of body k: it sees it, or it is at its feet."""
    if d2 < FELT_DISTANCE_M**2:
        return True
    to_x = worlds.position[b, k, 0]
    to_y = worlds.position[b, k, 1]
    to_z = worlds.position[b, k, 2]
    if not in_view(to_x - x, to_y - y, to_z - eye, worlds.yaw[b, p], worlds.pitch[b, p]):
        return False
    if not line_is_clear(tasks.tile, tasks.top, b, x, y, eye, to_x, to_y, to_z):
        return False
    players = worlds.yaw.shape[1]
    return bodies_leave_open(
        worlds.position, worlds.kind, worlds.used, players, b, MAX_OBJECTS + p, k, x, y, eye, to_x, to_y, to_z
    )


@njit(cache=True)
def describe(worlds, objects, b, p, slot, k, distance):  # type: ignore[no-untyped-def]
    """Write what player p is told of body k."""
    me = MAX_OBJECTS + p
    kind = worlds.kind[b, k]
    shape = kind // 3
    for feature in range(objects.shape[3]):
        objects[b, p, slot, feature] = f32(0.0)
    objects[b, p, slot, 0] = f32(1.0)
    if shape == PLAYER_SHAPE:
        objects[b, p, slot, 8] = f32(1.0)
    else:
        objects[b, p, slot, 1 + shape] = f32(1.0)
        objects[b, p, slot, 5 + kind % 3] = f32(1.0)
    dx = worlds.position[b, k, 0] - worlds.position[b, me, 0]
    dy = worlds.position[b, k, 1] - worlds.position[b, me, 1]
    cos = math.cos(worlds.yaw[b, p])
    sin = math.sin(worlds.yaw[b, p])
    if distance > 0:
        objects[b, p, slot, 9] = (dx * cos + dy * sin) / distance
        objects[b, p, slot, 10] = (dy * cos - dx * sin) / distance
    objects[b, p, slot, 11] = distance / DISTANCE_UNIT_M
    objects[b, p, slot, 12] = worlds.position[b, k, 2] - worlds.position[b, me, 2]
    apart = gap(worlds.position, worlds.kind, b, me, k)
    objects[b, p, slot, 13] = f32(1.0) if apart <= NEAR_GAP_M else f32(0.0)
    objects[b, p, slot, 14] = f32(1.0) if apart <= TOUCH_GAP_M + TOUCH_SLOP_M else f32(0.0)
    objects[b, p, slot, 15] = f32(1.0) if worlds.held[b, p] == k else f32(0.0)
    objects[b, p, slot, 16] = f32(1.0) if worlds.frozen[b, k] else f32(0.0)
    objects[b, p, slot, 17] = OUTER_RADIUS[shape]
