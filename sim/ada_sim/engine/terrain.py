"""The ground: its height at a point, how far a body may move over it, and whether it hides one point from another."""

import numpy as np
from numba import njit

from ada_sim.constants import LEVEL_HEIGHT_M, STEP_M
from ada_sim.tasks.task import Tile

WALL = int(Tile.WALL)
NORTH, EAST, SOUTH, WEST = int(Tile.RAMP_NORTH), int(Tile.RAMP_EAST), int(Tile.RAMP_SOUTH), int(Tile.RAMP_WEST)
EDGE = 1e-6  # bodies stop this far from a tile's side
FAR = 1e9
NEVER_M = 1000.0
FINE = float(1 << 40)
SHUT, OPEN, DEPENDS = 0, 1, 2  # across a side of a tile one can't walk, can, or it depends on where: a ramp is there


@njit(error_model="numpy")
def tile_at(t, i, j):  # type: ignore[no-untyped-def]
    """Return the Tile at (i, j)."""
    return t.cell[i * t.size + j] & 7


@njit(error_model="numpy")
def height_on(t, i, j, x, y):  # type: ignore[no-untyped-def]
    """Return the height of tile (i, j) at its point nearest to (x, y)."""
    cell = np.int64(t.cell[i * t.size + j])
    kind = cell & 7
    h = (cell >> 3) * LEVEL_HEIGHT_M
    if kind < NORTH or kind > WEST:
        return h
    fx = min(max(x - i, 0.0), 1.0)
    fy = min(max(y - j, 0.0), 1.0)
    if kind == NORTH:
        return h + fy * LEVEL_HEIGHT_M
    if kind == EAST:
        return h + fx * LEVEL_HEIGHT_M
    if kind == SOUTH:
        return h + (1.0 - fy) * LEVEL_HEIGHT_M
    return h + (1.0 - fx) * LEVEL_HEIGHT_M


@njit(error_model="numpy")
def ground(t, x, y):  # type: ignore[no-untyped-def]
    """Return the height of the terrain under (x, y)."""
    return height_on(t, int(x), int(y), x, y)


@njit(error_model="numpy")
def is_blocked(t, i, j, x, y, bottom, walks):  # type: ignore[no-untyped-def]
    """Say whether tile (i, j) is too high for a body whose bottom is at `bottom`; who walks never climbs a wall."""
    return (walks and tile_at(t, i, j) == WALL) or height_on(t, i, j, x, y) > bottom + STEP_M


@njit(error_model="numpy")
def move_x(t, x, y, bottom, dx, half_x, half_y, walks):  # type: ignore[no-untyped-def]
    """Return the new x of a box that moves by dx (under 1 m) and stops at terrain too high for it."""
    to = x + dx
    i = int(to + half_x) if dx > 0 else int(to - half_x)
    for j in range(int(y - half_y), int(y + half_y) + 1):
        if is_blocked(t, i, j, to, y, bottom, walks):
            to = min(to, max(x, i - half_x - EDGE)) if dx > 0 else max(to, min(x, i + 1 + half_x + EDGE))
            break
    return min(max(to, 1.0 + half_x + EDGE), t.size - 1.0 - half_x - EDGE)


@njit(error_model="numpy")
def move_y(t, x, y, bottom, dy, half_x, half_y, walks):  # type: ignore[no-untyped-def]
    """Return the new y of a box that moves by dy (under 1 m) and stops at terrain too high for it."""
    to = y + dy
    j = int(to + half_y) if dy > 0 else int(to - half_y)
    for i in range(int(x - half_x), int(x + half_x) + 1):
        if is_blocked(t, i, j, x, to, bottom, walks):
            to = min(to, max(y, j - half_y - EDGE)) if dy > 0 else max(to, min(y, j + 1 + half_y + EDGE))
            break
    return min(max(to, 1.0 + half_y + EDGE), t.size - 1.0 - half_y - EDGE)


@njit(error_model="numpy")
def push_out(t, x, y, bottom, half_x, half_y, walks):  # type: ignore[no-untyped-def]
    """Return the (dx, dy) that frees a box from terrain beside it: it fell past an edge and hangs into its side."""
    ci = int(x)
    cj = int(y)
    dx = 0.0
    dy = 0.0
    if x + half_x > ci + 1 and is_blocked(t, ci + 1, cj, x, y, bottom, walks):
        dx = ci + 1 - half_x - EDGE - x
    elif x - half_x < ci and is_blocked(t, ci - 1, cj, x, y, bottom, walks):
        dx = ci + half_x + EDGE - x
    if y + half_y > cj + 1 and is_blocked(t, ci, cj + 1, x, y, bottom, walks):
        dy = cj + 1 - half_y - EDGE - y
    elif y - half_y < cj and is_blocked(t, ci, cj - 1, x, y, bottom, walks):
        dy = cj + half_y + EDGE - y
    if dx != 0.0 or dy != 0.0:
        return dx, dy
    # Only a corner hangs in: the shorter way out.
    out_x = ci + 1 - half_x - EDGE - x if x + half_x > ci + 1 else ci + half_x + EDGE - x
    out_y = cj + 1 - half_y - EDGE - y if y + half_y > cj + 1 else cj + half_y + EDGE - y
    ni = ci + 1 if x + half_x > ci + 1 else ci - 1
    nj = cj + 1 if y + half_y > cj + 1 else cj - 1
    hangs = (x + half_x > ci + 1 or x - half_x < ci) and (y + half_y > cj + 1 or y - half_y < cj)
    if hangs and is_blocked(t, ni, nj, x, y, bottom, walks):
        if abs(out_x) < abs(out_y):
            dx = out_x
        else:
            dy = out_y
    return dx, dy


@njit(error_model="numpy")
def line_is_clear(t, x0, y0, z0, x1, y1, z1):  # type: ignore[no-untyped-def]
    """Say whether terrain leaves open the line between two points.

    One walk over the tiles that the line crosses. Terrain and line are straight within a tile: its ends tell.
    """
    dx = x1 - x0
    dy = y1 - y0
    dz = z1 - z0
    i = int(x0)
    j = int(y0)
    last_i = int(x1)
    last_j = int(y1)
    step_i = 1 if dx > 0 else -1
    step_j = 1 if dy > 0 else -1
    per_i = 1.0 / abs(dx) if dx != 0 else FAR
    per_j = 1.0 / abs(dy) if dy != 0 else FAR
    next_i = ((i + 1 - x0) if dx > 0 else (x0 - i)) * per_i
    next_j = ((j + 1 - y0) if dy > 0 else (y0 - j)) * per_j
    at = 0.0
    for _ in range(abs(last_i - i) + abs(last_j - j) + 1):
        to = min(next_i, next_j, 1.0)
        from_z = z0 + at * dz
        to_z = z0 + to * dz
        cell = np.int64(t.cell[i * t.size + j])
        if cell & 7 < NORTH or cell & 7 > WEST:
            if min(from_z, to_z) < (cell >> 3) * LEVEL_HEIGHT_M:
                return False
        else:
            if from_z < height_on(t, i, j, x0 + at * dx, y0 + at * dy):
                return False
            if to_z < height_on(t, i, j, x0 + to * dx, y0 + to * dy):
                return False
        at = to
        if next_i < next_j:
            i += step_i
            next_i += per_i
        else:
            j += step_j
            next_j += per_j
    return True


@njit(error_model="numpy")
def walkable_distance(t, x, y, cos, sin, limit):  # type: ignore[no-untyped-def]
    """Return the distance along the ground from (x, y) to the first rise that can't be walked up, at most `limit`.

    Distances are counted in whole FINE parts of a metre: integers are compared and added in a third of the time.
    """
    i = int(x)
    j = int(y)
    per_i = min(1.0 / max(abs(cos), 1e-9), NEVER_M)
    per_j = min(1.0 / max(abs(sin), 1e-9), NEVER_M)
    next_i = int(min(((i + 1 - x) if cos > 0 else (x - i)) * per_i, NEVER_M) * FINE)
    next_j = int(min(((j + 1 - y) if sin > 0 else (y - j)) * per_j, NEVER_M) * FINE)
    each_i = int(per_i * FINE)
    each_j = int(per_j * FINE)
    step_i = t.size if cos > 0 else -t.size
    step_j = 1 if sin > 0 else -1
    east_or_west = 0 if cos > 0 else 2
    north_or_south = 4 if sin > 0 else 6
    last = int(limit * FINE)
    here = i * t.size + j
    while True:
        across_i = next_i < next_j
        at = next_i if across_i else next_j
        if at >= last:
            return limit
        way = t.ways[here] >> (east_or_west if across_i else north_or_south) & 3
        there = here + (step_i if across_i else step_j)
        if way != OPEN:
            distance = at / FINE
            if way == SHUT or is_too_steep(t, here, there, x + distance * cos, y + distance * sin):
                return distance
        here = there
        next_i += each_i if across_i else 0
        next_j += 0 if across_i else each_j


@njit(error_model="numpy")
def is_too_steep(t, here, there, x, y):  # type: ignore[no-untyped-def]
    """Say whether the step at (x, y) from one tile to the next, both given as i * size + j, can't be walked up."""
    height = height_on(t, here // t.size, here % t.size, x, y)
    return is_blocked(t, there // t.size, there % t.size, x, y, height, True)


@njit(error_model="numpy")
def slope(t, x, y):  # type: ignore[no-untyped-def]
    """Return the gradient (d height / dx, d height / dy) of the terrain under (x, y)."""
    kind = tile_at(t, int(x), int(y))
    if kind == NORTH:
        return 0.0, LEVEL_HEIGHT_M
    if kind == EAST:
        return LEVEL_HEIGHT_M, 0.0
    if kind == SOUTH:
        return 0.0, -LEVEL_HEIGHT_M
    if kind == WEST:
        return -LEVEL_HEIGHT_M, 0.0
    return 0.0, 0.0
