"""Objects appear and vanish: slots, kinds and free places."""

import math

from numba import njit

from ada_sim.constants import FIRST_OBJECT, HALF, MAX_BODIES, STEP_M
from ada_sim.engine.bits import lowest
from ada_sim.engine.bodies import wake, wake_beside
from ada_sim.engine.charts import stray
from ada_sim.engine.geometry import gap
from ada_sim.engine.terrain import WALL, ground, height_on, tile_at
from ada_sim.tasks.task import Tile

PIT = int(Tile.PIT)
FREE_GAP_M = 0.02
RING_STEP_M = 0.55
RINGS = 4
DIRECTIONS = 8


@njit(error_model="numpy")
def vanish(w, t, k):  # type: ignore[no-untyped-def]
    """Remove object k, out of any hand."""
    w.bodies_of[w.kind[k]] &= ~(1 << k)
    w.bodies &= ~(1 << k)
    w.waking &= ~(1 << k)
    w.leaning &= ~(1 << k)
    w.kind[k] = -1
    w.awake[k] = 0
    w.spent[k] = 0
    for p in range(t.players):
        if w.held[p] == k:
            w.held[p] = -1
            w.hand_distance[p] = 0.0
            w.hand_force[p] = 0.0
    wake_beside(w, k)


@njit(error_model="numpy")
def appear(w, t, kind, x, y, z):  # type: ignore[no-untyped-def]
    """Put a new object at the free place nearest to (x, y, z). Returns its slot, or -1 if all slots are in use."""
    k = FIRST_OBJECT
    while k < MAX_BODIES and w.kind[k] >= 0:
        k += 1
    if k == MAX_BODIES:
        return -1
    w.kind[k] = kind
    w.shape[k] = kind // 3
    w.bodies_of[kind] |= 1 << k
    w.bodies |= 1 << k
    w.used = max(w.used, k + 1)
    w.frozen[k] = 0
    wake(w, k)
    w.supported[k] = 0
    w.spent[k] = 0
    for axis in range(3):
        w.velocity[k, axis] = 0.0
    if try_place(w, t, k, x, y, x, y, z):
        return k
    for ring in range(1, RINGS + 1):
        for direction in range(DIRECTIONS):
            angle = 2 * math.pi * direction / DIRECTIONS
            to_x = x + ring * RING_STEP_M * math.cos(angle)
            to_y = y + ring * RING_STEP_M * math.sin(angle)
            if try_place(w, t, k, x, y, to_x, to_y, z):
                return k
    # No room: at the place itself, inside the world; contacts push it free.
    shape = kind // 3
    size = t.size
    x = min(max(x, 1.01 + HALF[shape, 0]), size - 1.01 - HALF[shape, 0])
    y = min(max(y, 1.01 + HALF[shape, 1]), size - 1.01 - HALF[shape, 1])
    set_place(w, t, k, x, y, z)
    return k


@njit(error_model="numpy")
def set_place(w, t, k, x, y, z):  # type: ignore[no-untyped-def]
    """Put body k at (x, y), at height z or on the ground if that is higher."""
    stray(w, k)
    w.moved |= 1 << k
    w.jumped |= 1 << k
    w.position[k, 0] = x
    w.position[k, 1] = y
    w.position[k, 2] = max(z, ground(t, x, y) + HALF[w.shape[k], 2])


@njit(error_model="numpy")
def try_place(w, t, k, from_x, from_y, x, y, z):  # type: ignore[no-untyped-def]
    """Put body k at (x, y) if terrain and other bodies leave room there and on the way. Returns whether it is there."""
    shape = w.shape[k]
    half_x = HALF[shape, 0]
    half_y = HALF[shape, 1]
    size = t.size
    if x - half_x < 1.001 or y - half_y < 1.001 or x + half_x > size - 1.001 or y + half_y > size - 1.001:
        return False
    bottom = z - HALF[shape, 2]
    if not terrain_has_room(t, x, y, half_x, half_y, bottom):
        return False
    if (x != from_x or y != from_y) and not way_is_open(t, from_x, from_y, x, y):
        return False
    set_place(w, t, k, x, y, z)
    others = w.bodies & ~(1 << k)
    while others:
        other = lowest(others)
        others &= others - 1
        if gap(w, k, other) < FREE_GAP_M:
            return False
    return True


@njit(error_model="numpy")
def terrain_has_room(t, x, y, half_x, half_y, bottom):  # type: ignore[no-untyped-def]
    """Say whether a box standing at (x, y) hangs into no wall and no higher level."""
    floor = max(bottom, ground(t, x, y))
    for i in range(int(x - half_x), int(x + half_x) + 1):
        for j in range(int(y - half_y), int(y + half_y) + 1):
            if height_on(t, i, j, x, y) > floor + STEP_M or tile_at(t, i, j) == WALL:
                return False
    return True


@njit(error_model="numpy")
def way_is_open(t, x0, y0, x1, y1):  # type: ignore[no-untyped-def]
    """Say whether things can be pushed from one place to the other: no wall, pit or step of the ground between."""
    steps = 1 + int(4 * math.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2))
    last = ground(t, x0, y0)
    for n in range(1, steps + 1):
        x = x0 + (x1 - x0) * n / steps
        y = y0 + (y1 - y0) * n / steps
        here = ground(t, x, y)
        if tile_at(t, int(x), int(y)) == WALL or tile_at(t, int(x), int(y)) == PIT or abs(here - last) > STEP_M:
            return False
        last = here
    return True
