"""Generated worlds: terraces with ramps and one-way drops, walls, pits, and a home region that hangs together on foot.

AdA takes its worlds from XLand 1.0 without describing how they are made; the recipe here is ours. A world is drawn
whole, then searched; it is kept if its home region (tiles each of which a player can reach from each other one)
covers at least HOME_SHARE of the floor, else drawn again, in the end without walls and flat, which always passes.
Everything a task needs stands in the home region, so every spawn point reaches every object.
"""

import numpy as np
from numba import njit

from ada_sim.tasks.random import below, mix, uniform
from ada_sim.tasks.task import MAX_WORLD_SIZE, Tile
from ada_sim.tasks.walking import STEP_X, STEP_Y, home_of

HOME_SHARE = 0.5
MIN_HOME_TILES = 9
HELD_OUT_ONE_IN = 8  # by hash: one in so many worlds is never seen in training

_FLOOR, _WALL, _PIT = int(Tile.FLOOR), int(Tile.WALL), int(Tile.PIT)
_RAMP_NORTH = int(Tile.RAMP_NORTH)
_ATTEMPTS = 12
_RAMP_CHANCE = 0.18
_PIT_CHANCE = 0.3
_HASH_MULTIPLIER = np.uint64(0x100000001B3)


@njit(cache=True)
def _raise_terraces(state, size, num_levels, levels):  # type: ignore[no-untyped-def]
    """Raise random rectangles, each one level above the ground at its middle."""
    for _ in range(1 + below(state, max(1, size // 3))):
        width, depth = 2 + below(state, max(1, size // 2 - 1)), 2 + below(state, max(1, size // 2 - 1))
        x, y = 1 + below(state, size - 2), 1 + below(state, size - 2)
        x_end, y_end = min(size - 1, x + width), min(size - 1, y + depth)
        level = min(levels[(x + x_end) // 2, (y + y_end) // 2] + 1, num_levels - 1)
        levels[x:x_end, y:y_end] = level


@njit(cache=True)
def _next_to_ramp(tiles, i, j):  # type: ignore[no-untyped-def]
    """Return whether (i, j) is the foot or the top of a ramp."""
    for direction in range(4):
        tile = tiles[i + STEP_X[direction], j + STEP_Y[direction]]
        if tile >= _RAMP_NORTH and tile != _PIT and (tile - _RAMP_NORTH) % 2 == direction % 2:
            return True
    return False


@njit(cache=True)
def _lay_ramps(state, size, tiles, levels):  # type: ignore[no-untyped-def]
    """Turn some floor tiles below an edge of one level into ramps: some edges stay one-way drops."""
    for i in range(1, size - 1):
        for j in range(1, size - 1):
            if tiles[i, j] != _FLOOR or uniform(state) > 4 * _RAMP_CHANCE or _next_to_ramp(tiles, i, j):
                continue
            direction = below(state, 4)
            foot_i, foot_j = i - STEP_X[direction], j - STEP_Y[direction]
            top_i, top_j = i + STEP_X[direction], j + STEP_Y[direction]
            if tiles[foot_i, foot_j] != _FLOOR or tiles[top_i, top_j] != _FLOOR:
                continue
            if levels[foot_i, foot_j] == levels[i, j] and levels[top_i, top_j] == levels[i, j] + 1:
                tiles[i, j] = _RAMP_NORTH + direction


@njit(cache=True)
def _build_walls(state, size, density, tiles):  # type: ignore[no-untyped-def]
    """Build straight pieces of wall, up to five tiles long, until the density is reached."""
    left = int(density * (size - 2) * (size - 2))
    for _ in range(4 * size):
        if left <= 0:
            return
        i, j, direction = 1 + below(state, size - 2), 1 + below(state, size - 2), below(state, 4)
        for _ in range(min(left, 1 + below(state, 5))):
            if tiles[i, j] != _FLOOR or _next_to_ramp(tiles, i, j):
                break
            tiles[i, j] = _WALL
            left -= 1
            i, j = i + STEP_X[direction], j + STEP_Y[direction]


@njit(cache=True)
def _dig_pits(state, size, tiles):  # type: ignore[no-untyped-def]
    if uniform(state) > _PIT_CHANCE:
        return
    for _ in range(1 + below(state, 3)):
        i, j = 1 + below(state, size - 2), 1 + below(state, size - 2)
        if tiles[i, j] == _FLOOR and not _next_to_ramp(tiles, i, j):
            tiles[i, j] = _PIT


@njit(cache=True)
def settle_walls(size, tiles, levels):  # type: ignore[no-untyped-def]
    """Raise each wall to the highest ground beside it, so that nobody steps onto a wall from above."""
    for i in range(size):
        for j in range(size):
            if tiles[i, j] != _WALL:
                continue
            level = 0
            for x in range(max(0, i - 1), min(size, i + 2)):
                for y in range(max(0, j - 1), min(size, j + 2)):
                    tile = tiles[x, y]
                    if tile != _WALL:
                        level = max(level, levels[x, y] + (1 if _RAMP_NORTH <= tile < _PIT else 0))
            levels[i, j] = level


@njit(cache=True)
def _find_home(state, size, tiles, levels, home, forwards, queue):  # type: ignore[no-untyped-def]
    """Search for a large enough home region from a few random tiles; return its size, or 0."""
    floor = 0
    for i in range(size):
        for j in range(size):
            floor += tiles[i, j] != _WALL and tiles[i, j] != _PIT
    wanted = max(MIN_HOME_TILES, HOME_SHARE * floor)
    for _ in range(4):
        i, j = 1 + below(state, size - 2), 1 + below(state, size - 2)
        if tiles[i, j] != _FLOOR:
            continue
        count = home_of(tiles[:size, :size], levels[:size, :size], i, j, home, forwards, queue)
        if count >= wanted:
            return count
    return 0


@njit(cache=True)
def _hash_world(size, tiles, levels):  # type: ignore[no-untyped-def]
    value = np.uint64(size)
    for i in range(size):
        for j in range(size):
            value = (value ^ np.uint64(tiles[i, j] * 16 + levels[i, j])) * _HASH_MULTIPLIER
    return mix(value)


@njit(cache=True)
def make_world(state, sizes, level_range, density, held_out, tiles, levels, home, queue):  # type: ignore[no-untyped-def]
    """Draw a world into `tiles`, uint8, and `levels`, int8 [S_max, S_max], of its side of the held-out split.

    `home`, bool [S_max, S_max], gets its home region. `sizes` and `level_range` are closed ranges. Returns the size.
    """
    forwards = np.empty((MAX_WORLD_SIZE, MAX_WORLD_SIZE), np.bool_)
    while True:
        size = sizes[0] + below(state, sizes[1] - sizes[0] + 1)
        num_levels = level_range[0] + below(state, level_range[1] - level_range[0] + 1)
        for attempt in range(_ATTEMPTS):
            plain = attempt == _ATTEMPTS - 1
            tiles[:size, :size] = _FLOOR
            levels[:size, :size] = 0
            tiles[0, :size] = _WALL
            tiles[size - 1, :size] = _WALL
            tiles[:size, 0] = _WALL
            tiles[:size, size - 1] = _WALL
            if num_levels > 1 and not plain:
                _raise_terraces(state, size, num_levels, levels)
                levels[0, :size] = 0
                _lay_ramps(state, size, tiles, levels)
            if not plain:
                _build_walls(state, size, density * uniform(state) * 2, tiles)
                _dig_pits(state, size, tiles)
            settle_walls(size, tiles, levels)
            if _find_home(state, size, tiles, levels, home[:size, :size], forwards[:size, :size], queue) > 0:
                break
        if (_hash_world(size, tiles, levels) % np.uint64(HELD_OUT_ONE_IN) == np.uint64(0)) == held_out:
            return size
