"""Grip, carry, reach, lift over walls, let go."""

import math

import pytest

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


def room(row):
    return ROOM.replace("#@.......#", row)


def test_closing_the_hand_grips_the_object_looked_at(world_of):
    one = world_of(room("#@C......#"))
    one.act(grip=1)
    assert one.last.observation["body"][0, 0, 0] == 1
    assert one.last.observation["objects"][0, 0, 0, 15] == 1


@pytest.mark.parametrize(
    ("row", "why"), [("#C@......#", "behind"), ("#@..C....#", "too far"), ("#@#C.....#", "behind a wall")]
)
def test_some_objects_are_out_of_reach(world_of, row, why):
    one = world_of(room(row))
    one.act(2, grip=1)
    assert one.last.observation["body"][0, 0, 0] == 0, why


def test_frozen_objects_are_not_gripped_and_not_pushed(world_of):
    one = world_of(room("#@C......#"), frozen=True)
    one.act(2, grip=1)
    assert one.last.observation["body"][0, 0, 0] == 0
    one.act(10, move=2)
    assert one.place()[0] == pytest.approx(2.5)
    assert one.player()[0] <= 2.5 - 0.25 - 0.3 + 0.01


def test_a_held_object_comes_along_and_stays_where_it_is_let_go(world_of):
    one = world_of(room("#@C......#"))
    one.act(2, grip=1)
    one.act(6, grip=1, move=2)
    carried = one.place()[0]
    assert carried > one.player()[0] + 0.5
    one.act(10)
    assert one.last.observation["body"][0, 0, 0] == 0
    assert one.place()[2] == pytest.approx(0.25)


def test_reach_moves_the_held_object_in_and_out(world_of):
    one = world_of(room("#@C......#"))
    one.act(4, grip=1)
    near = one.place()[0]
    one.act(6, grip=1, reach=2)
    assert one.place()[0] > near + 0.4
    one.act(12, grip=1, reach=0)
    assert one.place()[0] < near


def test_a_held_object_is_lifted_over_a_wall_the_player_cannot_pass(world_of):
    one = world_of(room("#@C.#....#"))
    one.act(4, grip=1)
    one.act(6, grip=1, pitch=2, reach=2)
    one.act(12, grip=1, move=2)
    assert one.player()[0] < 4
    one.act(10)
    assert one.place()[0] > 5
    assert one.place()[2] == pytest.approx(0.25)


def test_a_hand_that_moves_throws(world_of):
    thrown, dropped = world_of(room("#@S......#")), world_of(room("#@S......#"))
    for one in (thrown, dropped):
        one.act(4, grip=1)
    thrown.act(4, grip=1, move=2)
    start = thrown.place()[0]
    thrown.act(4)
    assert thrown.place()[0] > start + 0.5


def test_an_object_that_is_held_back_slips_out(world_of):
    one = world_of(room("#@C#.....#"))
    one.act(2, grip=1)
    one.change(yaw=math.pi)
    one.act(6, grip=1, move=2)
    one.change(yaw=0.0)
    assert one.world("held")[0] in (-1, 2)
    one.change(position=_away(one))
    one.act(grip=1)
    assert one.world("held")[0] == -1


def _away(one):
    position = one.world("position")
    position[0, 0] = 8.0
    return position
