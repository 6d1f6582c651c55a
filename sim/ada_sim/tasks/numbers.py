"""A task as the engine reads it: plain numbers, small ones and places.

A task that was made by hand or from a template is listed by `numbers_of`. A generated one brings its numbers along:
`list_drawn` takes them from the arrays in which it was drawn, without the objects that are made for everybody else.
"""

from array import array
from collections.abc import Sequence
from operator import attrgetter

import numpy as np
from numba import njit

from ada_sim.constants import MAX_OBJECTS, MAX_PLAYERS
from ada_sim.tasks.encoding import NOTHING_HIDDEN, SHAPE_HIDDEN_FIRST, entities_shown
from ada_sim.tasks.games import (
    FIRST,
    FROZEN,
    HIDES_OBJECTS,
    HIDES_PREDICATES,
    HIDES_RULES,
    NEGATED,
    OBJECTS,
    RELATION,
    RULES,
    SECOND,
    SPAWN,
    SPAWNS,
    TYPE,
)
from ada_sim.tasks.task import MAX_RULES, MAX_SPAWNS, MAX_WORLD_SIZE, PLAYER_1, Hiding, Numbers, Task

# The small numbers, in order: `HEAD`, those of each rule, each player; tiles and levels of the world.
HEAD = 6  # players, size, rules, objects; timesteps of a trial in two parts
RULE_HEAD = 5  # relation, first, second, negated, how many spawns; those follow
GOAL = 4  # relation, first, second, negated
SHOWN = 2 * (PLAYER_1 + MAX_PLAYERS)  # shape and colour each entity is shown as in rules
PLAYER = GOAL + SHOWN + MAX_RULES  # the last: what is hidden of each rule
# The bodies, in order: those of each player, each object.
PLACE = 2  # x, y
OBJECT = 4  # type, frozen, x, y
NO_NUMBER = 255  # larger than any that is right
HIDDEN_RULE = 254  # of a rule's hiding: as a whole; else 0 for nothing, n for hidden predicate n - 1
MOST_SMALL = HEAD + MAX_RULES * (RULE_HEAD + MAX_SPAWNS) + MAX_PLAYERS * PLAYER + 2 * MAX_WORLD_SIZE**2
MOST_BODIES = MAX_PLAYERS * PLACE + MAX_OBJECTS * OBJECT

# Shape and colour that each player is shown of each entity where nothing is hidden.
PLAIN = tuple(
    tuple(number for pair in entities_shown(player, NOTHING_HIDDEN) for number in pair) for player in range(MAX_PLAYERS)
)
PLAINLY = np.array(PLAIN, np.int64)
_NO_HIDING = [0] * MAX_RULES

_predicate_numbers = attrgetter("relation", "first", "second", "negated")
_object_numbers = attrgetter("type", "frozen", "x", "y")


def numbers_of(task: Task, players: int) -> Numbers:
    """Return the task's numbers; `NO_NUMBER` for a small one that is none."""
    game, world = task.game, task.world
    small = [players, world.size, len(game.rules), len(task.objects), *divmod(task.trial_timesteps, 256)]
    for rule in game.rules:
        small += _predicate_numbers(rule.condition)
        small.append(len(rule.spawns))
        small += rule.spawns
    for player in range(players):
        hiding = game.hidings[player]
        small += _predicate_numbers(game.goals[player])
        small += _shown_as(player, hiding)
        small += _hiding_of_rules(hiding)
    try:
        listed = bytes(small)
    except ValueError:
        listed = bytes(number if 0 <= number < NO_NUMBER else NO_NUMBER for number in small)
    tiles, levels = world.tiles.astype(np.uint8, copy=False), world.levels.astype(np.int8, copy=False)
    bodies = [along for spawn in task.spawns[:players] for along in spawn]
    for item in task.objects:
        bodies += _object_numbers(item)
    return Numbers(listed + tiles.tobytes() + levels.tobytes(), array("d", bodies).tobytes())


def _shown_as(player: int, hiding: Hiding) -> Sequence[int]:
    """Return shape and colour as which each entity is shown in rules: `encoding.entities_shown`, in one row."""
    if not hiding.objects:
        return PLAIN[player]
    shown = list(PLAIN[player])
    for number, hidden in enumerate(hiding.objects):
        shown[2 * hidden : 2 * hidden + 2] = SHAPE_HIDDEN_FIRST + number, 0
    return shown


def _hiding_of_rules(hiding: Hiding) -> Sequence[int]:
    """Return what is hidden of each rule: see `HIDDEN_RULE`."""
    if not hiding.rules and not hiding.predicates:
        return _NO_HIDING
    hidden = dict(zip(hiding.predicates, range(1, MAX_RULES + 1), strict=False))
    hidden.update(dict.fromkeys(hiding.rules, HIDDEN_RULE))
    return [hidden.get(r, 0) for r in range(MAX_RULES)]


@njit(cache=True)
def list_drawn(  # type: ignore[no-untyped-def]
    small, bodies, players, size, timesteps, tiles, levels, goal, rules, counts, hidings, objects, spots
):
    """List a task from the arrays in which it was drawn (`games.GameBuffer`); return how many numbers of each kind.

    Args:
        small: uint8 [MOST_SMALL], written; bodies: float64 [MOST_BODIES], written.
        tiles, levels: [MAX_WORLD_SIZE, MAX_WORLD_SIZE], of which `size` are used.
        spots: int64 [players and objects, 2], the tiles that they stand on.
    """
    small[0] = players
    small[1] = size
    small[2] = counts[RULES]
    small[3] = counts[OBJECTS]
    small[4] = timesteps // 256
    small[5] = timesteps % 256
    at = HEAD
    for r in range(counts[RULES]):
        at = _list_predicate(small, at, rules[r])
        small[at] = rules[r, SPAWNS]
        for n in range(rules[r, SPAWNS]):
            small[at + 1 + n] = rules[r, SPAWN + n]
        at += 1 + rules[r, SPAWNS]
    for p in range(players):
        at = _list_predicate(small, at, goal)
        at = _list_hiding(small, at, p, hidings[p])
    for i in range(size):
        for j in range(size):
            small[at + i * size + j] = tiles[i, j]
            small[at + (size + i) * size + j] = levels[i, j]
    at += 2 * size * size
    body = 0
    for p in range(players):
        bodies[body] = spots[p, 0] + 0.5
        bodies[body + 1] = spots[p, 1] + 0.5
        body += PLACE
    for n in range(counts[OBJECTS]):
        bodies[body] = objects[n, TYPE]
        bodies[body + 1] = objects[n, FROZEN]
        bodies[body + 2] = spots[players + n, 0] + 0.5
        bodies[body + 3] = spots[players + n, 1] + 0.5
        body += OBJECT
    return at, body


@njit
def _list_predicate(small, at, row):  # type: ignore[no-untyped-def]
    small[at] = row[RELATION]
    small[at + 1] = row[FIRST]
    small[at + 2] = row[SECOND]
    small[at + 3] = row[NEGATED]
    return at + GOAL


@njit
def _list_hiding(small, at, player, hiding):  # type: ignore[no-untyped-def]
    """List how each entity is shown and what is hidden of each rule; `hiding` is [mechanism, count and parts]."""
    for n in range(SHOWN):
        small[at + n] = PLAINLY[player, n]
    for n in range(hiding[HIDES_OBJECTS, 0]):
        kind = hiding[HIDES_OBJECTS, 1 + n]
        small[at + 2 * kind] = SHAPE_HIDDEN_FIRST + n
        small[at + 2 * kind + 1] = 0
    at += SHOWN
    for r in range(MAX_RULES):
        small[at + r] = 0
    for n in range(hiding[HIDES_PREDICATES, 0]):
        small[at + hiding[HIDES_PREDICATES, 1 + n]] = n + 1
    for n in range(hiding[HIDES_RULES, 0]):
        small[at + hiding[HIDES_RULES, 1 + n]] = HIDDEN_RULE
    return at + MAX_RULES
