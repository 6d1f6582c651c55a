"""Worlds drawn in characters, north up:

    #    wall                      . or 0  floor             1..9  floor raised by that many levels
    ^>v< ramp rising that way      ~  pit                     A, b  a named place, level with the floor around it

A place drawn on several tiles means any one of them. Worlds are square: a shorter side is filled up with walls.
"""

import numpy as np

from ada_sim.tasks.lexer import TemplateError
from ada_sim.tasks.syntax import Drawing
from ada_sim.tasks.task import MAX_WORLD_SIZE, Tile, World
from ada_sim.tasks.worlds import settle_walls

RAMPS = {"^": Tile.RAMP_NORTH, ">": Tile.RAMP_EAST, "v": Tile.RAMP_SOUTH, "<": Tile.RAMP_WEST}
UPHILL = {Tile.RAMP_NORTH: (0, 1), Tile.RAMP_EAST: (1, 0), Tile.RAMP_SOUTH: (0, -1), Tile.RAMP_WEST: (-1, 0)}
_NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))
_UNKNOWN = -1


def empty_room(width: int, depth: int) -> Drawing:
    """Return a flat room of `width` x `depth` tiles inside its walls."""
    size = max(width, depth) + 2
    tiles = np.full((size, size), Tile.WALL, np.uint8)
    tiles[1 : width + 1, 1 : depth + 1] = Tile.FLOOR
    return Drawing(_frozen_world(tiles, np.zeros((size, size), np.int8)))


def read_drawing(name: str, first_line: int, sources: list[str]) -> Drawing:
    """Return the world drawn in `sources`, whose first stands on line `first_line` of the template.

    Raises TemplateError for an unknown character, an open border, a place or ramp whose level can't be told.
    """
    indent = min(len(source) - len(source.lstrip(" ")) for source in sources)
    rows = [source.rstrip()[indent:] for source in sources]
    width = max(len(row) for row in rows)
    reader = _DrawingReader(name, first_line, sources, indent)
    size = max(width, len(rows))
    if size > MAX_WORLD_SIZE:
        message = f"this world is {width} x {len(rows)} tiles; a side has at most {MAX_WORLD_SIZE}"
        raise reader.error(0, 0, message)
    tiles = np.full((size, size), Tile.WALL, np.uint8)
    levels = np.zeros((size, size), np.int8)
    places: dict[str, list[tuple[int, int]]] = {}
    unknown: list[tuple[int, int]] = []
    for row, text in enumerate(rows):
        for i, character in enumerate(text):
            j = len(rows) - 1 - row
            if character in "# ":
                continue
            if row in (0, len(rows) - 1) or i in (0, width - 1):
                raise reader.error(row, i, f"the outer edge must be wall (`#`), found `{character}`")
            if character == ".":
                tiles[i, j] = Tile.FLOOR
            elif character in "0123456789":
                tiles[i, j], levels[i, j] = Tile.FLOOR, int(character)
            elif character == "~":
                tiles[i, j] = Tile.PIT
            elif character in RAMPS or (character.isascii() and character.isalpha()):
                tiles[i, j] = RAMPS.get(character, Tile.FLOOR)
                levels[i, j] = _UNKNOWN
                unknown.append((i, j))
                if character not in RAMPS:
                    places.setdefault(character, []).append((i, j))
            else:
                raise reader.error(row, i, f"expected one of `# . 0-9 ^ > v < ~` or a letter, found `{character}`")
    _settle_levels(tiles, levels, unknown, reader, len(rows))
    return Drawing(_frozen_world(tiles, levels), {place: tuple(spots) for place, spots in places.items()})


class _DrawingReader:
    """Knows where in the template a drawn character stands."""

    def __init__(self, name: str, first_line: int, sources: list[str], indent: int) -> None:
        self.name, self.first_line, self.sources, self.indent = name, first_line, sources, indent

    def error(self, row: int, column: int, message: str) -> TemplateError:
        place = self.indent + column + 1
        return TemplateError(self.name, self.first_line + row, place, message, self.sources[row])


def _settle_levels(
    tiles: np.ndarray, levels: np.ndarray, unknown: list[tuple[int, int]], reader: _DrawingReader, rows: int
) -> None:
    """Give ramps the level of their low end and places the level of the floor beside them."""
    left = list(unknown)
    while left:
        still_unknown = [(i, j) for i, j in left if not _settle_one(tiles, levels, i, j, reader, rows)]
        if len(still_unknown) == len(left):
            places = [(i, j) for i, j in left if tiles[i, j] == Tile.FLOOR]
            if not places:
                i, j = left[0]
                raise reader.error(rows - 1 - j, i, "can't tell this ramp's level: no floor leads to its low end")
            for i, j in places:  # an area of places alone, with no drawn floor beside it, lies on the ground
                levels[i, j] = 0
        left = still_unknown
    for i, j in unknown:
        _check_ramp_top(tiles, levels, i, j, reader, rows)


def _settle_one(tiles: np.ndarray, levels: np.ndarray, i: int, j: int, reader: _DrawingReader, rows: int) -> bool:
    tile = Tile(tiles[i, j])
    if tile in UPHILL:
        di, dj = UPHILL[tile]
        low = _level_towards(tiles, levels, i - di, j - dj, (di, dj))
        if low is None:
            raise reader.error(rows - 1 - j, i, "a ramp needs floor, or another ramp, at its low end")
        levels[i, j] = low
        return low != _UNKNOWN
    beside = {
        int(levels[i + di, j + dj])
        for di, dj in _NEIGHBOURS
        if tiles[i + di, j + dj] == Tile.FLOOR and levels[i + di, j + dj] != _UNKNOWN
    }
    if len(beside) > 1:
        options = " and ".join(str(level) for level in sorted(beside))
        raise reader.error(rows - 1 - j, i, f"the floor around this place has levels {options}; expected one level")
    if beside:
        levels[i, j] = beside.pop()
    return bool(beside) or levels[i, j] != _UNKNOWN


def _level_towards(tiles: np.ndarray, levels: np.ndarray, i: int, j: int, direction: tuple[int, int]) -> int | None:
    """Return the level at the edge of (i, j) that faces `direction`; _UNKNOWN if not settled; None if no floor."""
    tile = Tile(tiles[i, j])
    if tile == Tile.FLOOR:
        return int(levels[i, j])
    if tile in UPHILL and UPHILL[tile] == direction:
        return int(levels[i, j]) + 1 if levels[i, j] != _UNKNOWN else _UNKNOWN
    return None


def _check_ramp_top(tiles: np.ndarray, levels: np.ndarray, i: int, j: int, reader: _DrawingReader, rows: int) -> None:
    tile = Tile(tiles[i, j])
    if tile not in UPHILL:
        return
    di, dj = UPHILL[tile]
    top = Tile(tiles[i + di, j + dj])
    is_same_way_up = top in UPHILL and UPHILL[top] == (di, dj)
    if not (top == Tile.FLOOR or is_same_way_up) or levels[i + di, j + dj] != levels[i, j] + 1:
        message = f"this ramp rises from level {levels[i, j]}; expected floor of level {levels[i, j] + 1} at its top"
        raise reader.error(rows - 1 - j, i, message)


def _frozen_world(tiles: np.ndarray, levels: np.ndarray) -> World:
    settle_walls(tiles.shape[0], tiles, levels)
    tiles.setflags(write=False)
    levels.setflags(write=False)
    return World(tiles, levels)
