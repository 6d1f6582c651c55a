"""How the goal and the production rules reach the agent: small integers, hidden parts as extra indices.

A predicate is six fields; a production rule is three predicates (only the first is used) and four spawned objects
of two fields each:

    goal   [6]       negated predicate shape1 colour1 shape2 colour2
    rules  [16, 26]  negated predicate shape1 colour1 shape2 colour2   x 3   then   shape colour   x 4

Index tables; 0 is padding in every column:

    negated      1 no, 2 yes, 3 hidden together with the predicate
    predicate    1..4 touching, near, hold, see; 5 "a rule exists" (hidden as a whole: all its other fields are 0);
                 6.. hidden predicate number 0..
    shape        1..4 wall, cube, sphere, pyramid; 5 the observing player; 6 the other player;
                 7.. hidden object number 0..
    colour       1..3 black, purple, yellow; 0 beside a player or a hidden object

Each player reads itself as index 5, so one network can play either seat. AdA, section "Environment" and table C.1,
gives the array shapes and the extra indices; the numbering is ours.
"""

import numpy as np

from ada_sim.tasks.task import (
    COLOURS,
    MAX_RULES,
    MAX_SPAWNS,
    NUM_OBJECT_TYPES,
    PLAYER_1,
    SHAPES,
    Hiding,
    Predicate,
    ProductionRule,
    Relation,
    Task,
)

NEGATED_NO, NEGATED_YES, NEGATED_HIDDEN = 1, 2, 3

PREDICATE_FIRST = 1
PREDICATE_HIDDEN_RULE = PREDICATE_FIRST + len(Relation)
PREDICATE_HIDDEN_FIRST = PREDICATE_HIDDEN_RULE + 1

SHAPE_FIRST = 1
SHAPE_SELF = SHAPE_FIRST + len(SHAPES)
SHAPE_OTHER = SHAPE_SELF + 1
SHAPE_HIDDEN_FIRST = SHAPE_OTHER + 1

COLOUR_FIRST = 1

NUM_NEGATED = NEGATED_HIDDEN + 1
NUM_PREDICATES = PREDICATE_HIDDEN_FIRST + MAX_RULES
NUM_SHAPES = SHAPE_HIDDEN_FIRST + NUM_OBJECT_TYPES
NUM_COLOURS = COLOUR_FIRST + len(COLOURS)

PREDICATE_FIELDS = 6
TRIGGERS = 3

# Number of distinct indices a column: what an embedding table of that column needs.
GOAL_FIELD_SIZES = (NUM_NEGATED, NUM_PREDICATES, NUM_SHAPES, NUM_COLOURS, NUM_SHAPES, NUM_COLOURS)
RULE_FIELD_SIZES = GOAL_FIELD_SIZES * TRIGGERS + (NUM_SHAPES, NUM_COLOURS) * MAX_SPAWNS

NOTHING_HIDDEN = Hiding()
_UNUSED_TRIGGERS = (0,) * PREDICATE_FIELDS * (TRIGGERS - 1)
_NO_SPAWNS = (0, 0) * MAX_SPAWNS
_HIDDEN_RULE = (0, PREDICATE_HIDDEN_RULE, *(0,) * (len(RULE_FIELD_SIZES) - 2))
# Shape and colour of each object type and, unless it is the one who looks, player.
_SHOWN = [
    (SHAPE_FIRST + shape, COLOUR_FIRST + colour) for shape in range(len(SHAPES)) for colour in range(len(COLOURS))
]
_SHOWN += [(SHAPE_OTHER, 0)] * 2


def encode(task: Task, player: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what `player` (0 or 1) is shown: goal, int8 [6], and rules, int8 [16, 26]."""
    hiding = task.game.hidings[player]
    goal = task.game.goals[player]
    shown = entities_shown(player, hiding)
    rows = [
        _HIDDEN_RULE if index in hiding.rules else _rule_fields(rule, index, shown, hiding)
        for index, rule in enumerate(task.game.rules)
    ]
    rules = np.zeros((MAX_RULES, len(RULE_FIELD_SIZES)), np.int8)
    if rows:
        rules[: len(rows)] = rows
    return np.array(_predicate_fields(goal, entities_shown(player, NOTHING_HIDDEN)), np.int8), rules


def entities_shown(player: int, hiding: Hiding) -> list[tuple[int, int]]:
    """Return shape and colour as which each entity is shown."""
    shown = list(_SHOWN)
    for number, hidden in enumerate(hiding.objects):
        shown[hidden] = SHAPE_HIDDEN_FIRST + number, 0
    shown[PLAYER_1 + player] = SHAPE_SELF, 0
    return shown


def _predicate_fields(predicate: Predicate, shown: list[tuple[int, int]]) -> tuple[int, ...]:
    return (
        NEGATED_YES if predicate.negated else NEGATED_NO,
        PREDICATE_FIRST + predicate.relation,
        *shown[predicate.first],
        *shown[predicate.second],
    )


def _rule_fields(rule: ProductionRule, index: int, shown: list[tuple[int, int]], hiding: Hiding) -> tuple[int, ...]:
    fields = _predicate_fields(rule.condition, shown)
    if index in hiding.predicates:
        fields = (NEGATED_HIDDEN, PREDICATE_HIDDEN_FIRST + hiding.predicates.index(index), *fields[2:])
    spawns = [field for spawn in rule.spawns for field in shown[spawn]]
    return *fields, *_UNUSED_TRIGGERS, *spawns, *_NO_SPAWNS[len(spawns) :]
