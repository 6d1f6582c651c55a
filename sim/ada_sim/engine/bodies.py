"""Free objects move: gravity, terrain, sliding and rolling to rest, sleep."""

import math

from numba import njit

from ada_sim.constants import (
    BOUNCE,
    FIRST_OBJECT,
    GRAVITY_M_S2,
    HALF,
    MAX_SPEED_M_S,
    ROLL_SHARE,
    ROLLING_RESISTANCE_M_S2,
    SLEEP_SPEED_M_S,
    SLEEP_TICKS,
    SLIDE_FRICTION,
    TICK_S,
)
from ada_sim.engine.bits import lowest
from ada_sim.engine.charts import stray, touchable
from ada_sim.engine.sliding import move_over, push_out
from ada_sim.engine.terrain import WALL, slope, tile_at

SPHERE = 2
OBJECTS = -1 << FIRST_OBJECT  # the slots of objects, as a set
ON_TERRAIN, ON_STILL, ON_MOVING = 1, 2, 3  # what `supported` tells
STICK_M = 0.08  # a body on the ground follows it down this far in a tick
WALL_TOP_SPEED_M_S = 1.0


@njit(error_model="numpy")
def wake(w, k):  # type: ignore[no-untyped-def]
    """Let body k be moved and looked at until it has rested for a while, and with it what leans on other bodies."""
    w.awake[k] = SLEEP_TICKS
    if not w.waking >> k & 1:
        w.waking |= 1 << k
        stray(w, k)  # charts of this timestep took it for one that stays where it is
        while w.leaning:  # it may bear or block any of these
            leaning = lowest(w.leaning)
            w.leaning &= w.leaning - 1
            w.awake[leaning] = SLEEP_TICKS
            w.waking |= 1 << leaning
            stray(w, leaning)


@njit(error_model="numpy")
def wake_beside(w, k):  # type: ignore[no-untyped-def]
    """Wake the objects that may touch body k, and what leans on others: it goes away, and may have borne or blocked."""
    others = (touchable(w, k) | w.leaning) & w.bodies & OBJECTS & ~(1 << k)
    while others:
        wake(w, lowest(others))
        others &= others - 1


@njit(error_model="numpy")
def is_held(w, t, k):  # type: ignore[no-untyped-def]
    """Say whether a player holds object k."""
    for p in range(t.players):  # noqa: SIM110 - compiled: no generators
        if w.held[p] == k:
            return True
    return False


@njit(error_model="numpy")
def move_objects(w, t):  # type: ignore[no-untyped-def]
    """Move every object that is awake by one tick, as if no other body were there."""
    todo = w.waking & w.bodies & OBJECTS
    w.moved |= todo
    while todo:
        k = lowest(todo)
        todo &= todo - 1
        in_hand = is_held(w, t, k)
        if not falls_asleep(w, t, k, in_hand):
            move_object(w, t, k, w.shape[k], in_hand)


@njit(error_model="numpy")
def falls_asleep(w, t, k, in_hand):  # type: ignore[no-untyped-def]
    """Let object k sleep if it has rested for a while, as contacts left it in the last tick. Returns whether it does.

    What stands on others falls asleep after them, so that whoever wakes can wake what leans on it.
    """
    if not w.frozen[k]:
        speed = w.velocity[k, 0] ** 2 + w.velocity[k, 1] ** 2 + w.velocity[k, 2] ** 2
        unsteady = w.supported[k] == 0 or w.supported[k] == ON_MOVING
        if in_hand or unsteady or speed > SLEEP_SPEED_M_S**2:
            w.awake[k] = SLEEP_TICKS
            return False
        w.awake[k] -= 1
        if w.awake[k] > 0:
            return False
    w.awake[k] = 0
    w.waking &= ~(1 << k)
    if w.supported[k] == ON_STILL or (w.shape[k] == SPHERE and is_on_a_slope(w, t, k)):
        w.leaning |= 1 << k
    for axis in range(3):
        w.velocity[k, axis] = 0.0
    return True


@njit(error_model="numpy")
def is_on_a_slope(w, t, k):  # type: ignore[no-untyped-def]
    """Say whether body k rests on a ramp's surface, where a sphere stays only because something holds it up."""
    up_x, up_y = slope(t, w.position[k, 0], w.position[k, 1])
    return w.supported[k] == ON_TERRAIN and (up_x != 0 or up_y != 0)


@njit(error_model="numpy")
def move_object(w, t, k, shape, in_hand):  # type: ignore[no-untyped-def]
    """Move object k by one tick over terrain."""
    x = w.position[k, 0]
    y = w.position[k, 1]
    bottom = w.position[k, 2] - HALF[shape, 2]
    vx = w.velocity[k, 0]
    vy = w.velocity[k, 1]
    vz = w.velocity[k, 2]
    half_x = HALF[shape, 0]
    half_y = HALF[shape, 1]
    on_terrain = w.supported[k] == ON_TERRAIN
    if not in_hand:
        vx, vy = rub(t, x, y, vx, vy, shape, w.supported[k])
        vz -= GRAVITY_M_S2 * TICK_S
    speed = math.sqrt(vx * vx + vy * vy + vz * vz)
    if speed > MAX_SPEED_M_S:
        vx *= MAX_SPEED_M_S / speed
        vy *= MAX_SPEED_M_S / speed
        vz *= MAX_SPEED_M_S / speed

    old_x = x
    old_y = y
    old_bottom = bottom
    is_bound = not in_hand and tile_at(t, int(x), int(y)) != WALL  # what leaves a wall's top is given a speed
    to_x = x + vx * TICK_S
    to_y = y + vy * TICK_S
    x, y, floor = move_over(t, x, y, bottom, vx * TICK_S, vy * TICK_S, half_x, half_y, False)
    if x != to_x:
        vx = -BOUNCE * vx if shape == SPHERE else 0.0
    if y != to_y:
        vy = -BOUNCE * vy if shape == SPHERE else 0.0

    bottom += vz * TICK_S
    w.supported[k] = 0
    if bottom <= floor or (on_terrain and not in_hand and vz <= 0 and bottom - floor < STICK_M):
        if shape == SPHERE and vz < -1.5:
            vz = -BOUNCE * vz
        else:
            vz = max(vz, 0.0) if in_hand else 0.0
            w.supported[k] = ON_TERRAIN
        bottom = floor
    out_x, out_y = push_out(t, x, y, bottom, half_x, half_y, False)
    if out_x != 0 or out_y != 0:
        stray(w, k)
        w.jumped |= 1 << k
    elif is_bound:
        share = affordable(w, k, shape, vx, vy, vz, bottom - old_bottom)
        if share < 0:  # too slow to get up there
            x = old_x
            y = old_y
            bottom = old_bottom
            w.supported[k] = ON_TERRAIN if on_terrain else 0
            share = 0.0
        vx *= share
        vy *= share
        vz *= share
    w.position[k, 0] = x + out_x
    w.position[k, 1] = y + out_y
    w.position[k, 2] = bottom + HALF[shape, 2]
    w.velocity[k, 0] = vx
    w.velocity[k, 1] = vy
    w.velocity[k, 2] = vz


@njit(error_model="numpy")
def affordable(w, k, shape, vx, vy, vz, rise):  # type: ignore[no-untyped-def]
    """Return the share, up to 1, of a new velocity that object k has the energy for, -1 if not even for the rise, m.

    It has what it had before this tick, a sphere's turning with it: (7/5) v^2 / 2.
    """
    along = 0.5 / ROLL_SHARE if shape == SPHERE else 0.5
    v = w.velocity[k]
    had = along * (v[0] * v[0] + v[1] * v[1]) + 0.5 * v[2] * v[2] - GRAVITY_M_S2 * rise
    if had < 0:
        return -1.0
    wanted = along * (vx * vx + vy * vy) + 0.5 * vz * vz
    return math.sqrt(had / wanted) if wanted > had else 1.0


@njit(error_model="numpy")
def rub(t, x, y, vx, vy, shape, supported):  # type: ignore[no-untyped-def]
    """Return the horizontal velocity after friction, rolling resistance and the pull of slopes."""
    if supported == 0:
        return vx, vy
    loss = SLIDE_FRICTION * GRAVITY_M_S2 * TICK_S
    if shape == SPHERE:
        loss = ROLLING_RESISTANCE_M_S2 * TICK_S
        if supported == ON_TERRAIN:
            up_x, up_y = slope(t, x, y)
            pull = ROLL_SHARE * GRAVITY_M_S2 * TICK_S / (1.0 + up_x * up_x + up_y * up_y)
            vx -= pull * up_x
            vy -= pull * up_y
    if supported == ON_TERRAIN and tile_at(t, int(x), int(y)) == WALL:
        away_x, away_y = off_the_wall(t, x, y)
        return away_x * WALL_TOP_SPEED_M_S, away_y * WALL_TOP_SPEED_M_S
    speed = math.sqrt(vx * vx + vy * vy)
    if speed <= loss:
        return 0.0, 0.0
    return vx * (1.0 - loss / speed), vy * (1.0 - loss / speed)


@njit(error_model="numpy")
def off_the_wall(t, x, y):  # type: ignore[no-untyped-def]
    """Return the direction in which an object slides off the top of a wall: walls keep nothing."""
    i = int(x)
    j = int(y)
    last = t.size - 1
    best = -1.0
    dx = 0.0
    dy = 0.0
    if i < last and tile_at(t, i + 1, j) != WALL and x - i > best:
        best, dx, dy = x - i, 1.0, 0.0
    if i > 0 and tile_at(t, i - 1, j) != WALL and i + 1 - x > best:
        best, dx, dy = i + 1 - x, -1.0, 0.0
    if j < last and tile_at(t, i, j + 1) != WALL and y - j > best:
        best, dx, dy = y - j, 0.0, 1.0
    if j > 0 and tile_at(t, i, j - 1) != WALL and j + 1 - y > best:
        best, dx, dy = j + 1 - y, 0.0, -1.0
    return dx, dy
