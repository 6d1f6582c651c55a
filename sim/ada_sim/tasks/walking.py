"""Where a player can get on foot: along a level, up and down ramps, down over edges; not up an edge, not into a pit.

The kernels are what both generated worlds and templates are checked with, so a task's solvability means one thing.
"""

import numpy as np
from numba import njit

from ada_sim.tasks.task import Tile

_FLOOR, _WALL, _PIT, _RAMP_NORTH = int(Tile.FLOOR), int(Tile.WALL), int(Tile.PIT), int(Tile.RAMP_NORTH)

# Directions in the order of the ramp tiles: north, east, south, west.
STEP_X = np.array([0, 1, 0, -1])
STEP_Y = np.array([1, 0, -1, 0])


@njit(cache=True)
def can_walk(tiles, levels, i, j, direction):  # type: ignore[no-untyped-def]
    """Return whether a player gets from the middle of tile (i, j) to that of its neighbour in `direction`.

    A ramp's edges lie at its level (low end), one above (top), and in between at its sides, which can be left
    downwards and entered from above, or from the same ramp beside it.
    """
    to_i, to_j = i + STEP_X[direction], j + STEP_Y[direction]
    tile, to_tile = tiles[i, j], tiles[to_i, to_j]
    if tile in (_WALL, _PIT) or to_tile in (_WALL, _PIT):
        return False
    level, to_level = levels[i, j], levels[to_i, to_j]
    if tile != _FLOOR and tile == to_tile and level == to_level and (tile - _RAMP_NORTH) % 2 != direction % 2:
        return True
    leaves_at = level
    if tile != _FLOOR and tile - _RAMP_NORTH == direction:
        leaves_at = level + 1
    arrives_at = to_level
    if to_tile != _FLOOR and to_tile - _RAMP_NORTH != direction:
        arrives_at = to_level + 1
    return leaves_at >= arrives_at


@njit(cache=True)
def spread(tiles, levels, i, j, backwards, reached, queue):  # type: ignore[no-untyped-def]
    """Mark in `reached`, bool [S, S], the tiles that (i, j) reaches, or is reached from; return how many.

    `queue` is scratch, int32 [S * S]. Tiles marked before are not entered again.
    """
    size = tiles.shape[0]
    if tiles[i, j] in (_WALL, _PIT) or reached[i, j]:
        return 0
    reached[i, j] = True
    queue[0] = i * size + j
    head, tail = 0, 1
    while head < tail:
        x, y = queue[head] // size, queue[head] % size
        head += 1
        for direction in range(4):
            to_x, to_y = x + STEP_X[direction], y + STEP_Y[direction]
            if to_x < 0 or to_y < 0 or to_x >= size or to_y >= size or reached[to_x, to_y]:
                continue
            if backwards:
                connected = can_walk(tiles, levels, to_x, to_y, (direction + 2) % 4)
            else:
                connected = can_walk(tiles, levels, x, y, direction)
            if connected:
                reached[to_x, to_y] = True
                queue[tail] = to_x * size + to_y
                tail += 1
    return tail


@njit(cache=True)
def home_of(tiles, levels, i, j, home, forwards, queue):  # type: ignore[no-untyped-def]
    """Mark in `home` the tiles from which (i, j) can be reached and back; `forwards` gets all that it reaches."""
    home[:] = False
    forwards[:] = False
    spread(tiles, levels, i, j, False, forwards, queue)
    spread(tiles, levels, i, j, True, home, queue)
    count = 0
    for x in range(tiles.shape[0]):
        for y in range(tiles.shape[0]):
            home[x, y] = home[x, y] and forwards[x, y]
            count += home[x, y]
    return count


def reachable(tiles: np.ndarray, levels: np.ndarray, i: int, j: int) -> np.ndarray:
    """Return, bool [S, S], the tiles a player standing on (i, j) can get to on foot."""
    reached = np.zeros(tiles.shape, np.bool_)
    spread(tiles, levels, i, j, False, reached, np.empty(tiles.size, np.int32))
    return reached


def largest_home(tiles: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return, bool [S, S], the largest set of tiles each of which can be reached from each other one."""
    best = np.zeros(tiles.shape, np.bool_)
    seen = np.zeros(tiles.shape, np.bool_)
    home, forwards, queue = best.copy(), best.copy(), np.empty(tiles.size, np.int32)
    for i, j in np.argwhere(tiles == Tile.FLOOR):
        if seen[i, j]:
            continue
        if home_of(tiles, levels, i, j, home, forwards, queue) > best.sum():
            best = home.copy()
        seen |= home
    return best
