"""The ground: its height at a point, how far one may walk over it, and whether it hides one point from another."""

import math

import numpy as np
from numba import njit

from ada_sim.constants import LEVEL_HEIGHT_M, STEP_M
from ada_sim.engine.bits import highest, lowest
from ada_sim.engine.lanes import LEAST, crossings
from ada_sim.engine.types import SIGHT_FLOORS, TASK
from ada_sim.tasks.task import Tile

WALL = int(Tile.WALL)
NORTH, EAST, SOUTH, WEST = int(Tile.RAMP_NORTH), int(Tile.RAMP_EAST), int(Tile.RAMP_SOUTH), int(Tile.RAMP_WEST)
EDGE = 1e-6  # bodies stop this far from a tile's side
FAR = 1e9
SHUT, OPEN, DEPENDS = 0, 1, 2  # across a side of a tile one can't walk, can, or it depends on where: a ramp is there
NO_LINE = -2
RUGGED = 1 << 9  # of `around`: a ramp, a border or a low wall is near
assert TASK.fields is not None
WALK_LINES, RAMP_LINES, SIGHT_LINES = (
    int(TASK.fields[name][1]) for name in ("walk_lines", "ramp_lines", "sight_lines")
)


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
def line_is_clear(t, x0, y0, z0, x1, y1, z1):  # type: ignore[no-untyped-def]
    """Say whether terrain leaves open the line between two points that are not below the ground.

    Terrain and line are straight within a tile: the sides that the line crosses tell. Most have no tile beside them
    that is higher than the lower end of the line; those that have are looked at one by one.
    """
    dx = x1 - x0
    dy = y1 - y0
    dz = z1 - z0
    low = math.floor(min(z0, z1) / LEVEL_HEIGHT_M)
    floor = min(max(np.int64(low) - t.lowest, 0), SIGHT_FLOORS - 1)
    at = SIGHT_LINES + 8 * floor * t.size
    to_y = dy / dx if abs(dx) > LEAST else 0.0
    to_x = dx / dy if abs(dy) > LEAST else 0.0
    east = crossed(t, at, x0, y0, to_y) & lines_between(int(x0), int(x1))
    north = crossed(t, at + 4 * t.size, y0, x0, to_x) & lines_between(int(y0), int(y1))
    while east:
        n = lowest(east)
        east &= east - 1
        way = (n + 1 - x0) / dx
        j = int(y0 + way * dy)
        if z0 + way * dz < max(height_on(t, n, j, n + 1, y0 + way * dy), height_on(t, n + 1, j, n + 1, y0 + way * dy)):
            return False
    while north:
        n = lowest(north)
        north &= north - 1
        way = (n + 1 - y0) / dy
        i = int(x0 + way * dx)
        if z0 + way * dz < max(height_on(t, i, n, x0 + way * dx, n + 1), height_on(t, i, n + 1, x0 + way * dx, n + 1)):
            return False
    return True


@njit(error_model="numpy")
def crossed(t, offset, x, y, slope):  # type: ignore[no-untyped-def]
    """Return at which grid lines (bit n: the line n + 1) a line through (x, y) meets their set of tiles.

    The sets of an axis, one a grid line, are uint32 from byte `offset` of the record on.
    """
    met = crossings(t, offset, 1.0 - x, y, slope) | crossings(t, offset + 32, 9.0 - x, y, slope) << 8
    if t.size > 16:
        met |= crossings(t, offset + 64, 17.0 - x, y, slope) << 16
    return met


@njit(error_model="numpy")
def lines_between(i, j):  # type: ignore[no-untyped-def]
    """Return the grid lines, as a set, between tiles i and j of one axis."""
    return (1 << max(i, j)) - (1 << min(i, j))


@njit(error_model="numpy")
def walkable_distance(t, x, y, cos, sin, limit):  # type: ignore[no-untyped-def]
    """Return the distance along the ground from (x, y) to the first rise that can't be walked up, at most `limit`.

    All grid lines of an axis are asked at once; the nearest that can't be crossed tells. Ramps are asked one by one.
    """
    beyond_x = -1 << int(x)
    beyond_y = -1 << int(y)
    east = cos > 0
    north = sin > 0
    per_x = 1.0 / (max(cos, LEAST) if east else min(cos, -LEAST))
    per_y = 1.0 / (max(sin, LEAST) if north else min(sin, -LEAST))
    shut_x = crossed(t, WALK_LINES + (0 if east else 4) * t.size, x, y, sin * per_x)
    shut_y = crossed(t, WALK_LINES + (8 if north else 12) * t.size, y, x, cos * per_y)
    shut_x &= beyond_x if east else ~beyond_x
    shut_y &= beyond_y if north else ~beyond_y
    while True:
        n = first_line(shut_x, east)
        m = first_line(shut_y, north)
        to_x = (n + 1 - x) * per_x
        to_y = (m + 1 - y) * per_y
        distance = min(to_x, to_y)
        if distance >= limit:
            return limit
        if not t.ramps:
            return distance
        if is_shut(t, x, y, cos, sin, distance, n if to_x < to_y else NO_LINE, m):
            return distance
        if to_x < to_y:
            shut_x &= ~(1 << n)
        else:
            shut_y &= ~(1 << m)


@njit(error_model="numpy")
def is_shut(t, x, y, cos, sin, distance, n, m):  # type: ignore[no-untyped-def]
    """Say whether one can't walk on at `distance` from (x, y), over grid line n of x or, if that is NO_LINE, m of y."""
    if n != NO_LINE:
        tile_y = min(max(int(y + distance * sin), 0), t.size - 1)
        east = cos > 0
        here = (n if east else n + 1) * t.size + tile_y
        there = (n + 1 if east else n) * t.size + tile_y
        way = t.ways[here] >> (0 if east else 2) & 3
    else:
        tile_x = min(max(int(x + distance * cos), 0), t.size - 1)
        north = sin > 0
        here = tile_x * t.size + (m if north else m + 1)
        there = tile_x * t.size + (m + 1 if north else m)
        way = t.ways[here] >> (4 if north else 6) & 3
    return way == SHUT or (way == DEPENDS and is_too_steep(t, here, there, x + distance * cos, y + distance * sin))


@njit(error_model="numpy")
def first_line(lines, rising):  # type: ignore[no-untyped-def]
    """Return which grid line of a set comes first if one goes up or down the axis; one outside of the world if none."""
    return lowest(lines | 1 << 40) if rising else highest(lines << 1 | 1) - 1


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
