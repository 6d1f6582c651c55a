"""Production rules: when a condition becomes true its objects vanish and others appear at their place.

Rules are read in order each tick. A rule fires on the first pair of bodies, in order of slots, for which its condition
holds (negated: does not hold); at most once a tick. Objects that a rule made itself don't set it off again until its
condition has once not held for them; likewise a rule on players alone, which has no objects to use up.
"""

import math

import numpy as np
from numba import njit

from ada_sim.constants import FIRST_OBJECT, MAX_SPEED_M_S, NUM_KINDS, TICK_S
from ada_sim.engine.bits import lowest
from ada_sim.engine.bodies import OBJECTS
from ada_sim.engine.relations import HOLD, NEAR, SEE, TOUCHING, holds
from ada_sim.engine.spawning import appear, vanish
from ada_sim.engine.terrain import FAR
from ada_sim.tasks.task import PLAYER_1

AHEAD_M = 0.8  # where a rule on players alone puts its objects: this far ahead of the first player
PAIR = 64
CLOSING_M = 2 * MAX_SPEED_M_S * TICK_S  # how much nearer two bodies come along x or y in a tick, at most
NEVER = 1 << 40
EVERYONE = -1


@njit(error_model="numpy")
def list_possible(w, t):  # type: ignore[no-untyped-def]
    """Work out which rules' kinds are in the world: most rules' are not, and are passed over until that changes."""
    w.possible = 0
    for r in range(t.num_rules):
        first = t.rule[r, 1]
        never = t.rule[r, 0] == HOLD and not t.rule[r, 3] and first < PLAYER_1
        if w.bodies_of[first] != 0 and w.bodies_of[t.rule[r, 2]] != 0 and not never:
            w.possible |= 1 << r


@njit(error_model="numpy")
def fire_rules(w, t):  # type: ignore[no-untyped-def]
    """Read the production rules of a world in order and fire those whose condition became true.

    A rule that was not due is read again when one of the bodies that it watches has moved; one that waits for two
    bodies to come close, not before they can have done so.
    """
    todo = w.possible
    while todo:
        r = lowest(todo)
        bit = 1 << r
        if not w.settled & bit or w.watch[r] & w.jumped:
            consider(w, t, r)
        elif w.late & bit or w.watch[r] & w.moved:
            if w.tick >= w.due[r]:
                consider(w, t, r)
            else:
                w.late |= bit
        todo = w.possible & (-2 << r)  # read anew: a rule that fired changes it
    w.moved = 0
    w.jumped = 0
    w.tick += 1


@njit(error_model="numpy")
def consider(w, t, r):  # type: ignore[no-untyped-def]
    """Fire rule r if it is due, or remember the motion of which bodies can make it due, and when."""
    relation = t.rule[r, 0]
    first = t.rule[r, 1]
    second = t.rule[r, 2]
    wanted = t.rule[r, 3] == 0
    bit = 1 << r
    w.watch[r] = w.bodies_of[first] | w.bodies_of[second]
    w.due[r] = 0
    if w.spending & bit:
        refresh_spent(w, t, bit, relation, first, second, wanted)
    pair = find_pair(w, t, relation, first, second, wanted, bit)
    w.settled |= bit
    w.late &= ~bit
    if relation == SEE:
        w.watch[r] |= w.view_hidden_by if wanted and not w.spending & bit else EVERYONE
    elif pair < 0 and wanted and not w.spending & bit:
        w.due[r] = w.tick + (NEVER if relation == HOLD else np.int64(w.slack_m * (1.0 / CLOSING_M)))
    if first >= PLAYER_1 and second >= PLAYER_1:
        was = w.latched & bit
        if pair < 0:
            w.latched &= ~bit
        else:
            w.latched |= bit
        if was:
            return
    if pair >= 0:
        fire(w, t, r, pair // PAIR, pair % PAIR)
        w.settled = 0
        list_possible(w, t)


@njit(error_model="numpy")
def find_pair(w, t, relation, first, second, wanted, bit):  # type: ignore[no-untyped-def]
    """Return the first pair of these kinds, as i * 64 + j, for which the relation is as wanted, or -1.

    Bodies that have `bit` in `spent` are passed over. Leaves in `view_hidden_by` which bodies stand in lines of sight,
    and in `slack_m` by how much pairs are too far from one another, at least.
    """
    w.view_hidden_by = 0
    w.slack_m = FAR
    if relation == HOLD and wanted:
        return held_pair(w, t, first, second, bit)
    symmetric = relation in (TOUCHING, NEAR) and first == second
    firsts = w.bodies_of[first]
    while firsts:
        i = lowest(firsts)
        firsts &= firsts - 1
        if w.spent[i] & bit:
            continue
        seconds = w.bodies_of[second] & ~(1 << i)
        if symmetric:
            seconds &= -2 << i
        while seconds:
            j = lowest(seconds)
            seconds &= seconds - 1
            if not w.spent[j] & bit and holds(w, t, relation, i, j) == wanted:
                return i * PAIR + j
    return -1


@njit(error_model="numpy")
def held_pair(w, t, first, second, bit):  # type: ignore[no-untyped-def]
    """Return the player of kind `first` and the object of kind `second` that it holds, as `find_pair` does."""
    p = first - PLAYER_1
    if p < 0 or p >= t.players or w.held[p] < 0 or not w.bodies_of[second] >> w.held[p] & 1:
        return -1
    return -1 if w.spent[w.held[p]] & bit else p * PAIR + w.held[p]


@njit(error_model="numpy")
def refresh_spent(w, t, bit, relation, first, second, wanted):  # type: ignore[no-untyped-def]
    """Forget `bit` for each body for which the condition no longer holds with any partner."""
    w.spending &= ~bit
    bodies = w.bodies & OBJECTS
    while bodies:
        k = lowest(bodies)
        bodies &= bodies - 1
        if not w.spent[k] & bit:
            continue
        still = False
        others = (w.bodies_of[first] | w.bodies_of[second]) & ~(1 << k)
        while others and not still:
            other = lowest(others)
            others &= others - 1
            if w.kind[k] == first and w.kind[other] == second:
                still = holds(w, t, relation, k, other) == wanted
            if not still and w.kind[k] == second and w.kind[other] == first:
                still = holds(w, t, relation, other, k) == wanted
        if still:
            w.spending |= bit
        else:
            w.spent[k] &= ~bit


@njit(error_model="numpy")
def fire(w, t, r, i, j):  # type: ignore[no-untyped-def]
    """Remove the objects of the pair and let the rule's spawns appear at their places, by turns."""
    first_is_object = i >= FIRST_OBJECT
    second_is_object = j >= FIRST_OBJECT
    ax, ay, az = w.position[i, 0], w.position[i, 1], w.position[i, 2]
    cx, cy, cz = w.position[j, 0], w.position[j, 1], w.position[j, 2]
    if first_is_object:
        vanish(w, t, i)
    if second_is_object:
        vanish(w, t, j)
    if not first_is_object and not second_is_object:
        yaw = w.yaw[i]
        ax += AHEAD_M * math.cos(yaw)
        ay += AHEAD_M * math.sin(yaw)
    if not first_is_object and second_is_object:
        ax, ay, az = cx, cy, cz
    if not second_is_object:
        cx, cy, cz = ax, ay, az
    first = t.rule[r, 1]
    second = t.rule[r, 2]
    turn = 0
    for slot in range(4, t.rule.shape[1]):
        kind = t.rule[r, slot]
        if kind < 0 or kind >= NUM_KINDS:
            continue
        x = ax if turn % 2 == 0 else cx
        y = ay if turn % 2 == 0 else cy
        z = az if turn % 2 == 0 else cz
        turn += 1
        k = appear(w, t, kind, x, y, z)
        if k >= 0 and kind in (first, second):
            w.spent[k] |= 1 << r
            w.spending |= 1 << r
