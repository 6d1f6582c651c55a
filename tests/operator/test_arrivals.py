"""Experiments that come by the dozen are all begun before one of them is built up; single ones wait for nobody."""

import pytest

from ada_operator.arrivals import LONGEST_HELD_S, MANY, WITHIN_S, Arrivals


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
        clock.now += WITHIN_S / MANY
    assert all(arrivals.hold(key(number)) for number in range(3 * MANY))
    clock.now += WITHIN_S
    assert not any(arrivals.hold(key(number)) for number in range(3 * MANY))


def test_one_that_was_not_begun_here_is_not_held(arrivals):
    for number in range(MANY):
        arrivals.begin(key(number))
    assert arrivals.hold(key(0))
    assert not arrivals.hold(key(MANY)), "it was begun by an operator before, or long ago"


def test_nobody_is_held_for_ever_though_more_keep_coming(arrivals, clock):
    arrivals.begin(key(0))
    held_s = 0.0
    for number in range(1, 1000):
        arrivals.begin(key(number))
        clock.now += WITHIN_S / MANY / 2
        held_s += WITHIN_S / MANY / 2
        if number >= MANY and not arrivals.hold(key(0)):
            break
    assert held_s == pytest.approx(LONGEST_HELD_S, abs=WITHIN_S)
    assert not arrivals.hold(key(0)), "once let go, for good"
