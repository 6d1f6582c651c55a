"""What each player is told: the scalars of AdA's table C.1, and the symbolic view."""

import math

import numpy as np
from numba import njit

from ada_sim.constants import (
    DISTANCE_UNIT_M,
    EYE_ABOVE_CENTRE_M,
    FELT_DISTANCE_M,
    HALF,
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
from ada_sim.engine.bits import lowest
from ada_sim.engine.geometry import gap
from ada_sim.engine.relations import COS2_HALF_VIEW, TAN_HALF_HEIGHT, WIDEST_RADIUS2, comes_close, crosses_box
from ada_sim.engine.terrain import FAR, line_is_clear, walkable_distance

f32 = np.float32
FAN_ANGLES = np.linspace(-VIEW_ANGLE / 2, VIEW_ANGLE / 2, NUM_RANGES)
FAN = np.stack([np.cos(FAN_ANGLES), np.sin(FAN_ANGLES)], axis=1)

TAN_HALF_VIEW = math.tan(VIEW_ANGLE / 2)
# A body that crosses a line inside the view has its centre at most this far outside of the view, counted to the side.
HIDING_M = 1.01 * math.sqrt(WIDEST_RADIUS2) * (1.0 + TAN_HALF_VIEW)


@njit(error_model="numpy")
def observe(w, t, told, symbolic):  # type: ignore[no-untyped-def]
    """Work out what each player of an active world is told."""
    for p in range(t.players):
        tell_scalars(w, t, told, p)
        if symbolic:
            tell_objects(w, t, told, p)
            tell_ranges(w, t, told, p)


@njit(error_model="numpy")
def tell_scalars(w, t, told, p):  # type: ignore[no-untyped-def]
    """Write body, trials remaining and timers."""
    told.body[p, 0] = f32(1.0) if w.held[p] >= 0 else f32(0.0)
    told.body[p, 1] = w.hand_distance[p] / MAX_HAND_DISTANCE_M
    told.body[p, 2] = w.hand_force[p]
    told.body[p, 3] = w.pitch[p]
    told.body[p, 4] = w.position[p, 2] - w.last_height[p]
    remaining = t.trials - 1 - w.trial
    for slot in range(TRIAL_SLOTS):
        told.trials_remaining[p, slot] = f32(0.0)
    told.trials_remaining[p, min(remaining, TRIAL_SLOTS - 1)] = f32(1.0)
    duration = t.trial_timesteps * TIMESTEP_S / TIMER_UNIT_S
    left = (t.trial_timesteps - w.clock) * TIMESTEP_S / TIMER_UNIT_S
    told.timers[p, 0] = left + (remaining - 1) * duration if remaining > 0 else 0.0
    told.timers[p, 1] = left
    told.timers[p, 2] = duration
    told.timers[p, 3] = duration if remaining > 0 else 0.0
    told.trial_start[p] = f32(1.0) if w.clock == 0 else f32(0.0)


@njit(error_model="numpy")
def tell_ranges(w, t, told, p):  # type: ignore[no-untyped-def]
    """Write the distance over which the ground is walkable, in directions from the view's right to its left."""
    x = w.position[p, 0]
    y = w.position[p, 1]
    for n in range(NUM_RANGES):
        cos = w.cos_yaw[p] * FAN[n, 0] - w.sin_yaw[p] * FAN[n, 1]
        sin = w.sin_yaw[p] * FAN[n, 0] + w.cos_yaw[p] * FAN[n, 1]
        distance = walkable_distance(t, x, y, cos, sin, RANGE_LIMIT_M)
        told.ranges[p, n] = distance / DISTANCE_UNIT_M


@njit(error_model="numpy")
def tell_objects(w, t, told, p):  # type: ignore[no-untyped-def]
    """Write the visible bodies, nearest first.

    The cheap question, is it in the view, is asked of all; the line of sight only of the nearest, until slots are full.
    """
    eye = w.position[p, 2] + EYE_ABOVE_CENTRE_M
    candidates = look_around(w, told, p, eye) & w.bodies & ~(1 << p)
    slot = 0
    while slot < OBJECT_SLOTS and candidates:
        k = nearest(told, candidates)
        candidates &= ~(1 << k)
        d2 = told.distance2[k]
        if d2 < FELT_DISTANCE_M**2 or (sees_past_bodies(w, told, p, k) and sees_past_terrain(w, t, p, k, eye)):
            describe(w, told, p, slot, k, math.sqrt(d2))
            slot += 1
    for rest in range(slot, OBJECT_SLOTS):
        for feature in range(told.objects.shape[2]):
            told.objects[p, rest, feature] = f32(0.0)


@njit(error_model="numpy")
def look_around(w, told, p, eye):  # type: ignore[no-untyped-def]
    """Return the set of slots that player p feels or has in view; leaves in `told` where they are from its eye."""
    x = w.position[p, 0]
    y = w.position[p, 1]
    cos = w.cos_yaw[p]
    sin = w.sin_yaw[p]
    tan_pitch = w.tan_pitch[p]
    seen = 0
    may_hide = 0
    for k in range(w.used):
        dx = w.position[k, 0] - x
        dy = w.position[k, 1] - y
        dz = w.position[k, 2] - eye
        d2 = dx * dx + dy * dy
        ahead = dx * cos + dy * sin
        inside = (ahead > 0) & (ahead * ahead >= COS2_HALF_VIEW * d2)
        inside &= abs(dz - ahead * tan_pitch) <= ahead * TAN_HALF_HEIGHT
        told.ahead[k, 0] = dx
        told.ahead[k, 1] = dy
        told.ahead[k, 2] = dz
        told.distance2[k] = d2
        seen |= (inside | (d2 < FELT_DISTANCE_M**2)) << k
        may_hide |= (abs(dy * cos - dx * sin) <= ahead * TAN_HALF_VIEW + HIDING_M) << k
    told.may_hide = may_hide & w.bodies
    return seen


@njit(error_model="numpy")
def nearest(told, candidates):  # type: ignore[no-untyped-def]
    """Return the body of a set, not empty, that is nearest; of two at the same distance the one of the lower slot."""
    least = FAR
    best = 0
    while candidates:
        k = lowest(candidates)
        candidates &= candidates - 1
        if told.distance2[k] < least:
            least = told.distance2[k]
            best = k
    return best


@njit(error_model="numpy")
def sees_past_bodies(w, told, p, target):  # type: ignore[no-untyped-def]
    """Say whether no third body crosses the line from the eye of player p to the centre of the target."""
    dx = told.ahead[target, 0]
    dy = told.ahead[target, 1]
    dz = told.ahead[target, 2]
    length2 = dx * dx + dy * dy
    reach2 = WIDEST_RADIUS2 * length2
    crossing = told.may_hide & ~(1 << p) & ~(1 << target)
    while crossing:
        k = lowest(crossing)
        crossing &= crossing - 1
        along = told.ahead[k, 0] * dx + told.ahead[k, 1] * dy
        across = told.ahead[k, 0] * dy - told.ahead[k, 1] * dx
        if not comes_close(along, across, length2, reach2):
            continue
        shape = w.shape[k]
        ex, ey, ez = told.ahead[k, 0], told.ahead[k, 1], told.ahead[k, 2]
        if crosses_box(dx, dy, dz, ex, ey, ez, HALF[shape, 0], HALF[shape, 1], HALF[shape, 2]):
            return False
    return True


@njit(error_model="numpy")
def sees_past_terrain(w, t, p, k, eye):  # type: ignore[no-untyped-def]
    """Say whether terrain leaves open the line from the eye of player p to the centre of body k."""
    x = w.position[p, 0]
    y = w.position[p, 1]
    return line_is_clear(t, x, y, eye, w.position[k, 0], w.position[k, 1], w.position[k, 2])


@njit(error_model="numpy")
def describe(w, told, p, slot, k, distance):  # type: ignore[no-untyped-def]
    """Write what player p is told of body k."""
    kind = w.kind[k]
    shape = kind // 3
    for feature in range(told.objects.shape[2]):
        told.objects[p, slot, feature] = f32(0.0)
    told.objects[p, slot, 0] = f32(1.0)
    if shape == PLAYER_SHAPE:
        told.objects[p, slot, 8] = f32(1.0)
    else:
        told.objects[p, slot, 1 + shape] = f32(1.0)
        told.objects[p, slot, 5 + kind % 3] = f32(1.0)
    dx = told.ahead[k, 0]
    dy = told.ahead[k, 1]
    cos = w.cos_yaw[p]
    sin = w.sin_yaw[p]
    if distance > 0:
        told.objects[p, slot, 9] = (dx * cos + dy * sin) / distance
        told.objects[p, slot, 10] = (dy * cos - dx * sin) / distance
    told.objects[p, slot, 11] = distance / DISTANCE_UNIT_M
    told.objects[p, slot, 12] = w.position[k, 2] - w.position[p, 2]
    apart = gap(w, p, k)
    told.objects[p, slot, 13] = f32(1.0) if apart <= NEAR_GAP_M else f32(0.0)
    told.objects[p, slot, 14] = f32(1.0) if apart <= TOUCH_GAP_M + TOUCH_SLOP_M else f32(0.0)
    told.objects[p, slot, 15] = f32(1.0) if w.held[p] == k else f32(0.0)
    told.objects[p, slot, 16] = f32(1.0) if w.frozen[k] else f32(0.0)
    told.objects[p, slot, 17] = OUTER_RADIUS[shape]
