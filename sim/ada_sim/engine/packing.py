"""What the engine reads of a task's terrain, worked out once from its tiles and heights."""

import numpy as np
from numba import njit

from ada_sim.constants import LEVEL_HEIGHT_M, STEP_M
from ada_sim.engine.terrain import DEPENDS, NORTH, OPEN, RUGGED, SHUT, WALL, WEST
from ada_sim.engine.types import SIGHT_FLOORS

PACKED = ("ramps", "lowest", "walk_lines", "ramp_lines", "around", "cell", "sight_lines", "ways")
SIDES = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.int64)  # east, west, north, south, as in `ways`


@njit(cache=True, error_model="numpy")
def pack_terrain(tasks, n):  # type: ignore[no-untyped-def]
    """Write the packed terrain of task n of `tasks` (TASK [N]) from its `tile` and `top`; the border is walls."""
    pack(tasks[n])


@njit(error_model="numpy")
def pack(t):  # type: ignore[no-untyped-def]
    """Write the packed terrain of a task."""
    pack_cells(t)
    pack_ways(t)
    pack_around(t)
    pack_sight(t)


@njit(error_model="numpy")
def is_ramp(kind):  # type: ignore[no-untyped-def]
    """Say whether a Tile is a ramp."""
    return NORTH <= kind <= WEST


@njit(error_model="numpy")
def pack_cells(t):  # type: ignore[no-untyped-def]
    """Write heights and kinds of the tiles, and what is the least and how many are ramps."""
    t.ramps = 0
    t.lowest = np.int64(round(t.top[0, 0] / LEVEL_HEIGHT_M))
    for i in range(t.size):
        for j in range(t.size):
            height = np.int64(round(t.top[i, j] / LEVEL_HEIGHT_M))
            t.cell[i * t.size + j] = t.tile[i, j] + 8 * height
            t.ramps += is_ramp(t.tile[i, j])
            t.lowest = min(t.lowest, height)


@njit(error_model="numpy")
def way_between(t, i, j, to_i, to_j):  # type: ignore[no-untyped-def]
    """Return whether one can walk from a tile to one beside it: SHUT, OPEN or DEPENDS."""
    if t.tile[to_i, to_j] == WALL:
        return SHUT
    if is_ramp(t.tile[i, j]) or is_ramp(t.tile[to_i, to_j]):
        return DEPENDS
    return SHUT if t.top[to_i, to_j] > t.top[i, j] + STEP_M else OPEN


@njit(error_model="numpy")
def pack_ways(t):  # type: ignore[no-untyped-def]
    """Write where one can walk: by tile and, for whole grid lines at once, where one can't."""
    size = t.size
    for line in range(len(t.walk_lines)):
        t.walk_lines[line] = 0
        t.ramp_lines[line] = 0
    for i in range(size):
        for j in range(size):
            ways = 0
            for side in range(4):
                to_i = i + SIDES[side, 0]
                to_j = j + SIDES[side, 1]
                if not (0 <= to_i < size and 0 <= to_j < size):
                    continue
                way = way_between(t, i, j, to_i, to_j)
                ways |= way << 2 * side
                if way != OPEN:
                    line = min(i, to_i) if side < 2 else min(j, to_j)
                    bit = np.uint32(1) << np.uint32(j if side < 2 else i)
                    t.walk_lines[side * size + line] |= bit
                    if way == DEPENDS:
                        t.ramp_lines[side * size + line] |= bit
            t.ways[i * size + j] = ways


@njit(error_model="numpy")
def pack_around(t):  # type: ignore[no-untyped-def]
    """Write which of the eight tiles around each are too high for who stands on it."""
    last = t.size - 1
    for i in range(t.size):
        for j in range(t.size):
            bits = 0
            if i == 0 or j == 0 or i == last or j == last or is_ramp(t.tile[i, j]):
                bits = RUGGED
            else:
                for near in range(9):
                    to_i = i + near // 3 - 1
                    to_j = j + near % 3 - 1
                    high = t.top[to_i, to_j] > t.top[i, j] + STEP_M
                    bits |= high << near
                    if is_ramp(t.tile[to_i, to_j]) or (t.tile[to_i, to_j] == WALL and not high):
                        bits |= RUGGED
            t.around[i * t.size + j] = bits


@njit(error_model="numpy")
def pack_sight(t):  # type: ignore[no-untyped-def]
    """Write for some heights where the tiles beside grid lines are higher."""
    size = t.size
    for line in range(SIGHT_FLOORS * 2 * size):
        t.sight_lines[line] = 0
    for i in range(size):
        for j in range(size):
            for axis in range(2):
                to_i = i + (axis == 0)
                to_j = j + (axis == 1)
                if to_i == size or to_j == size:
                    continue
                high = max(summit(t, i, j), summit(t, to_i, to_j)) - t.lowest
                n = i if axis == 0 else j
                bit = np.uint32(1) << np.uint32(j if axis == 0 else i)
                for floor in range(min(high, SIGHT_FLOORS)):
                    t.sight_lines[(floor * 2 + axis) * size + n] |= bit


@njit(error_model="numpy")
def summit(t, i, j):  # type: ignore[no-untyped-def]
    """Return the greatest height of tile (i, j), in half metres."""
    return np.int64(t.cell[i * t.size + j] >> 3) + is_ramp(t.tile[i, j])
