"""What each player is told: the scalars of AdA's table C.1, and the symbolic view."""

import math

import numpy as np
from numba import njit

from ada_sim.constants import (
    DISTANCE_UNIT_M,
    EYE_ABOVE_CENTRE_M,
    FELT_DISTANCE_M,
    MAX_HAND_DISTANCE_M,
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
from ada_sim.engine.relations import in_view, line_is_open
from ada_sim.engine.terrain import FAR, walkable_distance

f32 = np.float32
FAN_ANGLES = np.linspace(-VIEW_ANGLE / 2, VIEW_ANGLE / 2, NUM_RANGES)
FAN = np.stack([np.cos(FAN_ANGLES), np.sin(FAN_ANGLES)], axis=1)


@njit
def observe(w, t, out, b, symbolic):  # type: ignore[no-untyped-def]
    """Write the observation of world b; zeros where no episode runs."""
    for p in range(out.reward.shape[1]):
        if not w.active:
            tell_nothing(out, b, p)
            continue
        tell_scalars(w, t, out, b, p)
        if symbolic:
            tell_objects(w, t, out.objects, b, p)
            tell_ranges(w, t, out.ranges, b, p)


@njit
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


@njit
def tell_scalars(w, t, out, b, p):  # type: ignore[no-untyped-def]
    """Write goal, rules, body, trials remaining and timers."""
    if out.episode_started[b]:
        out.goal[b, p] = t.shown_goal[p]
        out.rules[b, p] = t.shown_rules[p]
    out.body[b, p, 0] = f32(1.0) if w.held[p] >= 0 else f32(0.0)
    out.body[b, p, 1] = w.hand_distance[p] / MAX_HAND_DISTANCE_M
    out.body[b, p, 2] = w.hand_force[p]
    out.body[b, p, 3] = w.pitch[p]
    out.body[b, p, 4] = w.position[p, 2] - w.last_height[p]
    remaining = t.trials - 1 - w.trial
    for slot in range(TRIAL_SLOTS):
        out.trials_remaining[b, p, slot] = f32(0.0)
    out.trials_remaining[b, p, min(remaining, TRIAL_SLOTS - 1)] = f32(1.0)
    duration = t.trial_timesteps * TIMESTEP_S / TIMER_UNIT_S
    left = (t.trial_timesteps - w.clock) * TIMESTEP_S / TIMER_UNIT_S
    out.timers[b, p, 0] = left + (remaining - 1) * duration if remaining > 0 else 0.0
    out.timers[b, p, 1] = left
    out.timers[b, p, 2] = duration
    out.timers[b, p, 3] = duration if remaining > 0 else 0.0
    out.trial_start[b, p, 0] = f32(1.0) if w.clock == 0 else f32(0.0)


@njit
def tell_ranges(w, t, ranges, b, p):  # type: ignore[no-untyped-def]
    """Write the distance over which the ground is walkable, in directions from the view's right to its left."""
    x = w.position[p, 0]
    y = w.position[p, 1]
    for n in range(NUM_RANGES):
        cos = w.cos_yaw[p] * FAN[n, 0] - w.sin_yaw[p] * FAN[n, 1]
        sin = w.sin_yaw[p] * FAN[n, 0] + w.cos_yaw[p] * FAN[n, 1]
        distance = walkable_distance(t, x, y, cos, sin, RANGE_LIMIT_M)
        ranges[b, p, n] = distance / DISTANCE_UNIT_M


@njit
def tell_objects(w, t, objects, b, p):  # type: ignore[no-untyped-def]
    """Write the visible bodies, nearest first.

    The cheap question, is it in the view, is asked of all; the line of sight only of the nearest, until slots are full.
    """
    x = w.position[p, 0]
    y = w.position[p, 1]
    eye = w.position[p, 2] + EYE_ABOVE_CENTRE_M
    for k in range(w.used):
        dx = w.position[k, 0] - x
        dy = w.position[k, 1] - y
        dz = w.position[k, 2] - eye
        d2 = dx * dx + dy * dy
        told = d2 < FELT_DISTANCE_M**2 or in_view(dx, dy, dz, w.cos_yaw[p], w.sin_yaw[p], w.tan_pitch[p])
        w.scratch[k] = d2 if told and k != p and w.kind[k] >= 0 else FAR
    slot = 0
    while slot < OBJECT_SLOTS:
        k = -1
        d2 = FAR
        for other in range(w.used):
            if w.scratch[other] < d2:
                d2 = w.scratch[other]
                k = other
        if k < 0:
            break
        w.scratch[k] = FAR
        if d2 < FELT_DISTANCE_M**2 or line_is_open(w, t, p, k, x, y, eye):
            describe(w, objects, b, p, slot, k, math.sqrt(d2))
            slot += 1
    for rest in range(slot, OBJECT_SLOTS):
        for feature in range(objects.shape[3]):
            objects[b, p, rest, feature] = f32(0.0)


@njit
def describe(w, objects, b, p, slot, k, distance):  # type: ignore[no-untyped-def]
    """Write what player p is told of body k."""
    kind = w.kind[k]
    shape = kind // 3
    for feature in range(objects.shape[3]):
        objects[b, p, slot, feature] = f32(0.0)
    objects[b, p, slot, 0] = f32(1.0)
    if shape == PLAYER_SHAPE:
        objects[b, p, slot, 8] = f32(1.0)
    else:
        objects[b, p, slot, 1 + shape] = f32(1.0)
        objects[b, p, slot, 5 + kind % 3] = f32(1.0)
    dx = w.position[k, 0] - w.position[p, 0]
    dy = w.position[k, 1] - w.position[p, 1]
    cos = w.cos_yaw[p]
    sin = w.sin_yaw[p]
    if distance > 0:
        objects[b, p, slot, 9] = (dx * cos + dy * sin) / distance
        objects[b, p, slot, 10] = (dy * cos - dx * sin) / distance
    objects[b, p, slot, 11] = distance / DISTANCE_UNIT_M
    objects[b, p, slot, 12] = w.position[k, 2] - w.position[p, 2]
    apart = gap(w, p, k)
    objects[b, p, slot, 13] = f32(1.0) if apart <= NEAR_GAP_M else f32(0.0)
    objects[b, p, slot, 14] = f32(1.0) if apart <= TOUCH_GAP_M + TOUCH_SLOP_M else f32(0.0)
    objects[b, p, slot, 15] = f32(1.0) if w.held[p] == k else f32(0.0)
    objects[b, p, slot, 16] = f32(1.0) if w.frozen[k] else f32(0.0)
    objects[b, p, slot, 17] = OUTER_RADIUS[shape]
