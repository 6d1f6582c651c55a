"""Tasks become rows of arrays, checked on the way.

What a task's objects hold is there as plain numbers (`tasks.numbers`); one compiled call checks those of all tasks,
another writes their records. A task is loaded for each episode, so this is part of what a step costs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from ada_sim import constants as c
from ada_sim.engine.packing import pack
from ada_sim.tasks.encoding import (
    NEGATED_HIDDEN,
    NEGATED_NO,
    NEGATED_YES,
    PREDICATE_FIELDS,
    PREDICATE_FIRST,
    PREDICATE_HIDDEN_FIRST,
    PREDICATE_HIDDEN_RULE,
    TRIGGERS,
)
from ada_sim.tasks.numbers import HEAD, HIDDEN_RULE, OBJECT, PLACE, PLAINLY, PLAYER, RULE_HEAD, SHOWN, numbers_of
from ada_sim.tasks.task import (
    MAX_RULES,
    MAX_SPAWNS,
    MAX_WORLD_SIZE,
    NUM_OBJECT_TYPES,
    PLAYER_1,
    Numbers,
    Predicate,
    Task,
    Tile,
)

ABOVE_LEVEL_M = np.zeros(len(Tile))  # the surface of each Tile, without a ramp's rise
ABOVE_LEVEL_M[Tile.WALL], ABOVE_LEVEL_M[Tile.PIT] = c.WALL_HEIGHT_M, -c.PIT_DEPTH_M
WALL = int(Tile.WALL)
TILES, HIGHEST_LEVEL = len(Tile), 127
_SPAWNS_AT = TRIGGERS * PREDICATE_FIELDS  # of a rule as it is shown

# What can be wrong, as `first_problem` tells: (task * KINDS + kind) * PROBLEMS + index; 0 if nothing is.
CONDITION, SPAWNS, GOAL, TYPE, OBJECT_OUTSIDE, OBJECT_IN_WALL, SPAWN_OUTSIDE, SPAWN_IN_WALL, TILE, LEVEL = range(1, 11)
KINDS, PROBLEMS = 16, 1024


class Listed(NamedTuple):
    """A task and its numbers."""

    task: Task
    players: int
    numbers: Numbers


def listed(task: Task, players: int) -> Listed:
    """Return the task with its numbers; raises ValueError if it has more of something than the simulator holds."""
    numbers = task.numbers
    if numbers is None or numbers.small[0] != players:
        check_counts(task, players)
        numbers = numbers_of(task, players)
    return Listed(task, players, numbers)


def load(records: np.ndarray, places: np.ndarray, tasks: Sequence[Listed]) -> None:
    """Write tasks to these places (int64 [N]) of `records` (TASK [B]); trials and seed of their episodes are left 0.

    Raises:
        ValueError: a task breaks a limit of the simulator; says which. No record has changed.
    """
    if not tasks:
        return
    numbers = np.frombuffer(b"".join([one.numbers.small for one in tasks]), np.uint8)
    bodies = np.frombuffer(b"".join([one.numbers.bodies for one in tasks]), np.float64)
    found = first_problem(numbers, bodies, len(tasks))
    if found:
        rest, index = divmod(found, PROBLEMS)
        n, kind = divmod(rest, KINDS)
        task = tasks[n].task
        raise ValueError(f"{name_of(task)}: {problem(task, tasks[n].players, kind, index)}")
    write_rows(records, records.view(np.uint8).reshape(len(records), -1), places, numbers, bodies)


@njit(cache=True, error_model="numpy")
def first_problem(numbers, bodies, count):  # type: ignore[no-untyped-def]
    """Return what is wrong with the first task of which anything is, or 0.

    Args:
        numbers: uint8, `small` of `count` tasks, one after the other (`tasks.numbers`).
        bodies: float64, likewise.
    """
    at = 0
    body = 0
    for n in range(count):
        head = at
        found, at = wrong_numbers(numbers, head)
        if found == 0:
            found = wrong_places(numbers, head, at, bodies, body)
        if found != 0:
            return n * KINDS * PROBLEMS + found
        at += 2 * numbers[head + 1] * np.int64(numbers[head + 1])  # tiles and levels
        body += PLACE * numbers[head] + OBJECT * numbers[head + 3]
    return 0


@njit(cache=True, error_model="numpy")
def write_rows(records, raw, places, numbers, bodies):  # type: ignore[no-untyped-def]
    """Write records; nothing is wrong with the tasks.

    Args:
        records: TASK [B].
        raw: the same memory as uint8 [B, bytes].
        places: int64 [N].
        numbers: uint8, `small` of N tasks, one after the other (`tasks.numbers`).
        bodies: float64, likewise.
    """
    at = 0
    body = 0
    for b in places:
        raw[b] = 0
        t = records[b]
        t.present = 1
        t.players = numbers[at]
        t.size = numbers[at + 1]
        t.num_rules = numbers[at + 2]
        t.num_objects = numbers[at + 3]
        t.trial_timesteps = 256 * numbers[at + 4] + numbers[at + 5]
        at += HEAD
        at = write_rules(t, numbers, at)
        for p in range(t.players):
            for field in range(4):
                t.goal[p, field] = numbers[at + field]
            show(t, p, numbers, at + 4)
            at += PLAYER
        body = write_places(t, bodies, body)
        at = write_world(t, numbers, at)
        pack(t)


@njit(error_model="numpy")
def wrong_numbers(numbers, at):  # type: ignore[no-untyped-def]
    """Return what is wrong with rules and goals of the task that begins at `at`, or 0, and where its world begins."""
    players = numbers[at]
    rules = numbers[at + 2]
    entities = PLAYER_1 + players
    at += HEAD
    for r in range(rules):
        if not are_known(numbers, at + 1, entities):
            return CONDITION * PROBLEMS + r, at
        spawns = numbers[at + 4]
        if spawns > MAX_SPAWNS:
            return SPAWNS * PROBLEMS + r, at
        for n in range(spawns):
            if numbers[at + RULE_HEAD + n] >= NUM_OBJECT_TYPES:
                return SPAWNS * PROBLEMS + r, at
        at += RULE_HEAD + spawns
    for p in range(players):
        if not are_known(numbers, at + 1, entities):
            return GOAL * PROBLEMS + p, at
        at += PLAYER
    return 0, at


@njit(error_model="numpy")
def are_known(numbers, at, entities):  # type: ignore[no-untyped-def]
    """Say whether the two arguments of a predicate are object types or players of the task."""
    return numbers[at] < entities and numbers[at + 1] < entities


@njit(error_model="numpy")
def wrong_places(numbers, head, world, bodies, body):  # type: ignore[no-untyped-def]
    """Return what is wrong with world, objects and spawns, or 0; numbers begin at `head`, the tiles at `world`."""
    players = numbers[head]
    size = numbers[head + 1]
    tiles = size * np.int64(size)
    for n in range(tiles):
        if numbers[world + n] >= TILES:
            return TILE * PROBLEMS + n
        if numbers[world + tiles + n] > HIGHEST_LEVEL:  # below 0
            return LEVEL * PROBLEMS + n
    at = body + PLACE * players
    for n in range(numbers[head + 3]):
        if not 0 <= bodies[at] < NUM_OBJECT_TYPES:
            return TYPE * PROBLEMS + n
        shape = int(bodies[at]) // 3
        x = bodies[at + 2]
        y = bodies[at + 3]
        if not is_inside(size, x, y, c.HALF[shape, 0], c.HALF[shape, 1]):
            return OBJECT_OUTSIDE * PROBLEMS + n
        if numbers[world + int(x) * size + int(y)] == WALL:
            return OBJECT_IN_WALL * PROBLEMS + n
        at += OBJECT
    for p in range(players):
        x = bodies[body + PLACE * p]
        y = bodies[body + PLACE * p + 1]
        if not is_inside(size, x, y, c.PLAYER_RADIUS_M, c.PLAYER_RADIUS_M):
            return SPAWN_OUTSIDE * PROBLEMS + p
        if numbers[world + int(x) * size + int(y)] == WALL:
            return SPAWN_IN_WALL * PROBLEMS + p
    return 0


@njit(error_model="numpy")
def write_rules(t, numbers, at):  # type: ignore[no-untyped-def]
    """Write the rules, whose numbers begin at `at`; return where they end."""
    for r in range(MAX_RULES):
        for field in range(t.rule.shape[1]):
            t.rule[r, field] = -1
    for r in range(t.num_rules):
        for field in range(4):
            t.rule[r, field] = numbers[at + field]
        spawns = numbers[at + 4]
        for n in range(spawns):
            t.rule[r, 4 + n] = numbers[at + RULE_HEAD + n]
        at += RULE_HEAD + spawns
    return at


@njit(error_model="numpy")
def show(t, p, numbers, at):  # type: ignore[no-untyped-def]
    """Write goal and rules as player p is shown them, as `encoding.encode` says; the goal hides nothing."""
    hiding = at + SHOWN
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
def write_places(t, bodies, at):  # type: ignore[no-untyped-def]
    """Write where players and objects begin, and what these are; return where the task's bodies end."""
    for p in range(t.players):
        t.spawn[p, 0] = bodies[at]
        t.spawn[p, 1] = bodies[at + 1]
        at += PLACE
    for n in range(t.num_objects):
        t.kind[n] = int(bodies[at])
        t.frozen[n] = bodies[at + 1] != 0
        t.place[n, 0] = bodies[at + 2]
        t.place[n, 1] = bodies[at + 3]
        at += OBJECT
    return at


@njit(error_model="numpy")
def is_inside(size, x, y, half_x, half_y):  # type: ignore[no-untyped-def]
    """Say whether a body at (x, y) fits between the border walls."""
    return (1 + half_x <= x <= size - 1 - half_x) and (1 + half_y <= y <= size - 1 - half_y)


@njit(error_model="numpy")
def write_world(t, numbers, at):  # type: ignore[no-untyped-def]
    """Write tiles and heights; the outermost tiles become walls that nothing gets over, as all beyond.

    The tiles' numbers begin at `at`, those of the levels follow; returns where they end.
    """
    last = t.size - 1
    tiles = t.size * t.size
    highest = 0
    for n in range(tiles):
        highest = max(highest, numbers[at + tiles + n])
    border = highest * c.LEVEL_HEIGHT_M + c.BORDER_HEIGHT_M
    for i in range(MAX_WORLD_SIZE):
        for j in range(MAX_WORLD_SIZE):
            if 0 < i < last and 0 < j < last:
                tile = numbers[at + i * t.size + j]
                t.tile[i, j] = tile
                t.top[i, j] = numbers[at + tiles + i * t.size + j] * c.LEVEL_HEIGHT_M + ABOVE_LEVEL_M[tile]
            else:
                t.tile[i, j] = WALL
                t.top[i, j] = border
    return at + 2 * tiles


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
    """Say what `first_problem` found: field, value and limit."""
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
    if kind in (TILE, LEVEL):
        field, most = ("tiles", TILES - 1) if kind == TILE else ("levels", HIGHEST_LEVEL)
        i, j = divmod(index, task.world.size)
        return f"world.{field}[{i}, {j}] is {getattr(task.world, field)[i, j]}, must be 0 to {most}"
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
