"""A task becomes a row of arrays, checked on the way.

Python only lists what the task's objects hold, as numbers; one compiled call checks them and writes the record.
A task is loaded for each episode, so this is part of what a step costs.
"""

from array import array
from collections.abc import Sequence

import numpy as np
from numba import njit

from ada_sim import constants as c
from ada_sim.engine.packing import pack
from ada_sim.engine.types import TASK
from ada_sim.tasks.encoding import (
    NEGATED_HIDDEN,
    NEGATED_NO,
    NEGATED_YES,
    NOTHING_HIDDEN,
    PREDICATE_FIELDS,
    PREDICATE_FIRST,
    PREDICATE_HIDDEN_FIRST,
    PREDICATE_HIDDEN_RULE,
    SHAPE_HIDDEN_FIRST,
    TRIGGERS,
    entities_shown,
)
from ada_sim.tasks.task import (
    MAX_RULES,
    MAX_SPAWNS,
    MAX_WORLD_SIZE,
    NUM_OBJECT_TYPES,
    PLAYER_1,
    Hiding,
    Predicate,
    Task,
    Tile,
)

ABOVE_LEVEL_M = np.zeros(len(Tile))  # the surface of each Tile, without a ramp's rise
ABOVE_LEVEL_M[Tile.WALL], ABOVE_LEVEL_M[Tile.PIT] = c.WALL_HEIGHT_M, -c.PIT_DEPTH_M
WALL = int(Tile.WALL)

# The small numbers of a task, in order: `HEAD`, those of each rule, each player.
HEAD = 4  # players, size, rules, objects
RULE = 5  # relation, first, second, negated, how many spawns; those follow
PLAYER = (
    4 + 2 * (PLAYER_1 + c.MAX_PLAYERS) + MAX_RULES
)  # goal; shape and colour each entity is shown as; hiding of rules
# Its bodies, in order: those of each player, each object.
SPAWN = 2  # x, y
OBJECT = 4  # type, frozen, x, y
NO_NUMBER = 255  # larger than any that is right
HIDDEN_RULE = 254  # of a rule's hiding: as a whole; else 0 for nothing, n for hidden predicate n - 1
_NO_HIDING = [0] * MAX_RULES
_SPAWNS_AT = TRIGGERS * PREDICATE_FIELDS  # of a rule as it is shown


# Shape and colour that each player is shown of each entity where nothing is hidden.
PLAIN = tuple(
    tuple(number for pair in entities_shown(player, NOTHING_HIDDEN) for number in pair)
    for player in range(c.MAX_PLAYERS)
)
PLAINLY = np.array(PLAIN, np.int64)  # the goal hides nothing

# What can be wrong, as `fill_row` tells: kind * PROBLEMS + index; 0 if nothing is.
CONDITION, SPAWNS, GOAL, TYPE, OBJECT_OUTSIDE, OBJECT_IN_WALL, SPAWN_OUTSIDE, SPAWN_IN_WALL = range(1, 9)
PROBLEMS = 64


def task_row(task: Task, players: int) -> np.ndarray:
    """Return the task as one TASK record [1], its episode's trials and seed still unset.

    Raises:
        ValueError: the task breaks a limit of the simulator; says which.
    """
    check_counts(task, players)
    size = task.world.size
    rows = np.zeros(1, TASK)
    rows["tile"][0, :size, :size] = task.world.tiles
    rows["top"][0, :size, :size] = task.world.levels  # to be heights when the record is filled
    found = fill_row(rows, task.trial_timesteps, numbers_of(task, players), bodies_of(task, players))
    if found:
        raise ValueError(f"{name_of(task)}: {problem(task, players, *divmod(found, PROBLEMS))}")
    return rows


def numbers_of(task: Task, players: int) -> np.ndarray:
    """Return the task's small numbers, uint8, in the order that `fill_row` reads them; `NO_NUMBER` for what is none."""
    game = task.game
    numbers = [players, task.world.size, len(game.rules), len(task.objects)]
    for rule in game.rules:
        condition, spawns = rule.condition, rule.spawns
        numbers += (
            condition.relation,
            condition.first,
            condition.second,
            condition.negated,
            len(spawns),
            *spawns,
        )
    for player, (goal, hiding) in enumerate(zip(game.goals[:players], game.hidings[:players], strict=True)):
        numbers += (goal.relation, goal.first, goal.second, goal.negated)
        numbers += shown_as(player, hiding)
        numbers += hiding_of_rules(hiding)
    try:
        listed = bytes(numbers)
    except ValueError:
        listed = bytes(number if 0 <= number < NO_NUMBER else NO_NUMBER for number in numbers)
    return np.frombuffer(listed, np.uint8)


def shown_as(player: int, hiding: Hiding) -> Sequence[int]:
    """Return shape and colour as which each entity is shown in rules: `encoding.entities_shown`, in one row."""
    if not hiding.objects:
        return PLAIN[player]
    shown = list(PLAIN[player])
    for number, hidden in enumerate(hiding.objects):
        shown[2 * hidden : 2 * hidden + 2] = SHAPE_HIDDEN_FIRST + number, 0
    return shown


def hiding_of_rules(hiding: Hiding) -> Sequence[int]:
    """Return what is hidden of each rule: see `HIDDEN_RULE`."""
    if not hiding.rules and not hiding.predicates:
        return _NO_HIDING
    hidden = dict(zip(hiding.predicates, range(1, MAX_RULES + 1), strict=False))
    hidden.update(dict.fromkeys(hiding.rules, HIDDEN_RULE))
    return [hidden.get(r, 0) for r in range(MAX_RULES)]


def bodies_of(task: Task, players: int) -> np.ndarray:
    """Return where players and objects begin and what the objects are, float64, as `fill_places` reads it."""
    bodies = [along for spawn in task.spawns[:players] for along in spawn]
    for item in task.objects:
        bodies += (item.type, item.frozen, item.x, item.y)
    return np.frombuffer(array("d", bodies), np.float64)


@njit(cache=True, error_model="numpy")
def fill_row(rows, trial_timesteps, numbers, bodies):  # type: ignore[no-untyped-def]
    """Write the one record of `rows`, whose tiles and levels are in place, or return what is wrong with the task.

    Args:
        rows: TASK [1].
        numbers: uint8, as `numbers_of` lists them.
        bodies: float64, as `bodies_of` lists them.
    """
    t = rows[0]
    t.present = 1
    t.players = numbers[0]
    t.size = numbers[1]
    t.num_rules = numbers[2]
    t.num_objects = numbers[3]
    t.trial_timesteps = trial_timesteps
    at = HEAD
    for r in range(MAX_RULES):
        for field in range(t.rule.shape[1]):
            t.rule[r, field] = -1
    entities = PLAYER_1 + t.players
    for r in range(t.num_rules):
        if not are_known(numbers, at + 1, entities):
            return CONDITION * PROBLEMS + r
        if numbers[at + 4] > MAX_SPAWNS:
            return SPAWNS * PROBLEMS + r
        for field in range(4):
            t.rule[r, field] = numbers[at + field]
        for n in range(numbers[at + 4]):
            kind = numbers[at + RULE + n]
            if kind >= NUM_OBJECT_TYPES:
                return SPAWNS * PROBLEMS + r
            t.rule[r, 4 + n] = kind
        at += RULE + numbers[at + 4]
    for p in range(t.players):
        if not are_known(numbers, at + 1, entities):
            return GOAL * PROBLEMS + p
        for field in range(4):
            t.goal[p, field] = numbers[at + field]
        show(t, p, numbers, at + 4)
        at += PLAYER
    found = fill_places(t, bodies)
    if found == 0:
        fill_heights(t)
        pack(t)
    return found


@njit(error_model="numpy")
def are_known(numbers, at, entities):  # type: ignore[no-untyped-def]
    """Say whether the two arguments of a predicate are object types or players of the task."""
    return numbers[at] < entities and numbers[at + 1] < entities


@njit(error_model="numpy")
def show(t, p, numbers, at):  # type: ignore[no-untyped-def]
    """Write goal and rules as player p is shown them, as `encoding.encode` says; the goal hides nothing."""
    hiding = at + 2 * (PLAYER_1 + c.MAX_PLAYERS)
    goal = t.goal[p]
    t.shown_goal[p, 0] = NEGATED_YES if goal[3] else NEGATED_NO
    t.shown_goal[p, 1] = PREDICATE_FIRST + goal[0]
    for n in range(2):
        t.shown_goal[p, 2 + 2 * n] = PLAINLY[p, 2 * goal[1 + n]]
        t.shown_goal[p, 3 + 2 * n] = PLAINLY[p, 2 * goal[1 + n] + 1]
    for r in range(t.num_rules):
        rule = t.rule[r]
        shown = t.shown_rules[p, r]
        hidden = numbers[hiding + r]
        if hidden == HIDDEN_RULE:
            shown[1] = PREDICATE_HIDDEN_RULE
            continue
        if hidden:
            shown[0] = NEGATED_HIDDEN
            shown[1] = PREDICATE_HIDDEN_FIRST + hidden - 1
        else:
            shown[0] = NEGATED_YES if rule[3] else NEGATED_NO
            shown[1] = PREDICATE_FIRST + rule[0]
        for n in range(2):
            shown[2 + 2 * n] = numbers[at + 2 * rule[1 + n]]
            shown[3 + 2 * n] = numbers[at + 2 * rule[1 + n] + 1]
        for n in range(MAX_SPAWNS):
            if rule[4 + n] >= 0:
                shown[_SPAWNS_AT + 2 * n] = numbers[at + 2 * rule[4 + n]]
                shown[_SPAWNS_AT + 2 * n + 1] = numbers[at + 2 * rule[4 + n] + 1]


@njit(error_model="numpy")
def fill_places(t, bodies):  # type: ignore[no-untyped-def]
    """Write where players and objects begin, and what these are, or return what is wrong with that."""
    at = SPAWN * t.players
    for n in range(t.num_objects):
        if not 0 <= bodies[at] < NUM_OBJECT_TYPES:
            return TYPE * PROBLEMS + n
        kind = int(bodies[at])
        x = bodies[at + 2]
        y = bodies[at + 3]
        shape = kind // 3
        if not is_inside(t, x, y, c.HALF[shape, 0], c.HALF[shape, 1]):
            return OBJECT_OUTSIDE * PROBLEMS + n
        if t.tile[int(x), int(y)] == WALL:
            return OBJECT_IN_WALL * PROBLEMS + n
        t.kind[n] = kind
        t.frozen[n] = bodies[at + 1] != 0
        t.place[n, 0] = x
        t.place[n, 1] = y
        at += OBJECT
    for p in range(t.players):
        x = bodies[SPAWN * p]
        y = bodies[SPAWN * p + 1]
        if not is_inside(t, x, y, c.PLAYER_RADIUS_M, c.PLAYER_RADIUS_M):
            return SPAWN_OUTSIDE * PROBLEMS + p
        if t.tile[int(x), int(y)] == WALL:
            return SPAWN_IN_WALL * PROBLEMS + p
        t.spawn[p, 0] = x
        t.spawn[p, 1] = y
    return 0


@njit(error_model="numpy")
def is_inside(t, x, y, half_x, half_y):  # type: ignore[no-untyped-def]
    """Say whether a body at (x, y) fits between the border walls."""
    return (1 + half_x <= x <= t.size - 1 - half_x) and (1 + half_y <= y <= t.size - 1 - half_y)


@njit(error_model="numpy")
def fill_heights(t):  # type: ignore[no-untyped-def]
    """Turn levels into heights of surfaces; the outermost tiles become walls that nothing gets over, as all beyond."""
    last = t.size - 1
    highest = t.top[0, 0]
    for i in range(t.size):
        for j in range(t.size):
            highest = max(highest, t.top[i, j])
    border = highest * c.LEVEL_HEIGHT_M + c.BORDER_HEIGHT_M
    for i in range(MAX_WORLD_SIZE):
        for j in range(MAX_WORLD_SIZE):
            if 0 < i < last and 0 < j < last:
                t.top[i, j] = t.top[i, j] * c.LEVEL_HEIGHT_M + ABOVE_LEVEL_M[t.tile[i, j]]
            else:
                t.tile[i, j] = WALL
                t.top[i, j] = border


def check_counts(task: Task, players: int) -> None:
    """Raise ValueError, naming field and limit, if the task has more or less of something than the simulator holds."""
    size, game, timesteps = task.world.size, task.game, task.trial_timesteps
    limits = (
        ("world.size", size, 4, MAX_WORLD_SIZE),
        ("objects", len(task.objects), 0, c.MAX_OBJECTS),
        ("game.rules", len(game.rules), 0, MAX_RULES),
        ("spawns", len(task.spawns), players, c.MAX_PLAYERS),
        ("game.goals", len(game.goals), players, c.MAX_PLAYERS),
        ("game.hidings", len(game.hidings), players, c.MAX_PLAYERS),
        ("trial_timesteps", timesteps, 1, 10_000),
    )
    for field, value, low, high in limits:
        if not low <= value <= high:
            raise ValueError(f"{name_of(task)}: {field} is {value}, must be {low} to {high}")
    for field, values in (("world.tiles", task.world.tiles), ("world.levels", task.world.levels)):
        if values.shape != (size, size):
            raise ValueError(f"{name_of(task)}: {field} has shape {values.shape}, must be {(size, size)}")


def name_of(task: Task) -> str:
    """Return what errors call the task."""
    return f"task {task.name!r}" if task.name else "task"


def problem(task: Task, players: int, kind: int, index: int) -> str:
    """Say what `fill_row` found: field, value and limit."""
    inside = f"not inside the border walls of a world of size {task.world.size}"
    if kind == CONDITION:
        return f"game.rules[{index}].condition: {unknown(task.game.rules[index].condition, players)}"
    if kind == SPAWNS:
        spawns = task.game.rules[index].spawns
        return f"game.rules[{index}].spawns is {spawns}, must be at most {MAX_SPAWNS} object types"
    if kind == GOAL:
        return f"game.goals[{index}]: {unknown(task.game.goals[index], players)}"
    if kind == TYPE:
        return f"objects[{index}].type is {task.objects[index].type}, must be 0 to {NUM_OBJECT_TYPES - 1}"
    if kind in (OBJECT_OUTSIDE, OBJECT_IN_WALL):
        item = task.objects[index]
        return f"objects[{index}] at ({item.x}, {item.y}) is {inside if kind == OBJECT_OUTSIDE else 'inside a wall'}"
    x, y = task.spawns[index]
    return f"spawns[{index}] at ({x}, {y}) is {inside if kind == SPAWN_OUTSIDE else 'inside a wall'}"


def unknown(predicate: Predicate, players: int) -> str:
    """Say which argument is neither an object type nor a player of the task."""
    known = 0 <= predicate.first < PLAYER_1 + players
    entity = predicate.second if known else predicate.first
    return f"argument {entity} is neither an object type nor one of {players} players"
