"""A task's world as characters, in the language of templates: what `world` reads, with players and objects on it."""

from ada_sim.tasks.task import InitialObject, Task, Tile
from ada_sim.tasks.words import type_name

_TILES = {
    Tile.WALL: "#",
    Tile.RAMP_NORTH: "^",
    Tile.RAMP_EAST: ">",
    Tile.RAMP_SOUTH: "v",
    Tile.RAMP_WEST: "<",
    Tile.PIT: "~",
}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn"


def text_map(task: Task) -> str:
    """Return the world, north up, with `@` (and `&`) for players, letters for objects, and a legend below."""
    size = task.world.size
    letters: dict[tuple[int, int], str] = {}
    legend: list[str] = []
    for letter, thing in zip(_LETTERS, task.objects, strict=False):
        letters[_tile(thing.x, thing.y)] = letter
        legend.append(f"{letter} {_object_name(thing)}")
    for mark, (x, y) in zip("@&", task.spawns, strict=False):
        letters[_tile(x, y)] = mark
        legend.append(f"{mark} player {'@&'.index(mark) + 1}")
    rows = ["".join(letters.get((i, j)) or _tile_mark(task, i, j) for i in range(size)) for j in range(size)]
    return "\n".join([*reversed(rows), "", *legend])


def _tile(x: float, y: float) -> tuple[int, int]:
    return int(x), int(y)


def _tile_mark(task: Task, i: int, j: int) -> str:
    tile = Tile(task.world.tiles[i, j])
    level = int(task.world.levels[i, j])
    return _TILES.get(tile) or (str(level) if level else ".")


def _object_name(thing: InitialObject) -> str:
    return type_name(thing.type) + (", frozen" if thing.frozen else "")
