"""Hands: grip the object looked at, pull what is held to where the hand is, let go."""

import math

from numba import njit

from ada_sim.constants import (
    EYE_ABOVE_CENTRE_M,
    GRIP,
    GRIP_HALF_ANGLE,
    GRIP_REACH_M,
    HALF,
    HAND_LIFT_M,
    HAND_CLEARANCE_M,
    HAND_PULL,
    HAND_SLIP_M,
    MAX_HAND_DISTANCE_M,
    MAX_OBJECTS,
    MAX_SPEED_M_S,
    OUTER_RADIUS,
    PLAYER_HEIGHT_M,
    PLAYER_RADIUS_M,
    REACH,
    REACH_PER_TICK_M,
    SLEEP_TICKS,
    TICK_S,
)
from ada_sim.engine.terrain import line_is_clear


@njit(cache=True)
def wake_all(awake, used, b):  # type: ignore[no-untyped-def]
    """Wake every object of world b: something that may have borne or blocked another is gone."""
    for k in range(used[b]):
        awake[b, k] = SLEEP_TICKS


@njit(cache=True)
def is_held(held, b, k):  # type: ignore[no-untyped-def]
    """Say whether a player of world b holds object k."""
    for p in range(held.shape[1]):  # noqa: SIM110 - compiled: no generators
        if held[b, p] == k:
            return True
    return False


@njit(cache=True)
def looked_at(worlds, tasks, b, p):  # type: ignore[no-untyped-def]
    """Return the slot of the object that player p would grip: within reach, line clear, nearest to the view's middle."""
    player = MAX_OBJECTS + p
    x = worlds.position[b, player, 0]
    y = worlds.position[b, player, 1]
    eye = worlds.position[b, player, 2] + EYE_ABOVE_CENTRE_M
    cos = math.cos(worlds.yaw[b, p])
    sin = math.sin(worlds.yaw[b, p])
    best = -1
    least = 1e9
    for k in range(worlds.used[b]):
        if worlds.kind[b, k] < 0 or worlds.frozen[b, k] or is_held(worlds.held, b, k):
            continue
        dx = worlds.position[b, k, 0] - x
        dy = worlds.position[b, k, 1] - y
        dz = worlds.position[b, k, 2] - eye
        outer = OUTER_RADIUS[worlds.kind[b, k] // 3]
        distance = math.sqrt(dx * dx + dy * dy)
        if distance - outer > GRIP_REACH_M or abs(dz) > GRIP_REACH_M:
            continue
        bearing = math.atan2(dy * cos - dx * sin, dx * cos + dy * sin)
        if abs(bearing) > GRIP_HALF_ANGLE:
            continue
        elevation = math.atan2(dz, distance) - worlds.pitch[b, p]
        # Mostly left and right: with a level pitch an object on the floor is gripped without looking down at it.
        off_middle = bearing * bearing + 0.25 * elevation * elevation
        if off_middle < least and line_is_clear(
            tasks.tile, tasks.top, b, x, y, eye, x + dx, y + dy, eye + dz
        ):
            least = off_middle
            best = k
    return best


@njit(cache=True)
def use_hands(worlds, tasks, actions, begin, end):  # type: ignore[no-untyped-def]
    """Carry out one tick of grip and reach: sets what is held, and the velocity of what is held."""
    for b in range(begin, end):
        if not worlds.active[b]:
            continue
        for p in range(worlds.yaw.shape[1]):
            worlds.hand_force[b, p] = 0.0
            if actions[b, p, GRIP] == 0:
                release(worlds, b, p)
                continue
            k = worlds.held[b, p]
            if k < 0:
                k = looked_at(worlds, tasks, b, p)
                if k < 0:
                    continue
                worlds.held[b, p] = k
                worlds.hand_distance[b, p] = start_distance(worlds, b, p, k)
                wake_all(worlds.awake, worlds.used, b)
            pull(worlds, actions, b, p, k)


@njit(cache=True)
def release(worlds, b, p):  # type: ignore[no-untyped-def]
    """Open the hand of player p; the object keeps its velocity, so a moving hand throws."""
    k = worlds.held[b, p]
    if k >= 0:
        worlds.awake[b, k] = SLEEP_TICKS
    worlds.held[b, p] = -1
    worlds.hand_distance[b, p] = 0.0
    worlds.hand_force[b, p] = 0.0


@njit(cache=True)
def start_distance(worlds, b, p, k):  # type: ignore[no-untyped-def]
    """Return how far from player p the object just gripped will be held: where it is, within the arm's limits."""
    player = MAX_OBJECTS + p
    dx = worlds.position[b, k, 0] - worlds.position[b, player, 0]
    dy = worlds.position[b, k, 1] - worlds.position[b, player, 1]
    return math.sqrt(dx * dx + dy * dy)


@njit(cache=True)
def pull(worlds, actions, b, p, k):  # type: ignore[no-untyped-def]
    """Give held object k the velocity that brings it to where the hand of player p wants it, or let it slip."""
    player = MAX_OBJECTS + p
    nearest = PLAYER_RADIUS_M + OUTER_RADIUS[worlds.kind[b, k] // 3] + HAND_CLEARANCE_M
    wanted = worlds.hand_distance[b, p] + (actions[b, p, REACH] - 1) * REACH_PER_TICK_M
    worlds.hand_distance[b, p] = min(max(wanted, nearest), MAX_HAND_DISTANCE_M)
    flat = max(nearest, worlds.hand_distance[b, p] * math.cos(worlds.pitch[b, p]))
    low = worlds.position[b, player, 2] - PLAYER_HEIGHT_M / 2 + HALF[worlds.kind[b, k] // 3, 2] + HAND_LIFT_M
    dx = worlds.position[b, player, 0] + flat * math.cos(worlds.yaw[b, p]) - worlds.position[b, k, 0]
    dy = worlds.position[b, player, 1] + flat * math.sin(worlds.yaw[b, p]) - worlds.position[b, k, 1]
    dz = low + worlds.hand_distance[b, p] * math.sin(worlds.pitch[b, p]) - worlds.position[b, k, 2]
    off = math.sqrt(dx * dx + dy * dy + dz * dz)
    worlds.hand_force[b, p] = min(off / HAND_SLIP_M, 1.0)
    if off > HAND_SLIP_M:
        release(worlds, b, p)
        return
    vx = dx * HAND_PULL / TICK_S + worlds.velocity[b, player, 0]
    vy = dy * HAND_PULL / TICK_S + worlds.velocity[b, player, 1]
    vz = dz * HAND_PULL / TICK_S
    speed = math.sqrt(vx * vx + vy * vy + vz * vz)
    if speed > MAX_SPEED_M_S:
        vx *= MAX_SPEED_M_S / speed
        vy *= MAX_SPEED_M_S / speed
        vz *= MAX_SPEED_M_S / speed
    worlds.velocity[b, k, 0] = vx
    worlds.velocity[b, k, 1] = vy
    worlds.velocity[b, k, 2] = vz
    worlds.awake[b, k] = SLEEP_TICKS
