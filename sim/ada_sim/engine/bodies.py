"""Free objects move: gravity, terrain, sliding and rolling to rest, sleep."""

import math

from numba import njit

from ada_sim.constants import (
    BOUNCE,
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
from ada_sim.engine.gripping import is_held
from ada_sim.engine.terrain import WALL, ground, move_x, move_y, push_out, slope

SPHERE = 2
STICK_M = 0.08  # a body on the ground follows it down this far in a tick
WALL_TOP_SPEED_M_S = 1.0


@njit(cache=True)
def move_objects(worlds, tasks, begin, end):  # type: ignore[no-untyped-def]
    """Move every object that is awake by one tick, as if no other body were there."""
    for b in range(begin, end):
        if not worlds.active[b]:
            continue
        for k in range(worlds.used[b]):
            if worlds.awake[b, k] == 0 or worlds.kind[b, k] < 0 or worlds.frozen[b, k]:
                continue
            shape = worlds.kind[b, k] // 3
            in_hand = is_held(worlds.held, b, k)
            move_object(tasks.tile, tasks.top, tasks.size[b], worlds.position, worlds.velocity, worlds.supported, b, k,
                        shape, in_hand)  # fmt: skip
            v = worlds.velocity
            speed = v[b, k, 0] ** 2 + v[b, k, 1] ** 2 + v[b, k, 2] ** 2
            if in_hand or worlds.supported[b, k] == 0 or speed > SLEEP_SPEED_M_S**2:
                worlds.awake[b, k] = SLEEP_TICKS
            else:
                worlds.awake[b, k] -= 1
                if worlds.awake[b, k] == 0:
                    for axis in range(3):
                        v[b, k, axis] = 0.0


@njit(cache=True)
def move_object(tile, top, size, position, velocity, supported, b, k, shape, in_hand):  # type: ignore[no-untyped-def]
    """Move object k of world b by one tick over terrain."""
    x = position[b, k, 0]
    y = position[b, k, 1]
    bottom = position[b, k, 2] - HALF[shape, 2]
    vx = velocity[b, k, 0]
    vy = velocity[b, k, 1]
    vz = velocity[b, k, 2]
    half_x = HALF[shape, 0]
    half_y = HALF[shape, 1]
    on_terrain = supported[b, k] == 1
    if not in_hand:
        vx, vy = rub(tile, b, x, y, vx, vy, shape, supported[b, k])
        vz -= GRAVITY_M_S2 * TICK_S
    speed = math.sqrt(vx * vx + vy * vy + vz * vz)
    if speed > MAX_SPEED_M_S:
        vx *= MAX_SPEED_M_S / speed
        vy *= MAX_SPEED_M_S / speed
        vz *= MAX_SPEED_M_S / speed

    if vx != 0:
        to = x + vx * TICK_S
        x = move_x(tile, top, size, b, x, y, bottom, vx * TICK_S, half_x, half_y, False)
        if x != to:
            vx = -BOUNCE * vx if shape == SPHERE else 0.0
    if vy != 0:
        to = y + vy * TICK_S
        y = move_y(tile, top, size, b, x, y, bottom, vy * TICK_S, half_x, half_y, False)
        if y != to:
            vy = -BOUNCE * vy if shape == SPHERE else 0.0

    floor = ground(tile, top, b, x, y)
    bottom += vz * TICK_S
    supported[b, k] = 0
    if bottom <= floor or (on_terrain and not in_hand and vz <= 0 and bottom - floor < STICK_M):
        if shape == SPHERE and vz < -1.5:
            vz = -BOUNCE * vz
        else:
            vz = max(vz, 0.0) if in_hand else 0.0
            supported[b, k] = 1
        bottom = floor
    out_x, out_y = push_out(tile, top, b, x, y, bottom, half_x, half_y, False)
    position[b, k, 0] = x + out_x
    position[b, k, 1] = y + out_y
    position[b, k, 2] = bottom + HALF[shape, 2]
    velocity[b, k, 0] = vx
    velocity[b, k, 1] = vy
    velocity[b, k, 2] = vz


@njit(cache=True)
def rub(tile, b, x, y, vx, vy, shape, supported):  # type: ignore[no-untyped-def]
    """Return the horizontal velocity after friction, rolling resistance and the pull of slopes."""
    if supported == 0:
        return vx, vy
    loss = SLIDE_FRICTION * GRAVITY_M_S2 * TICK_S
    if shape == SPHERE:
        loss = ROLLING_RESISTANCE_M_S2 * TICK_S
        if supported == 1:
            up_x, up_y = slope(tile, b, x, y)
            pull = ROLL_SHARE * GRAVITY_M_S2 * TICK_S / (1.0 + up_x * up_x + up_y * up_y)
            vx -= pull * up_x
            vy -= pull * up_y
    if supported == 1 and tile[b, int(x), int(y)] == WALL:
        away_x, away_y = off_the_wall(tile, b, x, y)
        return away_x * WALL_TOP_SPEED_M_S, away_y * WALL_TOP_SPEED_M_S
    speed = math.sqrt(vx * vx + vy * vy)
    if speed <= loss:
        return 0.0, 0.0
    return vx * (1.0 - loss / speed), vy * (1.0 - loss / speed)


@njit(cache=True)
def off_the_wall(tile, b, x, y):  # type: ignore[no-untyped-def]
    """Return the direction in which an object slides off the top of a wall: walls keep nothing."""
    i = int(x)
    j = int(y)
    last = tile.shape[1] - 1
    best = -1.0
    dx = 0.0
    dy = 0.0
    if i < last and tile[b, i + 1, j] != WALL and x - i > best:
        best, dx, dy = x - i, 1.0, 0.0
    if i > 0 and tile[b, i - 1, j] != WALL and i + 1 - x > best:
        best, dx, dy = i + 1 - x, -1.0, 0.0
    if j < last and tile[b, i, j + 1] != WALL and y - j > best:
        best, dx, dy = y - j, 0.0, 1.0
    if j > 0 and tile[b, i, j - 1] != WALL and j + 1 - y > best:
        best, dx, dy = j + 1 - y, 0.0, -1.0
    return dx, dy
