"""Generated games: a chain of production rules built backwards from the goal, distractors, dead ends, hiding.

The recipe is AdA's (appendix A.2); what it leaves open is decided here so that the pool's means come close to AdA's
(docs/tasks.md lists both). A game is solvable by construction: every type of the chain is used by one rule only, each
rule yields an input of the next, and a dead end is left out where nobody could help firing it (`_dead_end_is_fair`).

Kernels write into the arrays of a `GameBuffer`; entities are object types or players as in `task`.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from ada_sim.tasks.random import below, mix, uniform
from ada_sim.tasks.task import MAX_RULES, MAX_SPAWNS, NUM_OBJECT_TYPES, PLAYER_1, PLAYER_2, Relation

HELD_OUT_ONE_IN = 8  # by hash: one in so many games is never seen in training
MAX_INITIAL_OBJECTS = 28

# Chances that AdA does not state, chosen so that the means agree with its table.
GOAL_NEGATED = 0.29
RULE_NEGATED = 0.08
PLAYER_TAKES_PART = 0.3  # a player is the first argument
INPUT_IS_INITIAL = 0.85  # of two objects, one is there from the beginning
BY_PRODUCT = 0.2
DEAD_END_TAKES_NEEDED = 0.47
DEAD_END_TAKES_PLAYER = 0.15
DEAD_END_TRIES = 3

_TOUCHING, _NEAR, _HOLD, _SEE = int(Relation.TOUCHING), int(Relation.NEAR), int(Relation.HOLD), int(Relation.SEE)

# Columns of `rules`, `objects` and places of `counts`.
NEGATED, RELATION, FIRST, SECOND, SPAWNS, SPAWN = 0, 1, 2, 3, 4, 5
TYPE, NEEDED, FROZEN = 0, 1, 2
RULES, OBJECTS, DISTRACTOR_TYPES, FREE = 0, 1, 2, 3
HIDES_RULES, HIDES_OBJECTS, HIDES_PREDICATES = 0, 1, 2


def _ints(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


@dataclass(frozen=True)
class GameBuffer:
    """One drawn game as numbers."""

    goal: np.ndarray = field(default_factory=lambda: _ints(4))  # negated, relation, first, second
    rules: np.ndarray = field(default_factory=lambda: _ints(MAX_RULES, SPAWN + MAX_SPAWNS))
    chain: np.ndarray = field(default_factory=lambda: _ints(MAX_RULES))  # position in the chain from 1; 0: dead end
    objects: np.ndarray = field(default_factory=lambda: _ints(MAX_INITIAL_OBJECTS, 3))
    hidings: np.ndarray = field(
        default_factory=lambda: _ints(2, 3, 1 + MAX_RULES)
    )  # player, mechanism, count and parts
    counts: np.ndarray = field(default_factory=lambda: _ints(4))
    types: np.ndarray = field(
        default_factory=lambda: _ints(NUM_OBJECT_TYPES)
    )  # the shuffled types, used from the front


@njit(cache=True)
def _shuffle(state, values, count):  # type: ignore[no-untyped-def]
    for i in range(count - 1, 0, -1):
        j = below(state, i + 1)
        values[i], values[j] = values[j], values[i]


@njit(cache=True)
def _draw_predicate(state, target, types, counts, may_pair, negated_chance, hold_negates):  # type: ignore[no-untyped-def]
    """Draw a predicate over fresh types into `target` [:4]."""
    relation = below(state, 4)
    target[RELATION] = relation
    target[NEGATED] = uniform(state) < negated_chance and (hold_negates or relation != _HOLD)
    if relation == _HOLD or not may_pair or uniform(state) < PLAYER_TAKES_PART:
        target[FIRST] = PLAYER_1
    else:
        target[FIRST] = types[counts[FREE]]
        counts[FREE] += 1
    target[SECOND] = types[counts[FREE]]
    counts[FREE] += 1


@njit(cache=True)
def _add_object(objects, counts, kind, needed):  # type: ignore[no-untyped-def]
    if counts[OBJECTS] < MAX_INITIAL_OBJECTS:
        objects[counts[OBJECTS], TYPE] = kind
        objects[counts[OBJECTS], NEEDED] = needed
        objects[counts[OBJECTS], FROZEN] = 0
        counts[OBJECTS] += 1


@njit(cache=True)
def _draw_chain(state, length, goal, rules, chain, objects, counts, types):  # type: ignore[no-untyped-def]
    """Draw the goal and, backwards, the rules that yield its objects; what no rule yields is there initially."""
    reserved = 1  # one type at least stays for distractors
    _draw_predicate(state, goal, types, counts, True, GOAL_NEGATED, True)
    first, second = goal[FIRST], goal[SECOND]
    for position in range(length, 0, -1):
        rule = rules[position - 1]
        chain[position - 1] = position
        rule[SPAWNS] = 0
        if first < PLAYER_1:
            if uniform(state) < INPUT_IS_INITIAL:
                _add_object(objects, counts, first, 1)
            else:
                rule[SPAWN] = first
                rule[SPAWNS] = 1
        rule[SPAWN + rule[SPAWNS]] = second
        rule[SPAWNS] += 1
        left = NUM_OBJECT_TYPES - counts[FREE] - reserved
        _draw_predicate(state, rule, types, counts, left - 2 >= position - 1, RULE_NEGATED, False)
        first, second = rule[FIRST], rule[SECOND]
    counts[RULES] = length
    if first < PLAYER_1:
        _add_object(objects, counts, first, 1)
    _add_object(objects, counts, second, 1)


@njit(cache=True)
def _draw_distractors(state, number, length, rules, objects, counts, types):  # type: ignore[no-untyped-def]
    """Draw initial distractors, of types that neither chain nor goal uses, and by-products of the chain's rules."""
    free = NUM_OBJECT_TYPES - counts[FREE]
    counts[DISTRACTOR_TYPES] = free
    for _ in range(number):
        _add_object(objects, counts, types[counts[FREE] + below(state, free)], 0)
    for index in range(length):
        if uniform(state) < BY_PRODUCT and rules[index, SPAWNS] < MAX_SPAWNS:
            rules[index, SPAWN + rules[index, SPAWNS]] = types[counts[FREE] + below(state, free)]
            rules[index, SPAWNS] += 1


@njit(cache=True)
def _spawned_by(rules, length, kind):  # type: ignore[no-untyped-def]
    """Return the rule of the chain that yields `kind`, or -1."""
    for index in range(length):
        for slot in range(rules[index, SPAWNS]):
            if rules[index, SPAWN + slot] == kind:
                return index
    return -1


@njit(cache=True)
def _is_fair_for_player(condition, use, rules, length):  # type: ignore[no-untyped-def]
    """Return whether the needed object of dead end `condition` can be put to its `use` without firing it.

    Only touching and holding can be helped: an object is moved by pushing or by carrying, whichever is harmless.
    """
    relation, kind = condition[RELATION], condition[SECOND]
    if relation in (_SEE, _NEAR):
        return relation == _NEAR and use[FIRST] >= PLAYER_1 and use[RELATION] == _SEE
    if use[FIRST] >= PLAYER_1 and use[RELATION] == relation:
        return False
    maker = _spawned_by(rules, length, kind)
    if maker < 0:
        return True
    by_player = rules[maker, FIRST] >= PLAYER_1
    if relation == _HOLD:  # a hand that is closed when the object appears grips it at once
        return by_player and rules[maker, RELATION] != _HOLD
    return not (by_player and rules[maker, RELATION] == _TOUCHING)


@njit(cache=True)
def _dead_end_is_fair(condition, goal, rules, length, number):  # type: ignore[no-untyped-def]
    """Return whether the solution can be carried out without firing the dead end `condition`.

    `rules` holds the chain in its first `length` rows and the dead ends accepted so far up to `number`.
    """
    for argument in (FIRST, SECOND):
        kind = condition[argument]
        for index in range(-1, length):
            use = goal if index < 0 else rules[index]
            if (index < 0 and goal[NEGATED]) or (use[FIRST] != kind and use[SECOND] != kind):
                continue
            # The type is needed here.
            if condition[NEGATED] or (condition[FIRST] < PLAYER_1 and condition[RELATION] == _SEE):
                return False
            if condition[FIRST] >= PLAYER_1:
                if not _is_fair_for_player(condition, use, rules, length):
                    return False
                for other in range(length, number):
                    if rules[other, FIRST] >= PLAYER_1 and rules[other, SECOND] == kind:
                        return False
                continue
            partner = condition[FIRST + SECOND - argument]
            if use[FIRST] == partner or use[SECOND] == partner:
                return False
            maker = _spawned_by(rules, length, kind)
            if maker >= 0 and maker == _spawned_by(rules, length, partner):
                return False
            for slot in range(rules[maker, SPAWNS] if maker >= 0 else 0):
                if rules[maker, SPAWN + slot] == partner:
                    return False
    return True


@njit(cache=True)
def _draw_dead_end_type(state, first_distractor, objects, counts, types):  # type: ignore[no-untyped-def]
    """Return a type for a dead end's condition: one the solution needs, or that of an initial distractor."""
    if uniform(state) >= DEAD_END_TAKES_NEEDED and counts[OBJECTS] > first_distractor:
        return objects[first_distractor + below(state, counts[OBJECTS] - first_distractor), TYPE]
    return types[below(state, counts[FREE])]


@njit(cache=True)
def _draw_dead_ends(state, number, length, goal, rules, chain, objects, counts, types):  # type: ignore[no-untyped-def]
    """Add up to `number` rules that use up objects and yield distractors only; unfair draws are given up."""
    first_distractor = 0
    while first_distractor < counts[OBJECTS] and objects[first_distractor, NEEDED]:
        first_distractor += 1
    for _ in range(number):
        rule = rules[counts[RULES]]
        for _ in range(DEAD_END_TRIES):
            rule[RELATION] = below(state, 4)
            rule[NEGATED] = rule[RELATION] != _HOLD and uniform(state) < RULE_NEGATED
            rule[SECOND] = _draw_dead_end_type(state, first_distractor, objects, counts, types)
            rule[FIRST] = PLAYER_1
            if rule[RELATION] != _HOLD and uniform(state) >= DEAD_END_TAKES_PLAYER:
                rule[FIRST] = _draw_dead_end_type(state, first_distractor, objects, counts, types)
            if rule[FIRST] == rule[SECOND] or not _dead_end_is_fair(rule, goal, rules, length, counts[RULES]):
                continue
            rule[SPAWNS] = below(state, 3)
            for slot in range(rule[SPAWNS]):
                rule[SPAWN + slot] = types[counts[FREE] + below(state, counts[DISTRACTOR_TYPES])]
            chain[counts[RULES]] = 0
            counts[RULES] += 1
            break


@njit(cache=True)
def _swap_rules(rules, chain, i, j):  # type: ignore[no-untyped-def]
    for column in range(rules.shape[1]):
        rules[i, column], rules[j, column] = rules[j, column], rules[i, column]
    chain[i], chain[j] = chain[j], chain[i]


@njit(cache=True)
def _seat_players(state, players, goal, rules, number):  # type: ignore[no-untyped-def]
    """For two players: let some references to player 1 mean player 2."""
    if players < 2:
        return
    if goal[FIRST] == PLAYER_1 and uniform(state) < 0.5:
        goal[FIRST] = PLAYER_2
    for index in range(number):
        if rules[index, FIRST] == PLAYER_1 and uniform(state) < 0.5:
            rules[index, FIRST] = PLAYER_2


@njit(cache=True)
def _freeze(state, chance, goal, rules, number, objects, counts):  # type: ignore[no-untyped-def]
    """Freeze initial types by chance; never one that must be held, nor both objects that must meet."""
    frozen = np.zeros(NUM_OBJECT_TYPES, np.bool_)
    drawn = np.zeros(NUM_OBJECT_TYPES, np.bool_)
    for index in range(counts[OBJECTS]):
        kind = objects[index, TYPE]
        if not drawn[kind]:
            drawn[kind] = True
            frozen[kind] = uniform(state) < chance
            for use_index in range(-1, number):
                use = goal if use_index < 0 else rules[use_index]
                if use[SECOND] == kind and use[RELATION] == _HOLD:
                    frozen[kind] = False
                elif use[FIRST] < PLAYER_1 and (use[FIRST] == kind or use[SECOND] == kind):
                    partner = use[FIRST] + use[SECOND] - kind
                    frozen[kind] = frozen[kind] and not frozen[partner]
        objects[index, FROZEN] = frozen[kind]


@njit(cache=True)
def _draw_parts(state, candidates, count, parts):  # type: ignore[no-untyped-def]
    """Draw each candidate with chance 1/2, at least one, shuffled, into `parts`: their number, then themselves."""
    _shuffle(state, candidates, count)
    chosen = 0
    for index in range(count):
        if uniform(state) < 0.5 or (chosen == 0 and index == count - 1):
            chosen += 1
            parts[chosen] = candidates[index]
    parts[0] = chosen


@njit(cache=True)
def _draw_hiding(state, chance, rules, number, hiding):  # type: ignore[no-untyped-def]
    """Draw which of the three mechanisms hide something, all combinations alike, and what each hides."""
    hiding[:, 0] = 0
    if number == 0 or uniform(state) >= chance:
        return
    mechanisms = 1 + below(state, 7)
    candidates = np.empty(max(MAX_RULES, NUM_OBJECT_TYPES), np.int64)
    for row in (HIDES_RULES, HIDES_PREDICATES):
        if mechanisms >> row & 1:
            for index in range(number):
                candidates[index] = index
            _draw_parts(state, candidates, number, hiding[row])
    if mechanisms >> HIDES_OBJECTS & 1:
        seen = np.zeros(NUM_OBJECT_TYPES + 2, np.bool_)
        for index in range(number):
            seen[rules[index, FIRST]] = True
            seen[rules[index, SECOND]] = True
            for slot in range(rules[index, SPAWNS]):
                seen[rules[index, SPAWN + slot]] = True
        count = 0
        for kind in range(NUM_OBJECT_TYPES):
            if seen[kind]:
                candidates[count] = kind
                count += 1
        _draw_parts(state, candidates, count, hiding[HIDES_OBJECTS])


@njit(cache=True)
def _hash_predicate(predicate):  # type: ignore[no-untyped-def]
    code = ((predicate[NEGATED] * 4 + predicate[RELATION]) * 16 + predicate[FIRST]) * 16 + predicate[SECOND]
    return mix(np.uint64(code + 1))


@njit(cache=True)
def hash_game(goal, rules, number):  # type: ignore[no-untyped-def]
    """Return a hash of goal and rules that heeds neither the order of rules nor that of spawned objects."""
    total = np.uint64(0)
    for index in range(number):
        spawned = np.uint64(0)
        for slot in range(rules[index, SPAWNS]):
            spawned += mix(np.uint64(rules[index, SPAWN + slot] + 4096))
        total += mix(_hash_predicate(rules[index]) + spawned)
    return mix(total ^ _hash_predicate(goal))


@njit(cache=True)
def make_game(  # type: ignore[no-untyped-def]
    state, ranges, hiding_chance, frozen_chance, players, held_out, goal, rules, chain, objects, hidings, counts, types
):
    """Draw a game of its side of the held-out split into the arrays of a GameBuffer.

    `ranges`, int64 [3, 2], are the closed ranges of rules in the chain, distractors and dead ends.
    """
    while True:
        counts[:] = 0
        for kind in range(NUM_OBJECT_TYPES):
            types[kind] = kind
        _shuffle(state, types, NUM_OBJECT_TYPES)
        length = ranges[0, 0] + below(state, ranges[0, 1] - ranges[0, 0] + 1)
        distractors = ranges[1, 0] + below(state, ranges[1, 1] - ranges[1, 0] + 1)
        dead_ends = ranges[2, 0] + below(state, ranges[2, 1] - ranges[2, 0] + 1)
        _draw_chain(state, length, goal, rules, chain, objects, counts, types)
        _draw_distractors(state, distractors, length, rules, objects, counts, types)
        _draw_dead_ends(state, dead_ends, length, goal, rules, chain, objects, counts, types)
        _seat_players(state, players, goal, rules, counts[RULES])
        if (hash_game(goal, rules, counts[RULES]) % np.uint64(HELD_OUT_ONE_IN) == np.uint64(0)) == held_out:
            break
    for index in range(counts[RULES] - 1, 0, -1):
        _swap_rules(rules, chain, index, below(state, index + 1))
    if frozen_chance > 0:
        _freeze(state, frozen_chance, goal, rules, counts[RULES], objects, counts)
    for player in range(players):
        _draw_hiding(state, hiding_chance, rules, counts[RULES], hidings[player])
