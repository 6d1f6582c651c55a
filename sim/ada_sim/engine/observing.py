"""What each player is told: the scalars of AdA's table C.1, and the symbolic view. Written where it comes out."""

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
    OBJECT_FEATURES,
    OBJECT_SLOTS,
    OUTER_RADIUS,
    PLAYER_SHAPE,
    RANGE_LIMIT_M,
    TIMER_UNIT_S,
    TIMESTEP_S,
    TOUCH_GAP_M,
    TOUCH_SLOP_M,
)
from ada_sim.engine.bits import lowest
from ada_sim.engine.charts import POSITION
from ada_sim.engine.geometry import gap
from ada_sim.engine.lanes import LANES, beside_line, in_sight, walls_around
from ada_sim.engine.terrain import FAR, NO_LINE, RAMP_LINES, WALK_LINES, is_shut, line_is_clear, walkable_distance
from ada_sim.engine.types import TOLD
from ada_sim.engine.view import crosses_box

f32 = np.float32
assert TOLD.fields is not None
AHEAD_X, AHEAD_Y, AHEAD_Z, DISTANCE2 = (
    int(TOLD.fields[name][1]) for name in ("ahead_x", "ahead_y", "ahead_z", "distance2")
)
FAN_OFFSETS = tuple(int(TOLD.fields[f"fan_{name}"][1]) for name in ("cos", "sin", "line_x", "line_y", "to_x", "to_y"))
# Bodies farther apart than this, centre from centre, are not near one another.
CLOSE_M = NEAR_GAP_M + 2 * math.sqrt(2.0) * float(OUTER_RADIUS.max()) + 1e-6


@njit(error_model="numpy")
def tell_body(w, p, row):  # type: ignore[no-untyped-def]
    """Write what player p feels of itself."""
    row.body[0] = f32(1.0) if w.held[p] >= 0 else f32(0.0)
    row.body[1] = w.hand_distance[p] / MAX_HAND_DISTANCE_M
    row.body[2] = w.hand_force[p]
    row.body[3] = w.pitch[p]
    row.body[4] = w.position[p, 2] - w.last_height[p]


@njit(error_model="numpy")
def tell_timers(w, t, row):  # type: ignore[no-untyped-def]
    """Write how much time is left, of the episode's other trials and of this one, and how long trials take."""
    remaining = t.trials - 1 - w.trial
    duration = t.trial_timesteps * (TIMESTEP_S / TIMER_UNIT_S)
    left = (t.trial_timesteps - w.clock) * (TIMESTEP_S / TIMER_UNIT_S)
    row.timers[0] = left + (remaining - 1) * duration if remaining > 0 else 0.0
    row.timers[1] = left
    row.timers[2] = duration
    row.timers[3] = duration if remaining > 0 else 0.0


@njit(error_model="numpy")
def tell_ranges(w, t, told, p, row):  # type: ignore[no-untyped-def]
    """Write the distance over which the ground is walkable, in directions from the view's right to its left.

    All directions are followed at once to the first grid line that can't be crossed, or not always: at a ramp. Those
    that can cross it there ask `walkable_distance`.
    """
    x = w.position[p, 0]
    y = w.position[p, 1]
    gaze = (w.cos_yaw[p], w.sin_yaw[p])
    side = 4 * t.size
    sets = (WALK_LINES, WALK_LINES + side, WALK_LINES + 2 * side, WALK_LINES + 3 * side)
    at_ramps = walls_around(t, sets, RAMP_LINES - WALK_LINES, t.size, (x, y), gaze, told, FAN_OFFSETS, row)
    at_ramps &= (1 << NUM_RANGES) - 1
    while at_ramps:
        n = lowest(at_ramps)
        at_ramps &= at_ramps - 1
        to_x = told.fan_to_x[n]
        distance = min(to_x, told.fan_to_y[n])
        if distance < RANGE_LIMIT_M:
            cos = told.fan_cos[n]
            sin = told.fan_sin[n]
            line_x = np.int64(told.fan_line_x[n]) if to_x < told.fan_to_y[n] else NO_LINE
            if not is_shut(t, x, y, cos, sin, distance, line_x, np.int64(told.fan_line_y[n])):
                distance = walkable_distance(t, x, y, cos, sin, RANGE_LIMIT_M)
                row.ranges[n] = distance * (1.0 / DISTANCE_UNIT_M)


@njit(error_model="numpy")
def tell_objects(w, t, told, p, row):  # type: ignore[no-untyped-def]
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
        if d2 < FELT_DISTANCE_M**2 or (sees_past_terrain(w, t, p, k, eye) and sees_past_bodies(w, told, p, k)):
            describe(w, told, p, slot, k, math.sqrt(d2), row)
            slot += 1
    for rest in range(slot, w.told[p]):  # what was told last time
        for feature in range(OBJECT_FEATURES):
            row.objects[rest, feature] = f32(0.0)
    w.told[p] = slot


@njit(error_model="numpy")
def look_around(w, told, p, eye):  # type: ignore[no-untyped-def]
    """Return the set of slots that player p feels or has in view; leaves in `told` where they are from its eye."""
    at_eye = (w.position[p, 0], w.position[p, 1], eye)
    seen = 0
    may_hide = 0
    for k in range(0, w.used, LANES):
        at = 8 * k
        offsets = (AHEAD_X + at, AHEAD_Y + at, AHEAD_Z + at, DISTANCE2 + at)
        found = in_sight(w, POSITION + 24 * k, at_eye, told, offsets, w.cos_yaw[p], w.sin_yaw[p], w.tan_pitch[p])
        seen |= (found & 0xFF) << k
        may_hide |= (found >> LANES) << k
    told.may_hide = may_hide & w.bodies & ~(1 << p)
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
    dx = told.ahead_x[target]
    dy = told.ahead_y[target]
    dz = told.ahead_z[target]
    crossing = 0
    for k in range(0, w.used, LANES):
        crossing |= beside_line(told, AHEAD_X + 8 * k, AHEAD_Y + 8 * k, dx, dy, dx * dx + dy * dy) << k
    crossing &= told.may_hide & ~(1 << target)
    while crossing:
        k = lowest(crossing)
        crossing &= crossing - 1
        half = HALF[w.shape[k]]
        if crosses_box(dx, dy, dz, told.ahead_x[k], told.ahead_y[k], told.ahead_z[k], half[0], half[1], half[2]):
            return False
    return True


@njit(error_model="numpy")
def sees_past_terrain(w, t, p, k, eye):  # type: ignore[no-untyped-def]
    """Say whether terrain leaves open the line from the eye of player p to the centre of body k."""
    x = w.position[p, 0]
    y = w.position[p, 1]
    return line_is_clear(t, x, y, eye, w.position[k, 0], w.position[k, 1], w.position[k, 2])


@njit(error_model="numpy")
def describe(w, told, p, slot, k, distance, row):  # type: ignore[no-untyped-def]
    """Write what player p is told of body k."""
    kind = w.kind[k]
    shape = kind // 3
    for feature in range(OBJECT_FEATURES):
        row.objects[slot, feature] = f32(0.0)
    row.objects[slot, 0] = f32(1.0)
    if shape == PLAYER_SHAPE:
        row.objects[slot, 8] = f32(1.0)
    else:
        row.objects[slot, 1 + shape] = f32(1.0)
        row.objects[slot, 5 + kind % 3] = f32(1.0)
    dx = told.ahead_x[k]
    dy = told.ahead_y[k]
    cos = w.cos_yaw[p]
    sin = w.sin_yaw[p]
    if distance > 0:
        row.objects[slot, 9] = (dx * cos + dy * sin) / distance
        row.objects[slot, 10] = (dy * cos - dx * sin) / distance
    row.objects[slot, 11] = distance * (1.0 / DISTANCE_UNIT_M)
    row.objects[slot, 12] = w.position[k, 2] - w.position[p, 2]
    if distance < CLOSE_M:
        apart = gap(w, p, k)
        row.objects[slot, 13] = f32(1.0) if apart <= NEAR_GAP_M else f32(0.0)
        row.objects[slot, 14] = f32(1.0) if apart <= TOUCH_GAP_M + TOUCH_SLOP_M else f32(0.0)
    if w.held[p] == k:
        row.objects[slot, 15] = f32(1.0)
    if w.frozen[k]:
        row.objects[slot, 16] = f32(1.0)
    row.objects[slot, 17] = OUTER_RADIUS[shape]
