"""Two decision tables: what a pod's end means, and how many nodes to ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ada_api.stages import Nodes
from ada_operator.elasticity import COOL_DOWN_S, PATIENCE_S, target_nodes, wanted_nodes
from ada_operator.failure_policy import last_lines, pod_failure
from ada_operator.kubernetes_time import timestamp

NOW = 1_800_000_000.0


def ended(code, reason="", conditions=(), pod_reason=""):
    state = {"terminated": {"exitCode": code, "reason": reason, "message": "last words"}}
    status = {"phase": "Failed" if code else "Succeeded", "conditions": list(conditions), "reason": pod_reason}
    return {"metadata": {"name": "p"}, "status": {**status, "containerStatuses": [{"state": state}]}}


DISRUPTED = ({"type": "DisruptionTarget", "status": "True"},)


@pytest.mark.parametrize(
    ("pod", "cause"),
    [
        pytest.param(ended(1), "code", id="any other exit is our own trouble"),
        pytest.param(ended(2), "code", id="a command line we wrote wrongly is our own trouble"),
        pytest.param(ended(78), "configuration", id="a configuration that can't work"),
        pytest.param(ended(75), "stopped", id="told to stop"),
        pytest.param(ended(137, "OOMKilled"), "outOfMemory", id="killed for memory"),
        pytest.param(ended(1, "OOMKilled"), "outOfMemory", id="a worker killed for memory"),
        pytest.param(ended(137), "disruption", id="killed by somebody else"),
        pytest.param(ended(143), "disruption", id="ended by SIGTERM"),
        pytest.param(ended(78, conditions=DISRUPTED), "disruption", id="a disruption excuses every exit code"),
        pytest.param(ended(1, pod_reason="Evicted"), "disruption", id="evicted"),
        pytest.param(ended(0), None, id="ended well"),
        pytest.param({"metadata": {"name": "p"}, "status": {"phase": "Running"}}, None, id="still running"),
        pytest.param({"metadata": {"name": "p"}, "status": {"phase": "Failed"}}, "disruption", id="lost with its node"),
    ],
)
def test_the_end_of_a_pod(pod, cause):
    failure = pod_failure(pod)
    assert (failure and failure.cause) == cause


def test_a_long_message_is_cut_at_the_start_of_a_line():
    said = last_lines("\n".join(f"line {number} " + "x" * 50 for number in range(100)))
    assert len(said) <= 800
    assert said.startswith("line ")
    assert said.endswith("x")


def pending(index, waited_s, *, unplaced=True):
    conditions = [{"type": "PodScheduled", "status": "False", "message": "no GPU"}] if unplaced else []
    return {
        "metadata": {
            "name": f"p{index}",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "creationTimestamp": timestamp(NOW - waited_s),
        },
        "status": {"phase": "Pending", "conditions": conditions},
    }


LONG, SHORT = PATIENCE_S + 1, PATIENCE_S - 1
BOUNDS = Nodes(min=2, max=8)


@pytest.mark.parametrize(
    ("wanted", "current", "short_for", "pods", "nodes"),
    [
        pytest.param(8, None, None, [], 8, id="a group starts at the size that is wanted"),
        pytest.param(4, 8, None, [], 4, id="asked to shrink, at once"),
        pytest.param(8, 8, None, [pending(7, SHORT)], 8, id="a pod without a node is waited for"),
        pytest.param(8, 8, None, [pending(7, LONG)], 7, id="but not for ever"),
        pytest.param(8, 8, None, [pending(7, LONG), pending(6, LONG)], 6, id="the last ones are given up together"),
        pytest.param(
            8, 8, None, [pending(0, LONG)], 8, id="a low index is kept: giving it up would stop one that runs"
        ),
        pytest.param(8, 8, None, [pending(7, LONG, unplaced=False)], 8, id="a pod that has a node only starts slowly"),
        pytest.param(8, 2, 0, [pending(1, LONG)], 2, id="never below the minimum"),
        pytest.param(8, 6, None, [], 8, id="asked to grow, at once"),
        pytest.param(8, 6, COOL_DOWN_S - 1, [], 6, id="no growth within the cool-down"),
        pytest.param(8, 6, COOL_DOWN_S, [], 8, id="growth after it"),
    ],
)
def test_nodes_to_ask_for(wanted, current, short_for, pods, nodes):
    since = None if short_for is None else NOW - short_for
    assert target_nodes(BOUNDS, wanted, current, since, pods, NOW) == nodes


@given(st.integers(1, 50), st.integers(0, 50), st.none() | st.integers(1, 200), st.integers(1, 100), st.data())
def test_the_size_is_always_within_the_bounds_and_settles(low, more, asked, current, data):
    bounds = Nodes(min=low, max=low + more)
    wanted = wanted_nodes(bounds, asked)
    assert bounds.min <= wanted <= bounds.max
    waiting = data.draw(st.sets(st.integers(0, current - 1)))
    pods = [pending(index, LONG) for index in waiting]
    nodes = target_nodes(bounds, wanted, max(current, low), NOW, pods, NOW)
    assert bounds.min <= nodes <= max(wanted, current)
    left = [pending(index, LONG) for index in waiting if index < nodes]
    again = target_nodes(bounds, wanted, nodes, NOW, left, NOW)
    assert again == target_nodes(
        bounds, wanted, again, NOW, [p for p in left if int(p["metadata"]["name"][1:]) < again], NOW
    )
