"""What each player is shown of goal and rules."""

import numpy as np
import pytest

from ada_sim.tasks import encoding
from ada_sim.tasks.task import (
    MAX_RULES,
    NUM_OBJECT_TYPES,
    PLAYER_1,
    PLAYER_2,
    Game,
    Hiding,
    Predicate,
    ProductionRule,
    Relation,
    Task,
    World,
)

BLACK_CUBE, YELLOW_PYRAMID, PURPLE_SPHERE = 3, 11, 7
GOAL = Predicate(Relation.NEAR, PLAYER_1, YELLOW_PYRAMID)
RULES = (
    ProductionRule(Predicate(Relation.TOUCHING, BLACK_CUBE, PURPLE_SPHERE), (YELLOW_PYRAMID, BLACK_CUBE)),
    ProductionRule(Predicate(Relation.SEE, PLAYER_2, BLACK_CUBE, negated=True)),
)


def task_with(*hidings: Hiding, rules: tuple[ProductionRule, ...] = RULES) -> Task:
    world = World(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.int8))
    game = Game(goals=(GOAL,) * len(hidings), rules=rules, hidings=hidings)
    return Task(world, game, (), ((2.5, 2.5),) * len(hidings), trial_timesteps=75)


def test_goal_and_visible_rules_are_written_field_by_field() -> None:
    goal, rules = encoding.encode(task_with(Hiding(), Hiding()), 0)
    assert goal.tolist() == [1, 2, 5, 0, 4, 3]
    assert rules[0].tolist() == [1, 1, 2, 1, 3, 2] + [0] * 12 + [4, 3, 2, 1, 0, 0, 0, 0]
    assert rules[1].tolist() == [2, 4, 6, 0, 2, 1] + [0] * 20
    assert not rules[2:].any()


def test_each_player_reads_itself_as_the_same_index() -> None:
    goal, rules = encoding.encode(task_with(Hiding(), Hiding()), 1)
    assert goal[2] == encoding.SHAPE_OTHER
    assert rules[1, 2] == encoding.SHAPE_SELF


def test_a_rule_hidden_as_a_whole_says_only_that_it_exists() -> None:
    other_rules = (RULES[1], RULES[0])
    _, shown = encoding.encode(task_with(Hiding(rules=frozenset({0, 1}))), 0)
    _, shown_other = encoding.encode(task_with(Hiding(rules=frozenset({0, 1})), rules=other_rules), 0)
    assert np.array_equal(shown, shown_other)
    assert np.flatnonzero(shown[0]).tolist() == [1]


def test_hidden_objects_keep_a_number_that_tells_them_apart() -> None:
    goal, rules = encoding.encode(task_with(Hiding(objects=(YELLOW_PYRAMID, BLACK_CUBE))), 0)
    assert rules[0, 2:4].tolist() == [encoding.SHAPE_HIDDEN_FIRST + 1, 0]
    assert rules[0, 18:22].tolist() == [encoding.SHAPE_HIDDEN_FIRST, 0, encoding.SHAPE_HIDDEN_FIRST + 1, 0]
    assert rules[1, 4:6].tolist() == [encoding.SHAPE_HIDDEN_FIRST + 1, 0]
    assert goal.tolist() == [1, 2, 5, 0, 4, 3], "the goal is never hidden"


def test_a_hidden_predicate_hides_its_negation_too() -> None:
    _, rules = encoding.encode(task_with(Hiding(predicates=(1, 0))), 0)
    assert rules[1, :2].tolist() == [encoding.NEGATED_HIDDEN, encoding.PREDICATE_HIDDEN_FIRST]
    assert rules[0, :2].tolist() == [encoding.NEGATED_HIDDEN, encoding.PREDICATE_HIDDEN_FIRST + 1]


def test_each_player_has_its_own_hiding() -> None:
    task = task_with(Hiding(rules=frozenset({0})), Hiding(rules=frozenset({1})))
    assert encoding.encode(task, 0)[1][0, 1] == encoding.PREDICATE_HIDDEN_RULE
    assert encoding.encode(task, 1)[1][0, 1] != encoding.PREDICATE_HIDDEN_RULE


@pytest.mark.parametrize("player", [0, 1])
def test_every_index_fits_the_exported_vocabulary(player: int) -> None:
    every_type = tuple(range(NUM_OBJECT_TYPES))
    rules = tuple(
        ProductionRule(Predicate(Relation(i % 4), i % 12, PLAYER_1 + i % 2, bool(i % 2)), every_type[8:])
        for i in range(MAX_RULES)
    )
    for hiding in (Hiding(), Hiding(objects=every_type), Hiding(predicates=tuple(range(MAX_RULES)))):
        goal, shown = encoding.encode(task_with(hiding, hiding, rules=rules), player)
        assert goal.dtype == shown.dtype == np.int8
        assert (goal < np.array(encoding.GOAL_FIELD_SIZES)).all()
        assert (shown < np.array(encoding.RULE_FIELD_SIZES)).all()
        assert (shown >= 0).all()
