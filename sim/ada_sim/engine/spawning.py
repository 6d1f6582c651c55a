"""Objects appear and vanish: slots, kinds and free places."""

import math

from numba import njit

from ada_sim.constants import HALF, MAX_OBJECTS, SLEEP_TICKS, STEP_M
from ada_sim.engine.geometry import gap
from ada_sim.engine.gripping import wake_all
from ada_sim.engine.terrain import WALL, ground, height_on
from ada_sim.tasks.task import Tile

PIT = int(Tile.PIT)
FREE_GAP_M = 0.02
RING_STEP_M = 0.55
RINGS = 4
DIRECTIONS = 8


@njit(cache=True)
def vanish(worlds, b, k):  # type: ignore[no-untyped-def]
    """Remove object k from world b, out of any hand."""
    worlds.bodies_of[b, worlds.kind[b, k]] &= ~(1 << k)
    worlds.kind[b, k] = -1
    worlds.awake[b, k] = 0
    worlds.spent[b, k] = 0
    for p in range(worlds.held.shape[1]):
        if worlds.held[b, p] == k:
            worlds.held[b, p] = -1
            worlds.hand_distance[b, p] = 0.0
            worlds.hand_force[b, p] = 0.0
    wake_all(worlds.awake, worlds.used, b)


@njit(cache=True)
def appear(worlds, tasks, b, kind, x, y, z):  # type: ignore[no-untyped-def]
    """Put a new object at the free place nearest to (x, y, z). Returns its slot, or -1 if all slots are in use."""
    k = 0
    while k < MAX_OBJECTS and worlds.kind[b, k] >= 0:
        k += 1
    if k == MAX_OBJECTS:
        return -1
    worlds.kind[b, k] = kind
    worlds.bodies_of[b, kind] |= 1 << k
    worlds.used[b] = max(worlds.used[b], k + 1)
    worlds.frozen[b, k] = 0
    worlds.awake[b, k] = SLEEP_TICKS
    worlds.supported[b, k] = 0
    worlds.spent[b, k] = 0
    for axis in range(3):
        worlds.velocity[b, k, axis] = 0.0
    if try_place(worlds, tasks, b, k, x, y, x, y, z):
        return k
    for ring in range(1, RINGS + 1):
        for direction in range(DIRECTIONS):
            angle = 2 * math.pi * direction / DIRECTIONS
            to_x = x + ring * RING_STEP_M * math.cos(angle)
            to_y = y + ring * RING_STEP_M * math.sin(angle)
            if try_place(worlds, tasks, b, k, x, y, to_x, to_y, z):
                return k
    # No room: at the place itself, inside the world; contacts push it free.
    shape = kind // 3
    size = tasks.size[b]
    x = min(max(x, 1.01 + HALF[shape, 0]), size - 1.01 - HALF[shape, 0])
    y = min(max(y, 1.01 + HALF[shape, 1]), size - 1.01 - HALF[shape, 1])
    set_place(worlds, tasks, b, k, x, y, z)
    return k


@njit(cache=True)
def set_place(worlds, tasks, b, k, x, y, z):  # type: ignore[no-untyped-def]
    """Put body k at (x, y), at height z or on the ground if that is higher."""
    worlds.position[b, k, 0] = x
    worlds.position[b, k, 1] = y
    worlds.position[b, k, 2] = max(z, ground(tasks.tile, tasks.top, b, x, y) + HALF[worlds.kind[b, k] // 3, 2])


@njit(cache=True)
def try_place(worlds, tasks, b, k, from_x, from_y, x, y, z):  # type: ignore[no-untyped-def]
    """Put body k at (x, y) if terrain and other bodies leave room there and on the way. Returns whether it is there."""
    shape = worlds.kind[b, k] // 3
    half_x = HALF[shape, 0]
    half_y = HALF[shape, 1]
    size = tasks.size[b]
    if x - half_x < 1.001 or y - half_y < 1.001 or x + half_x > size - 1.001 or y + half_y > size - 1.001:
        return False
    bottom = z - HALF[shape, 2]
    if not terrain_has_room(tasks.tile, tasks.top, b, x, y, half_x, half_y, bottom):
        return False
    if (x != from_x or y != from_y) and not way_is_open(tasks.tile, tasks.top, b, from_x, from_y, x, y):
        return False
    set_place(worlds, tasks, b, k, x, y, z)
    for other in range(MAX_OBJECTS + worlds.yaw.shape[1]):
        if other == k or worlds.kind[b, other] < 0 or (other >= worlds.used[b] and other < MAX_OBJECTS):
            continue
        if gap(worlds.position, worlds.kind, b, k, other) < FREE_GAP_M:
            return False
    return True


@njit(cache=True)
def terrain_has_room(tile, top, b, x, y, half_x, half_y, bottom):  # type: ignore[no-untyped-def]
    """Say whether a box standing at (x, y) hangs into no wall and no higher level."""
    floor = max(bottom, ground(tile, top, b, x, y))
    for i in range(int(x - half_x), int(x + half_x) + 1):
        for j in range(int(y - half_y), int(y + half_y) + 1):
            if height_on(tile, top, b, i, j, x, y) > floor + STEP_M or tile[b, i, j] == WALL:
                return False
    return True


@njit(cache=True)
def way_is_open(tile, top, b, x0, y0, x1, y1):  # type: ignore[no-untyped-def]
    """Say whether things can be pushed from one place to the other: no wall, pit or step of the ground between."""
    steps = 1 + int(4 * math.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2))
    last = ground(tile, top, b, x0, y0)
    for n in range(1, steps + 1):
        x = x0 + (x1 - x0) * n / steps
        y = y0 + (y1 - y0) * n / steps
        here = ground(tile, top, b, x, y)
        if tile[b, int(x), int(y)] == WALL or tile[b, int(x), int(y)] == PIT or abs(here - last) > STEP_M:
            return False
        last = here
    return True
