"""Experiments that come by the dozen are all begun before one of them is built up; single ones wait for nobody."""

import pytest

from ada_operator.arrivals import MANY, TURN_S, WITHIN_S, Arrivals


@pytest.fixture
def arrivals(clock) -> Arrivals:
    return Arrivals(clock)


def key(number: int) -> tuple[str, str]:
    return "ns", f"run-{number}"


def test_a_few_experiments_are_not_held(arrivals):
    for number in range(MANY - 1):
        arrivals.begin(key(number))
        assert not arrivals.hold(key(number))


def test_many_are_held_until_no_more_come(arrivals, clock):
    for number in range(3 * MANY):
        arrivals.begin(key(number))
        clock.now += WITHIN_S / (2 * MANY)
    assert all(arrivals.hold(key(number)) for number in range(3 * MANY))
    clock.now += WITHIN_S
    assert not any(arrivals.hold(key(number)) for number in range(3 * MANY))


def test_one_that_was_not_begun_here_is_not_held(arrivals):
    for number in range(MANY):
        arrivals.begin(key(number))
    assert arrivals.hold(key(0))
    assert not arrivals.hold(key(MANY)), "it was begun by an operator before, or long ago"


def test_however_long_they_keep_coming_the_oldest_goes_on_each_turn(arrivals, clock):
    waiting: list[int] = []
    gone: list[int] = []
    for number in range(200):
        arrivals.begin(key(number))
        waiting.append(number)
        clock.now += WITHIN_S / MANY / 2
        if number >= MANY:
            gone += [one for one in waiting if not arrivals.hold(key(one))]
            waiting = [one for one in waiting if one not in gone]
    assert gone == list(range(len(gone))), "the oldest first"
    turns = 200 * WITHIN_S / MANY / 2 / TURN_S
    assert turns - 1 <= len(gone) <= turns, "one each turn"


def test_one_that_is_deleted_while_it_is_held_keeps_nobody_from_going_on(arrivals, clock):
    for number in range(MANY):
        arrivals.begin(key(number))
    clock.now += TURN_S
    for number in range(MANY, 2 * MANY):
        arrivals.begin(key(number))
    assert arrivals.hold(key(1)), "the oldest comes first"
    arrivals.forget(key(0))
    assert not arrivals.hold(key(1))
