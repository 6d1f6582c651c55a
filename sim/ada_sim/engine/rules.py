"""Production rules: when a condition becomes true its objects vanish and others appear at their place.

Rules are read in order each tick. A rule fires on the first pair of bodies, in order of slots, for which its condition
holds (negated: does not hold); at most once a tick. Objects that a rule made itself don't set it off again until its
condition has once not held for them; likewise a rule on players alone, which has no objects to use up.
"""

import math

from numba import njit

from ada_sim.constants import MAX_OBJECTS, NUM_KINDS
from ada_sim.engine.relations import HOLD, NEAR, TOUCHING, holds
from ada_sim.engine.spawning import appear, vanish
from ada_sim.tasks.task import PLAYER_1

AHEAD_M = 0.8  # where a rule on players alone puts its objects: this far ahead of the first player
PAIR = 64


@njit(cache=True)
def fire_rules(worlds, tasks, begin, end):  # type: ignore[no-untyped-def]
    """Read the production rules of each world in order and fire those whose condition became true."""
    for b in range(begin, end):
        if not worlds.active[b]:
            continue
        for r in range(tasks.num_rules[b]):
            first = tasks.rule[b, r, 1]
            second = tasks.rule[b, r, 2]
            # Most rules end here: one of their kinds is not in the world.
            if worlds.bodies_of[b, first] == 0 or worlds.bodies_of[b, second] == 0:
                continue
            relation = tasks.rule[b, r, 0]
            if relation == HOLD and not tasks.rule[b, r, 3] and first < PLAYER_1:
                continue
            consider(worlds, tasks, b, r, relation, first, second)


@njit(cache=True)
def consider(worlds, tasks, b, r, relation, first, second):  # type: ignore[no-untyped-def]
    """Fire rule r of world b if it is due."""
    wanted = tasks.rule[b, r, 3] == 0
    bit = 1 << r
    players_only = first >= PLAYER_1 and second >= PLAYER_1
    refresh_spent(worlds, tasks, b, bit, relation, first, second, wanted)
    pair = find_pair(worlds, tasks, b, relation, first, second, wanted, bit)
    if players_only:
        was = worlds.latched[b] & bit
        if pair < 0:
            worlds.latched[b] &= ~bit
        else:
            worlds.latched[b] |= bit
        if was:
            return
    if pair >= 0:
        fire(worlds, tasks, b, r, pair // PAIR, pair % PAIR)


@njit(cache=True)
def find_pair(worlds, tasks, b, relation, first, second, wanted, bit):  # type: ignore[no-untyped-def]
    """Return the first pair of these kinds, as i * 64 + j, for which the relation is as wanted, or -1.

    Bodies that have `bit` in `spent` are passed over.
    """
    symmetric = relation == TOUCHING or relation == NEAR
    for i in range(MAX_OBJECTS + worlds.yaw.shape[1]):
        if worlds.kind[b, i] != first or worlds.spent[b, i] & bit:
            continue
        start = i + 1 if symmetric and first == second else 0
        for j in range(start, MAX_OBJECTS + worlds.yaw.shape[1]):
            if worlds.kind[b, j] != second or j == i or worlds.spent[b, j] & bit:
                continue
            if holds(worlds, tasks, b, relation, i, j) == wanted:
                return i * PAIR + j
    return -1


@njit(cache=True)
def refresh_spent(worlds, tasks, b, bit, relation, first, second, wanted):  # type: ignore[no-untyped-def]
    """Forget `bit` for each body for which the condition no longer holds with any partner."""
    for k in range(worlds.used[b]):
        if worlds.kind[b, k] < 0 or not worlds.spent[b, k] & bit:
            continue
        still = False
        for other in range(MAX_OBJECTS + worlds.yaw.shape[1]):
            if other == k or still:
                continue
            if worlds.kind[b, k] == first and worlds.kind[b, other] == second:
                still = holds(worlds, tasks, b, relation, k, other) == wanted
            if not still and worlds.kind[b, k] == second and worlds.kind[b, other] == first:
                still = holds(worlds, tasks, b, relation, other, k) == wanted
        if not still:
            worlds.spent[b, k] &= ~bit


@njit(cache=True)
def fire(worlds, tasks, b, r, i, j):  # type: ignore[no-untyped-def]
    """Remove the objects of the pair and let the rule's spawns appear at their places, by turns."""
    first_is_object = i < MAX_OBJECTS
    second_is_object = j < MAX_OBJECTS
    ax, ay, az = worlds.position[b, i, 0], worlds.position[b, i, 1], worlds.position[b, i, 2]
    cx, cy, cz = worlds.position[b, j, 0], worlds.position[b, j, 1], worlds.position[b, j, 2]
    if first_is_object:
        vanish(worlds, b, i)
    if second_is_object:
        vanish(worlds, b, j)
    if not first_is_object and not second_is_object:
        yaw = worlds.yaw[b, i - MAX_OBJECTS]
        ax += AHEAD_M * math.cos(yaw)
        ay += AHEAD_M * math.sin(yaw)
    if not first_is_object and second_is_object:
        ax, ay, az = cx, cy, cz
    if not second_is_object:
        cx, cy, cz = ax, ay, az
    first = tasks.rule[b, r, 1]
    second = tasks.rule[b, r, 2]
    turn = 0
    for slot in range(4, tasks.rule.shape[2]):
        kind = tasks.rule[b, r, slot]
        if kind < 0 or kind >= NUM_KINDS:
            continue
        x = ax if turn % 2 == 0 else cx
        y = ay if turn % 2 == 0 else cy
        z = az if turn % 2 == 0 else cz
        turn += 1
        k = appear(worlds, tasks, b, kind, x, y, z)
        if k >= 0 and (kind == first or kind == second):
            worlds.spent[b, k] |= 1 << r
