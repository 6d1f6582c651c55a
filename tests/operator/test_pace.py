"""With many experiments under way figures are written seldom, what somebody acts on at once."""

import pytest

from ada_operator.pace import Pace
from ada_operator.work_queue import ROUTINE_A_SECOND

KEY = ("lab", "quick")
MANY = 300
TURN_S = MANY / ROUTINE_A_SECOND


@pytest.fixture
def pace(clock):
    """Return the pace of many experiments that train, of which one was written just now."""
    made = Pace(clock)
    for number in range(MANY - 1):
        made.look_again_s(("lab", f"run-{number}"), 15.0)
    made.look_again_s(KEY, 15.0)
    made.wrote(KEY)
    return made


@pytest.fixture
def training(cluster):
    """Return a cluster whose teacher trains."""
    cluster.settle()
    cluster.learn("teacher", 100, score=0.1)
    cluster.look()
    cluster.now += 5
    assert cluster.status["phase"] == "Training"
    return cluster


def unready(cluster):
    for pod in cluster.of_part("trainer"):
        pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]


def learn(cluster):
    cluster.learn("teacher", 200, commit=False, frames_per_second=20.0, score=0.2)


def test_figures_wait_for_their_turn_and_no_longer(pace, training, clock):
    before = training.status
    learn(training)
    training.look()
    assert training.status != before
    assert pace.may_wait(KEY, before, training.status)
    clock.now += TURN_S - 0.1
    assert pace.may_wait(KEY, before, training.status)
    clock.now += 0.2
    assert not pace.may_wait(KEY, before, training.status)


@pytest.mark.parametrize(
    "happen",
    [
        pytest.param(lambda cluster: cluster.learn("teacher", 200), id="a commit"),
        pytest.param(lambda cluster: cluster.learn("teacher", 1000, phase="trained"), id="the end of a stage"),
        pytest.param(lambda cluster: cluster.edit(suspend=True), id="a suspension"),
        pytest.param(lambda cluster: cluster.end_pods("trainer", 1), id="a crash"),
        pytest.param(unready, id="a node that is not ready"),
    ],
)
def test_anything_else_is_written_at_once(pace, training, happen):
    before = training.status
    learn(training)
    happen(training)
    training.run_controllers()
    training.look()
    assert not pace.may_wait(KEY, before, training.status)


def test_of_a_few_experiments_each_look_is_written(training, clock):
    pace = Pace(clock)
    pace.look_again_s(KEY, 15.0)
    pace.wrote(KEY)
    clock.now += 1
    before = training.status
    learn(training)
    training.look()
    assert not pace.may_wait(KEY, before, training.status)


def test_a_first_status_never_waits(pace, training):
    assert not pace.may_wait(("lab", "other"), None, training.status)
    assert not pace.may_wait(KEY, None, training.status)


def test_looks_are_spread_out_with_many_and_not_with_those_that_rest(pace):
    assert pace.look_again_s(KEY, 5.0) == TURN_S
    assert pace.look_again_s(KEY, 1000.0) == 1000.0
    assert pace.look_again_s(KEY, None) is None
    for number in range(1, MANY - 1):
        pace.look_again_s(("lab", f"run-{number}"), None)
    pace.forget(("lab", "run-0"))
    assert pace.look_again_s(KEY, 5.0) == 5.0
