"""Production rules and predicates, one at a time."""

import math

import pytest

from ada_sim.constants import FIRST_OBJECT, MAX_OBJECTS
from ada_sim.tasks.task import PLAYER_1, PLAYER_2, InitialObject, Predicate, ProductionRule, Relation

WALL, CUBE, SPHERE, PYRAMID = 0, 3, 6, 9
YELLOW_CUBE, YELLOW_SPHERE, YELLOW_PYRAMID = 5, 8, 11
TOUCHING, NEAR, HOLD, SEE = Relation

ROOM = """
##########
#........#
#........#
#........#
#@.......#
#........#
#........#
#........#
#........#
##########
"""


def room(row: str) -> str:
    return ROOM.replace("#@.......#", row)


def rule(relation, first, second, *spawns, negated=False):
    return ProductionRule(Predicate(relation, first, second, negated), spawns)


def test_a_touched_object_vanishes_and_the_spawn_appears_at_its_place(world_of):
    one = world_of(room("#@.C.....#"), rules=(rule(TOUCHING, PLAYER_1, CUBE, PYRAMID),))
    one.act(2, move=2)
    before = one.place()
    assert one.objects() == [CUBE]
    one.act(move=2)
    assert one.objects() == [PYRAMID]
    assert abs(one.place()[:2] - before[:2]).max() < 0.6


def test_a_rule_without_spawns_only_removes(world_of):
    one = world_of(room("#@C......#"), rules=(rule(NEAR, PLAYER_1, CUBE),))
    one.act()
    assert one.objects() == []


def test_both_objects_of_a_condition_are_used_up(world_of):
    one = world_of(room("#@..CS...#"), rules=(rule(NEAR, CUBE, SPHERE, PYRAMID),))
    one.act()
    assert one.objects() == [PYRAMID]


def test_arguments_of_near_and_touching_commute(world_of):
    one = world_of(room("#@..CS...#"), rules=(rule(NEAR, SPHERE, CUBE, PYRAMID),))
    one.act()
    assert one.objects() == [PYRAMID]


def test_of_two_rules_with_one_condition_the_first_fires(world_of):
    rules = (rule(NEAR, CUBE, SPHERE, PYRAMID), rule(NEAR, CUBE, SPHERE, WALL))
    one = world_of(room("#@..CS...#"), rules=rules)
    one.act()
    assert one.objects() == [PYRAMID]


def test_a_rule_fires_at_most_once_a_tick_and_again_for_the_next_pair(world_of):
    picture = room("#@.......#").replace("#........#", "#....C.S.#", 1).replace("#........#", "#....C.S.#", 1)
    one = world_of(picture, rules=(rule(NEAR, CUBE, SPHERE, WALL),))
    assert one.objects() == [CUBE, CUBE, SPHERE, SPHERE]
    one.act()
    assert one.objects() == [CUBE, CUBE, SPHERE, SPHERE], "1.5 m apart"
    pairs = world_of(picture.replace("C.S", "CS."), rules=(rule(NEAR, CUBE, SPHERE, WALL),))
    pairs.act()
    assert pairs.objects() == [WALL, WALL]


def test_what_a_rule_made_again_does_not_set_it_off_until_the_condition_holds_anew(world_of):
    one = world_of(room("#@C......#"), rules=(rule(NEAR, PLAYER_1, CUBE, CUBE, PYRAMID),), yaw=math.pi)
    one.act(5)
    assert one.objects() == [CUBE, PYRAMID]
    one.change(position=_moved(one, 0, 8.0))
    one.act()
    one.change(position=_moved(one, 0, 1.5))
    one.act(5)
    assert one.objects() == [CUBE, PYRAMID, PYRAMID]


def _moved(one, slot, x):
    position = one.world("position")
    position[slot, 0] = x
    return position


def test_a_rule_on_players_alone_fires_once_while_its_condition_holds(world_of):
    one = world_of(room("#@.&.....#"), rules=(rule(NEAR, PLAYER_1, PLAYER_2, CUBE),))
    one.act(5)
    assert one.objects() == []
    one.act(2, move=2)
    one.act(5)
    assert one.objects() == [CUBE]


def test_four_spawns_stand_apart_from_one_another(world_of):
    one = world_of(room("#@......C#"), rules=(rule(SEE, PLAYER_1, CUBE, WALL, PYRAMID, SPHERE, YELLOW_CUBE),))
    one.act()
    assert one.objects() == sorted([WALL, PYRAMID, SPHERE, YELLOW_CUBE])
    places = [one.place(n) for n in range(4)]
    for n, a in enumerate(places):
        assert 1 < a[0] < 9
        assert 1 < a[1] < 9
        for b in places[n + 1 :]:
            assert abs(a - b).max() > 0.3


def test_a_full_world_spawns_no_more(world_of):
    places = [(1.5 + i * 0.6, 1.5 + j * 0.7) for i in range(8) for j in range(4)][: MAX_OBJECTS - 1]
    extra = tuple(InitialObject(YELLOW_SPHERE, x, y, frozen=True) for x, y in places)
    one = world_of(room("#@......C#"), rules=(rule(SEE, PLAYER_1, CUBE, PYRAMID, PYRAMID, PYRAMID),), extra=extra)
    one.act()
    assert one.objects() == [YELLOW_SPHERE] * (MAX_OBJECTS - 1) + [PYRAMID]


def test_a_negated_condition_takes_the_first_pair_for_which_the_predicate_is_false(world_of):
    one = world_of(room("#@C...S..#"), rules=(rule(NEAR, PLAYER_1, SPHERE, PYRAMID, negated=True),))
    one.act()
    assert one.objects() == [CUBE, PYRAMID]
    near = world_of(room("#@S...C..#"), rules=(rule(NEAR, PLAYER_1, SPHERE, PYRAMID, negated=True),))
    near.act()
    assert near.objects() == [CUBE, SPHERE]


def test_holding_is_a_condition_and_empties_the_hand(world_of):
    one = world_of(room("#@C......#"), rules=(rule(HOLD, PLAYER_1, CUBE, PYRAMID),))
    one.act(2)
    assert one.objects() == [CUBE]
    one.act(grip=1)
    assert PYRAMID in one.objects()
    assert CUBE not in one.objects()


@pytest.mark.parametrize(
    ("row", "sees"),
    [
        pytest.param("#@....C..#", True, id="in-the-open"),
        pytest.param("#@.#..C..#", False, id="behind-a-wall"),
        pytest.param("#@.P..C..#", True, id="over-a-small-thing"),
        pytest.param("#C.@.....#", False, id="behind-the-back"),
    ],
)
def test_a_player_sees_what_is_in_view_and_not_hidden(world_of, row, sees):
    one = world_of(room(row), goal=Predicate(SEE, PLAYER_1, CUBE))
    assert one.act() == (1.0 if sees else 0.0)


@pytest.mark.parametrize(
    ("row", "sees"),
    [("#@.C...S.#", True), ("#@.C.#.S.#", False), ("#@.C.P.S.#", False)],
    ids=["in-the-open", "behind-a-wall", "behind-an-object"],
)
def test_objects_see_one_another_along_an_open_line(world_of, row, sees):
    one = world_of(room(row), goal=Predicate(SEE, CUBE, SPHERE))
    assert one.act() == (1.0 if sees else 0.0)


@pytest.mark.parametrize(
    ("row", "relation", "holds"),
    [
        pytest.param("#@C......#", NEAR, True, id="gap-0.45-is-near"),
        pytest.param("#@.C.....#", NEAR, False, id="gap-1.45-is-not-near"),
        pytest.param("#@C......#", TOUCHING, False, id="gap-0.45-is-not-touching"),
    ],
)
def test_distances_are_between_surfaces(world_of, row, relation, holds):
    one = world_of(room(row), goal=Predicate(relation, PLAYER_1, CUBE))
    assert one.act() == (1.0 if holds else 0.0)


def test_a_negated_goal_holds_when_no_pair_does(world_of):
    one = world_of(room("#@C......#"), goal=Predicate(NEAR, PLAYER_1, CUBE, negated=True))
    assert one.act() == 0.0
    none = world_of(room("#@.......#"), goal=Predicate(NEAR, PLAYER_1, CUBE, negated=True))
    assert none.act() == 1.0


def test_reward_is_the_share_of_ticks_in_the_goal(world_of):
    one = world_of(room("#@.C.....#"), goal=Predicate(NEAR, PLAYER_1, CUBE), frozen=True)
    assert one.act(move=2) == 0.25  # the gap of 1.45 m shrinks by 0.133 a tick: under 1 m from the fourth on


def test_a_spawn_on_a_crowded_corner_is_not_lost_in_the_wall(world_of):
    picture = ROOM.replace("#........#\n##########", "#C.......#\n##########")
    one = world_of(picture, rules=(rule(SEE, PLAYER_1, CUBE, WALL, WALL, WALL, WALL),), yaw=-math.pi / 2)
    one.act(8)
    assert one.objects() == [WALL] * 4
    for n in range(4):
        assert one.place(n)[:2].min() > 1.0


def test_vanished_objects_free_their_slot(world_of):
    one = world_of(room("#@C......#"), rules=(rule(NEAR, PLAYER_1, CUBE, PYRAMID),))
    one.act()
    assert one.world("kind")[FIRST_OBJECT] == PYRAMID
    assert one.world("used") == FIRST_OBJECT + 1
