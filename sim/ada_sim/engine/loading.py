"""A task becomes a row of arrays, checked on the way."""

import numpy as np

from ada_sim import constants as c
from ada_sim.engine.packing import pack_terrain
from ada_sim.engine.types import TASK
from ada_sim.tasks.encoding import encode
from ada_sim.tasks.task import (
    MAX_RULES,
    MAX_SPAWNS,
    MAX_WORLD_SIZE,
    NUM_OBJECT_TYPES,
    PLAYER_1,
    Predicate,
    ProductionRule,
    Task,
    Tile,
)

ABOVE_LEVEL_M = np.zeros(len(Tile))  # the surface of each Tile, without a ramp's rise
ABOVE_LEVEL_M[Tile.WALL], ABOVE_LEVEL_M[Tile.PIT] = c.WALL_HEIGHT_M, -c.PIT_DEPTH_M

HALF_M = [(float(half[0]), float(half[1])) for half in c.HALF]  # along x and y, by shape
WALL = int(Tile.WALL)


def task_row(task: Task, players: int) -> np.ndarray:
    """Return the task as one TASK record [1], its episode's trials and seed still unset.

    Raises:
        ValueError: the task breaks a limit of the simulator; says which.
    """
    check(task, players)
    rows = np.zeros(1, TASK)
    row = rows[0]
    row["present"] = 1
    row["players"] = players
    row["size"] = task.world.size
    fill_terrain(rows, task)
    count = len(task.objects)
    row["num_objects"] = count
    if count:
        row["kind"][:count] = [item.type for item in task.objects]
        row["place"][:count] = [(item.x, item.y) for item in task.objects]
        row["frozen"][:count] = [item.frozen for item in task.objects]
    for player in range(players):
        row["spawn"][player] = task.spawns[player]
        row["goal"][player] = predicate_fields(task.game.goals[player])
        row["shown_goal"][player], row["shown_rules"][player] = encode(task, player)
    row["rule"] = -1
    count = len(task.game.rules)
    row["num_rules"] = count
    if count:
        row["rule"][:count] = [rule_fields(rule) for rule in task.game.rules]
    row["trial_timesteps"] = task.trial_timesteps
    return rows


def rule_fields(rule: ProductionRule) -> tuple[int, ...]:
    """Return relation, first, second, negated, spawns (-1 for none)."""
    return *predicate_fields(rule.condition), *rule.spawns, *(-1,) * (MAX_SPAWNS - len(rule.spawns))


def predicate_fields(predicate: Predicate) -> tuple[int, int, int, int]:
    """Return relation, first, second, negated."""
    return int(predicate.relation), predicate.first, predicate.second, int(predicate.negated)


def fill_terrain(rows: np.ndarray, task: Task) -> None:
    """Write tiles and heights into the one record of `rows`; the outermost tiles are walls that nothing gets over."""
    n = task.world.size
    row = rows[0]
    tile, top = row["tile"], row["top"]
    tile[...] = WALL
    tile[1 : n - 1, 1 : n - 1] = task.world.tiles[1:-1, 1:-1]
    top[...] = int(task.world.levels.max()) * c.LEVEL_HEIGHT_M + c.BORDER_HEIGHT_M
    inner = tile[1 : n - 1, 1 : n - 1]
    top[1 : n - 1, 1 : n - 1] = task.world.levels[1:-1, 1:-1] * c.LEVEL_HEIGHT_M + ABOVE_LEVEL_M[inner]
    pack_terrain(rows, 0)


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
    entities = PLAYER_1 + players
    for index, rule in enumerate(task.game.rules):
        if not are_known(rule.condition, entities):
            raise ValueError(f"{name}: game.rules[{index}].condition: {unknown(rule.condition, players)}")
        spawns = rule.spawns
        if spawns and not (len(spawns) <= MAX_SPAWNS and min(spawns) >= 0 and max(spawns) < NUM_OBJECT_TYPES):
            raise ValueError(
                f"{name}: game.rules[{index}].spawns is {spawns}, must be at most {MAX_SPAWNS} object types"
            )
    for index, goal in enumerate(task.game.goals[:players]):
        if not are_known(goal, entities):
            raise ValueError(f"{name}: game.goals[{index}]: {unknown(goal, players)}")
    tiles = task.world.tiles.tolist()
    for index, item in enumerate(task.objects):
        if not 0 <= item.type < NUM_OBJECT_TYPES:
            raise ValueError(f"{name}: objects[{index}].type is {item.type}, must be 0 to {NUM_OBJECT_TYPES - 1}")
        problem = wrong_place(tiles, item.x, item.y, *HALF_M[item.type // 3])
        if problem:
            raise ValueError(f"{name}: objects[{index}] at ({item.x}, {item.y}) is {problem}")
    for index, (x, y) in enumerate(task.spawns[:players]):
        problem = wrong_place(tiles, x, y, c.PLAYER_RADIUS_M, c.PLAYER_RADIUS_M)
        if problem:
            raise ValueError(f"{name}: spawns[{index}] at ({x}, {y}) is {problem}")


def are_known(predicate: Predicate, entities: int) -> bool:
    """Say whether both arguments are object types or players of the task."""
    return 0 <= predicate.first < entities and 0 <= predicate.second < entities


def unknown(predicate: Predicate, players: int) -> str:
    """Say which argument is neither an object type nor a player of the task."""
    known = 0 <= predicate.first < PLAYER_1 + players
    entity = predicate.second if known else predicate.first
    return f"argument {entity} is neither an object type nor one of {players} players"


def wrong_place(tiles: list[list[int]], x: float, y: float, half_x: float, half_y: float) -> str | None:
    """Say what is wrong with a body's place, if anything: it must fit at (x, y) between the walls."""
    size = len(tiles)
    if not (1 + half_x <= x <= size - 1 - half_x and 1 + half_y <= y <= size - 1 - half_y):
        return f"not inside the border walls of a world of size {size}"
    return "inside a wall" if tiles[int(x)][int(y)] == WALL else None
