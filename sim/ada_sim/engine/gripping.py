"""Hands: grip the object looked at, pull what is held to where the hand is, let go."""

import math

from numba import njit

from ada_sim.constants import (
    EYE_ABOVE_CENTRE_M,
    GRIP,
    GRIP_HALF_ANGLE,
    GRIP_REACH_M,
    HALF,
    HAND_CLEARANCE_M,
    HAND_LIFT_M,
    HAND_PULL,
    HAND_SLIP_M,
    MAX_HAND_DISTANCE_M,
    MAX_SPEED_M_S,
    OUTER_RADIUS,
    PLAYER_HEIGHT_M,
    PLAYER_RADIUS_M,
    REACH,
    REACH_PER_TICK_M,
    TICK_S,
)
from ada_sim.engine.bits import lowest
from ada_sim.engine.bodies import OBJECTS, is_held, wake, wake_beside
from ada_sim.engine.charts import in_reach
from ada_sim.engine.terrain import line_is_clear

WIDEST_GRIP = math.tan(GRIP_HALF_ANGLE) + 1e-6


@njit(error_model="numpy")
def looked_at(w, t, p):  # type: ignore[no-untyped-def]
    """Return the slot of the object that player p would grip: in reach, line clear, nearest to the view's middle."""
    x = w.position[p, 0]
    y = w.position[p, 1]
    eye = w.position[p, 2] + EYE_ABOVE_CENTRE_M
    cos = w.cos_yaw[p]
    sin = w.sin_yaw[p]
    best = -1
    least = 1e9
    candidates = in_reach(w, p) & OBJECTS
    while candidates:
        k = lowest(candidates)
        candidates &= candidates - 1
        dx = w.position[k, 0] - x
        dy = w.position[k, 1] - y
        ahead = dx * cos + dy * sin
        left = dy * cos - dx * sin
        reach = GRIP_REACH_M + OUTER_RADIUS[w.shape[k]]
        distance2 = dx * dx + dy * dy
        if ahead < 0 or abs(left) > ahead * WIDEST_GRIP or distance2 > reach * reach:
            continue
        dz = w.position[k, 2] - eye
        if abs(dz) > GRIP_REACH_M or w.frozen[k] or is_held(w, t, k):
            continue
        bearing = math.atan2(left, ahead)
        if abs(bearing) > GRIP_HALF_ANGLE:
            continue
        elevation = math.atan2(dz, math.sqrt(distance2)) - w.pitch[p]
        # Mostly left and right: with a level pitch an object on the floor is gripped without looking down at it.
        off_middle = bearing * bearing + 0.25 * elevation * elevation
        if off_middle < least and line_is_clear(t, x, y, eye, x + dx, y + dy, eye + dz):
            least = off_middle
            best = k
    return best


@njit(error_model="numpy")
def use_hands(w, t):  # type: ignore[no-untyped-def]
    """Carry out one tick of grip and reach: sets what is held, and the velocity of what is held."""
    for p in range(t.players):
        w.hand_force[p] = 0.0
        if w.action[p, GRIP] == 0:
            release(w, p)
            continue
        k = w.held[p]
        if k < 0:
            k = looked_at(w, t, p)
            if k < 0:
                continue
            w.held[p] = k
            w.hand_distance[p] = start_distance(w, p, k)
            note_hand(w, p)
            wake_beside(w, k)
        pull(w, p, k)


@njit(error_model="numpy")
def release(w, p):  # type: ignore[no-untyped-def]
    """Open the hand of player p; the object keeps its velocity, so a moving hand throws."""
    k = w.held[p]
    if k >= 0:
        wake(w, k)
        note_hand(w, p)
    w.held[p] = -1
    w.hand_distance[p] = 0.0
    w.hand_force[p] = 0.0


@njit(error_model="numpy")
def note_hand(w, p):  # type: ignore[no-untyped-def]
    """Have the rules that player p has part in read again: what it holds changes."""
    w.moved |= 1 << p
    w.jumped |= 1 << p


@njit(error_model="numpy")
def start_distance(w, p, k):  # type: ignore[no-untyped-def]
    """Return how far from player p the object just gripped will be held: where it is, within the arm's limits."""
    dx = w.position[k, 0] - w.position[p, 0]
    dy = w.position[k, 1] - w.position[p, 1]
    return math.sqrt(dx * dx + dy * dy)


@njit(error_model="numpy")
def pull(w, p, k):  # type: ignore[no-untyped-def]
    """Give held object k the velocity that brings it to where the hand of player p wants it, or let it slip."""
    nearest = PLAYER_RADIUS_M + OUTER_RADIUS[w.shape[k]] + HAND_CLEARANCE_M
    wanted = w.hand_distance[p] + (w.action[p, REACH] - 1) * REACH_PER_TICK_M
    w.hand_distance[p] = min(max(wanted, nearest), MAX_HAND_DISTANCE_M)
    cos_pitch = 1.0 / math.sqrt(1.0 + w.tan_pitch[p] * w.tan_pitch[p])
    sin_pitch = w.tan_pitch[p] * cos_pitch
    flat = max(nearest, w.hand_distance[p] * cos_pitch)
    low = w.position[p, 2] - PLAYER_HEIGHT_M / 2 + HALF[w.shape[k], 2] + HAND_LIFT_M
    dx = w.position[p, 0] + flat * w.cos_yaw[p] - w.position[k, 0]
    dy = w.position[p, 1] + flat * w.sin_yaw[p] - w.position[k, 1]
    dz = low + w.hand_distance[p] * sin_pitch - w.position[k, 2]
    off = math.sqrt(dx * dx + dy * dy + dz * dz)
    w.hand_force[p] = min(off / HAND_SLIP_M, 1.0)
    if off > HAND_SLIP_M:
        release(w, p)
        return
    vx = dx * HAND_PULL / TICK_S + w.velocity[p, 0]
    vy = dy * HAND_PULL / TICK_S + w.velocity[p, 1]
    vz = dz * HAND_PULL / TICK_S
    speed = math.sqrt(vx * vx + vy * vy + vz * vz)
    if speed > MAX_SPEED_M_S:
        vx *= MAX_SPEED_M_S / speed
        vy *= MAX_SPEED_M_S / speed
        vz *= MAX_SPEED_M_S / speed
    w.velocity[k, 0] = vx
    w.velocity[k, 1] = vy
    w.velocity[k, 2] = vz
    wake(w, k)
