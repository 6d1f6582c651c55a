"""Where players and objects of a template stand: fixed, on one of some named tiles, or anywhere with room around.

"Anywhere" is on plain floor that the players reach on foot, WALL_CLEARANCE_M from walls, edges and ramps, and
`apart` metres from everything else if there is room; where there isn't, as far as CANDIDATES draws found.
"""

import math
from dataclasses import dataclass

import numpy as np

from ada_sim.tasks.syntax import ObjectLine, Place, Template
from ada_sim.tasks.task import Tile
from ada_sim.tasks.walking import largest_home, reachable

WALL_CLEARANCE_M = 0.6
MIN_APART_M = 1.1
CANDIDATES = 40
_ATTEMPTS = 20

Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Where everything stands when a trial begins; metres, world frame."""

    players: tuple[Point, ...]
    objects: tuple[Point, ...]


class Placer:
    """Draws layouts for one template."""

    def __init__(self, template: Template) -> None:
        self.template = template
        world = template.drawing.world
        self.tiles, self.levels = world.tiles, world.levels
        # Level of plain floor, -1 for anything else; nested lists, since they are read one number at a time.
        self.ground: list[list[int]] = np.where(self.tiles == Tile.FLOOR, self.levels, -1).tolist()
        self.home = largest_home(self.tiles, self.levels)
        self.home_tiles = _plain_floor(self.tiles, self.home)
        self.is_one_region = len(self.home_tiles) == int((self.tiles == Tile.FLOOR).sum())

    def draw(self, rng: np.random.Generator, places: dict[str, str], lines: list[ObjectLine]) -> Layout:
        """Return a layout for the objects of `lines`; `places` are the values of the place variables.

        Raises ValueError if the world has no room for them.
        """
        for _ in range(_ATTEMPTS):
            layout = self._attempt(rng, places, lines)
            if layout is not None:
                return layout
        things = len(lines) + len(self.template.players)
        raise ValueError(
            f"template {self.template.name}: found no room for {things} players and objects at least {MIN_APART_M} m "
            "apart; make the world larger, draw more tiles of a place, or place fewer objects"
        )

    def _attempt(self, rng: np.random.Generator, places: dict[str, str], lines: list[ObjectLine]) -> Layout | None:
        # Fixed and named places first, so that what stands anywhere keeps away from them.
        wanted = [*self.template.players, *(line.place for line in lines)]
        points: list[Point | None] = [None] * len(wanted)
        used: set[tuple[int, int]] = set()
        for index, place in enumerate(wanted):
            if not place.is_anywhere:
                points[index] = self._named(rng, place, places, used)
                if points[index] is None:
                    return None
        players = len(self.template.players)
        tiles = self.home_tiles
        for index, place in enumerate(wanted):
            if index == players:
                tiles = self._reached_tiles([point for point in points[:players] if point])
            if place.is_anywhere:
                points[index] = self._anywhere(rng, tiles, [point for point in points if point])
                if points[index] is None:
                    return None
        found = tuple(point for point in points if point)
        return Layout(found[:players], found[players:])

    def _named(
        self, rng: np.random.Generator, place: Place, places: dict[str, str], used: set[tuple[int, int]]
    ) -> Point | None:
        if place.point is not None:
            x, y = place.point[0] + 1.0, place.point[1] + 1.0
            if max(x, y) >= self.tiles.shape[0] or self.tiles[int(x), int(y)] in (Tile.WALL, Tile.PIT):
                raise ValueError(
                    f"template {self.template.name}: `at {place.point[0]:g}, {place.point[1]:g}` is not on floor; "
                    "it is metres east and north of the inner south-west corner"
                )
            return x, y
        drawn = self.template.drawing.places
        free = [tile for name in place.names for tile in drawn[places.get(name, name)] if tile not in used]
        if not free:
            return None
        tile = free[int(rng.random() * len(free))]
        used.add(tile)
        return tile[0] + 0.5, tile[1] + 0.5

    def _reached_tiles(self, players: list[Point]) -> list[tuple[int, int]]:
        if self.is_one_region:
            return self.home_tiles
        reached = np.zeros(self.tiles.shape, np.bool_)
        for x, y in players:
            reached |= reachable(self.tiles, self.levels, int(x), int(y))
        return _plain_floor(self.tiles, reached)

    def _anywhere(self, rng: np.random.Generator, tiles: list[tuple[int, int]], others: list[Point]) -> Point | None:
        best, best_distance = None, MIN_APART_M
        for _ in range(CANDIDATES):
            if not tiles:
                return None
            i, j = tiles[int(rng.random() * len(tiles))]
            x, y = i + rng.random(), j + rng.random()
            if not self._has_clearance(x, y):
                continue
            distance = min([math.hypot(x - other_x, y - other_y) for other_x, other_y in others], default=math.inf)
            if distance >= self.template.apart_m:
                return x, y
            if distance >= best_distance:
                best, best_distance = (x, y), distance
        return best

    def _has_clearance(self, x: float, y: float) -> bool:
        ground = self.ground
        west, east = ground[int(x - WALL_CLEARANCE_M)], ground[int(x + WALL_CLEARANCE_M)]
        south, north = int(y - WALL_CLEARANCE_M), int(y + WALL_CLEARANCE_M)
        return ground[int(x)][int(y)] == west[south] == west[north] == east[south] == east[north]


def _plain_floor(tiles: np.ndarray, among: np.ndarray) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in np.argwhere((tiles == Tile.FLOOR) & among)]
