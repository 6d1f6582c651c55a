"""A task becomes a row of arrays, checked on the way."""

import numpy as np

from ada_sim import constants as c
from ada_sim.engine.terrain import DEPENDS, NORTH, OPEN, SHUT, WALL, WEST
from ada_sim.engine.types import TASK
from ada_sim.tasks.encoding import encode
from ada_sim.tasks.task import MAX_RULES, MAX_SPAWNS, MAX_WORLD_SIZE, NUM_OBJECT_TYPES, PLAYER_1, Predicate, Task, Tile


def task_row(task: Task, players: int) -> np.ndarray:
    """Return the task as one TASK record, its episode's trials and seed still unset.

    Raises:
        ValueError: the task breaks a limit of the simulator; says which.
    """
    check(task, players)
    row = np.zeros((), TASK)
    row["present"] = 1
    row["players"] = players
    row["size"] = task.world.size
    row["num_objects"] = len(task.objects)
    fill_terrain(row, task)
    for slot, item in enumerate(task.objects):
        row["kind"][slot] = item.type
        row["place"][slot] = item.x, item.y
        row["frozen"][slot] = item.frozen
    for player in range(players):
        row["spawn"][player] = task.spawns[player]
        row["goal"][player] = predicate_fields(task.game.goals[player])
        row["shown_goal"][player], row["shown_rules"][player] = encode(task, player)
    row["rule"] = -1
    row["num_rules"] = len(task.game.rules)
    for index, rule in enumerate(task.game.rules):
        row["rule"][index, :4] = predicate_fields(rule.condition)
        row["rule"][index, 4 : 4 + len(rule.spawns)] = rule.spawns
    row["trial_timesteps"] = task.trial_timesteps
    return row


def predicate_fields(predicate: Predicate) -> tuple[int, int, int, int]:
    """Return relation, first, second, negated."""
    return int(predicate.relation), predicate.first, predicate.second, int(predicate.negated)


def fill_terrain(row: np.ndarray, task: Task) -> None:
    """Write tiles and heights; the outermost tiles are walls that nothing gets over."""
    world = task.world
    n = world.size
    level = world.levels.astype(np.float64) * c.LEVEL_HEIGHT_M
    border = np.ones((n, n), np.bool_)
    border[1:-1, 1:-1] = False
    tile = np.where(border, int(Tile.WALL), world.tiles)
    top = level + np.where(tile == Tile.WALL, c.WALL_HEIGHT_M, 0.0) - np.where(tile == Tile.PIT, c.PIT_DEPTH_M, 0.0)
    edge = level.max() + c.BORDER_HEIGHT_M
    row["tile"] = int(Tile.WALL)
    row["top"] = edge
    row["tile"][:n, :n] = tile
    row["top"][:n, :n] = np.where(border, edge, top)
    pack_terrain(row, n)


def pack_terrain(row: np.ndarray, size: int) -> None:
    """Write what the engine reads of the terrain, `ways` and `cell`, from `tile` and `top`."""
    tile, top = row["tile"][:size, :size], row["top"][:size, :size].astype(np.float64)
    row["ways"][: size * size] = ways_between(tile, top).ravel()
    row["cell"][: size * size] = (tile + 8 * np.round(top / c.LEVEL_HEIGHT_M)).ravel()


def ways_between(tile: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Return for each tile whether one can walk to its neighbours: two bits each to the east, west, north and south.

    Args:
        tile: uint8 [size, size]; top: float64 [size, size]. The outermost tiles are walls.
    """
    ways = np.zeros(tile.shape, np.uint8)
    ramp = (tile >= NORTH) & (tile <= WEST)
    for shift, (di, dj) in ((0, (1, 0)), (2, (-1, 0)), (4, (0, 1)), (6, (0, -1))):
        beside, beside_top = (np.roll(array, (-di, -dj), (0, 1)) for array in (tile, top))
        way = np.where(beside_top > top + c.STEP_M, SHUT, OPEN)
        way[ramp | (beside >= NORTH) & (beside <= WEST)] = DEPENDS
        way[beside == WALL] = SHUT
        ways |= (way << shift).astype(np.uint8)
    return ways


def check(task: Task, players: int) -> None:
    """Raise ValueError, naming field and limit, if the simulator can't hold the task."""
    name = f"task {task.name!r}" if task.name else "task"
    size = task.world.size
    limits = (
        ("world.size", size, 4, MAX_WORLD_SIZE),
        ("objects", len(task.objects), 0, c.MAX_OBJECTS),
        ("game.rules", len(task.game.rules), 0, MAX_RULES),
        ("spawns", len(task.spawns), players, c.MAX_PLAYERS),
        ("game.goals", len(task.game.goals), players, c.MAX_PLAYERS),
        ("game.hidings", len(task.game.hidings), players, c.MAX_PLAYERS),
        ("trial_timesteps", task.trial_timesteps, 1, 10_000),
    )
    for field, value, low, high in limits:
        if not low <= value <= high:
            raise ValueError(f"{name}: {field} is {value}, must be {low} to {high}")
    for field, array in (("world.tiles", task.world.tiles), ("world.levels", task.world.levels)):
        if array.shape != (size, size):
            raise ValueError(f"{name}: {field} has shape {array.shape}, must be {(size, size)}")
    for index, rule in enumerate(task.game.rules):
        check_predicate(f"{name}: game.rules[{index}].condition", rule.condition, players)
        if len(rule.spawns) > MAX_SPAWNS or not all(0 <= spawn < NUM_OBJECT_TYPES for spawn in rule.spawns):
            raise ValueError(
                f"{name}: game.rules[{index}].spawns is {rule.spawns}, must be at most {MAX_SPAWNS} object types"
            )
    for index, goal in enumerate(task.game.goals[:players]):
        check_predicate(f"{name}: game.goals[{index}]", goal, players)
    for index, item in enumerate(task.objects):
        if not 0 <= item.type < NUM_OBJECT_TYPES:
            raise ValueError(f"{name}: objects[{index}].type is {item.type}, must be 0 to {NUM_OBJECT_TYPES - 1}")
        half = c.HALF[item.type // 3]
        check_place(f"{name}: objects[{index}]", task, item.x, item.y, half[0], half[1])
    for index, (x, y) in enumerate(task.spawns[:players]):
        check_place(f"{name}: spawns[{index}]", task, x, y, c.PLAYER_RADIUS_M, c.PLAYER_RADIUS_M)


def check_predicate(what: str, predicate: Predicate, players: int) -> None:
    """Raise ValueError unless both arguments are object types or players of the task."""
    for entity in (predicate.first, predicate.second):
        if not 0 <= entity < PLAYER_1 + players:
            raise ValueError(f"{what}: argument {entity} is neither an object type nor one of {players} players")


def check_place(what: str, task: Task, x: float, y: float, half_x: float, half_y: float) -> None:
    """Raise ValueError unless a body fits at (x, y) between the walls."""
    size = task.world.size
    if not (1 + half_x <= x <= size - 1 - half_x and 1 + half_y <= y <= size - 1 - half_y):
        raise ValueError(f"{what} at ({x}, {y}) is not inside the border walls of a world of size {size}")
    if task.world.tiles[int(x), int(y)] == Tile.WALL:
        raise ValueError(f"{what} at ({x}, {y}) is inside a wall")
