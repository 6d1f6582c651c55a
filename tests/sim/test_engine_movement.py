"""Players walk, turn, climb, fall and stop at walls."""

import math
from itertools import pairwise

import pytest

NORTH = math.pi / 2
ROOM = """
########
#......#
#......#
#......#
#@.....#
#......#
#......#
########
"""


def test_a_timestep_forward_is_four_ticks_of_walking(world_of):
    one = world_of(ROOM)
    one.act(move=2)
    assert one.player()[:2] == pytest.approx((1.5 + 4 * 4 / 30, 3.5))


def test_back_goes_backwards_and_strafe_to_the_left(world_of):
    one = world_of(ROOM, yaw=NORTH)
    one.act(strafe=0)
    assert one.player()[0] == pytest.approx(1.5 + 4 * 4 / 30)
    one.act(move=0)
    assert one.player()[1] == pytest.approx(3.5 - 4 * 4 / 30)


def test_the_diagonal_is_no_faster(world_of):
    one = world_of(ROOM)
    one.act(move=2, strafe=2)
    moved = one.player()[:2] - (1.5, 3.5)
    assert math.hypot(*moved) == pytest.approx(4 * 4 / 30)


@pytest.mark.parametrize(("choice", "radians"), [(0, -0.64), (1, -0.16), (2, 0), (3, 0.16), (4, 0.64)])
def test_turning_is_fast_or_slow_to_either_side(world_of, choice, radians):
    one = world_of(ROOM)
    one.act(turn=choice)
    assert one.world("yaw")[0] == pytest.approx(radians)


def test_pitch_stops_at_its_limit(world_of):
    one = world_of(ROOM)
    one.act(20, pitch=2)
    assert one.last.observation["body"][0, 0, 3] == pytest.approx(0.8)


def test_a_wall_stops_the_player_flush(world_of):
    one = world_of(ROOM)
    one.act(30, move=2)
    assert one.player()[0] == pytest.approx(7 - 0.3, abs=1e-4)


def test_a_ramp_leads_up_and_a_step_does_not(world_of):
    picture = """
    ########
    #......#
    #...111#
    #@.>111#
    #...111#
    #......#
    #......#
    ########
    """
    one = world_of(picture)
    one.act(9, move=2)
    assert one.player()[2] == pytest.approx(0.5 + 0.5)
    other = world_of(picture.replace(">", "."))
    other.act(9, move=2)
    assert other.player()[0] == pytest.approx(4 - 0.3, abs=1e-4)


def test_walking_off_a_level_is_a_drop(world_of):
    one = world_of(
        """
        ########
        #......#
        #......#
        #......#
        #2@....#
        #......#
        #......#
        ########
        """.replace("2@", "@."),
        yaw=0,
    )
    one.raise_ground(slice(1, 3), slice(None), 1.0)
    state = one.sim.state()
    state["world.position"][0, 0, 2] = 1.5
    one.sim.load(state)
    one.act(2, move=2)
    heights = []
    for _ in range(8):
        one.act(move=2)
        heights.append(float(one.player()[2]))
    assert heights[-1] == pytest.approx(0.5)
    assert all(a >= b for a, b in pairwise(heights))


def test_nobody_climbs_out_of_a_pit(world_of):
    one = world_of(ROOM.replace("#@.....#", "#@~~...#"))
    one.act(40, move=2)
    assert one.player()[2] == pytest.approx(-0.5)
    assert one.player()[0] < 4


def test_two_players_do_not_pass_through_one_another(world_of):
    one = world_of(ROOM.replace("@.....", "@.&..."))
    one.act(30, move=2)
    assert one.player(1)[0] - one.player(0)[0] > 0.6 - 0.02
