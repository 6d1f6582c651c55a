"""What admission can't refuse, since it stands in the open text of a pod template: the status names part and field."""

import copy
from typing import Any

import pytest
from tests.control_plane.life import NAME, experiment
from tests.control_plane.stand import MERGE, Case, Stand, play

from ada_operator.cluster import EXPERIMENTS, STATEFUL_SETS
from ada_operator.observed import Manifest

SIMULATOR = "StatefulSet demo-teacher-simulator"
TRAINER = "Job demo-teacher-trainer"


async def a_quantity_that_is_none(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", SIMULATOR, "quantities must match")


async def a_field_that_there_is_not(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", SIMULATOR, "env", ".valeu: field not declared in schema")


async def a_number_where_text_belongs(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", SIMULATOR, "env", ".value: expected string")


async def a_variable_without_a_name(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", SIMULATOR, "spec.template.spec.containers[0].env[", "name")


async def a_node_selector_that_is_no_label(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", SIMULATOR, "spec.template.spec.nodeSelector", "no label!")


async def a_toleration_of_an_operator_that_is_none(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", SIMULATOR, "spec.template.spec.tolerations[0].operator", "Perhaps")


async def a_mount_of_a_volume_that_is_not_there(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", TRAINER, "spec.template.spec.containers[0].volumeMounts[", "no-such")


async def a_request_beyond_its_limit_that_somebody_mends(stand: Stand) -> None:
    """Nothing of the group is said to have started, nothing is counted, and it starts once the spec is right."""
    await stand.said("Degraded", "ChildRefused", TRAINER, "spec.template.spec.containers[0].resources.requests")
    status = await stand.status()
    assert (status["stages"], status["restarts"]) == ([], 0) or status["stages"][0]["generation"] == 0
    mended = copy.deepcopy(experiment_of(a_request_beyond_its_limit_that_somebody_mends, stand.namespace))
    mended["spec"]["stages"][0]["trainer"] = {}
    path = EXPERIMENTS.path(stand.namespace, NAME)
    await stand.cluster._request("PATCH", path, {}, {"spec": {"stages": mended["spec"]["stages"]}}, MERGE)
    await stand.learn(250)
    assert (await stand.condition("Degraded"))["status"] == "False"
    status = await stand.status()
    assert (status["stages"][0]["generation"], status["restarts"]) == (1, 0)


async def a_quota_that_allows_no_more(stand: Stand) -> None:
    await stand.said("Degraded", "ChildRefused", "demo-", "exceeded quota: none")
    assert await stand.cluster.list(STATEFUL_SETS, stand.namespace) == []


SIMULATORS: dict[Case, dict[str, Any]] = {
    a_quantity_that_is_none: {"resources": {"limits": {"cpu": "lots"}}},
    a_field_that_there_is_not: {"env": [{"name": "LEVEL", "valeu": "1"}]},
    a_number_where_text_belongs: {"env": [{"name": "LEVEL", "value": 1}]},
    a_variable_without_a_name: {"env": [{"value": "1"}]},
    a_node_selector_that_is_no_label: {"nodeSelector": {"pool": "no label!"}},
    a_toleration_of_an_operator_that_is_none: {"tolerations": [{"key": "gpu", "operator": "Perhaps"}]},
}
TRAINERS: dict[Case, dict[str, Any]] = {
    a_mount_of_a_volume_that_is_not_there: {"volumeMounts": [{"name": "no-such", "mountPath": "/data"}]},
    a_request_beyond_its_limit_that_somebody_mends: {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}},
}


def experiment_of(case: Case, namespace: str) -> Manifest:
    """Return an experiment of one stage, with the case's mistake in a pod template."""
    found = experiment(namespace)
    stage = found["spec"]["stages"][0]
    stage |= {"simulators": {"pod": SIMULATORS.get(case, {})}, "trainer": {"pod": TRAINERS.get(case, {})}}
    found["spec"]["stages"] = [stage]
    return found


@pytest.mark.timeout(900)
def test_a_child_that_is_refused_is_named_in_the_status_with_its_field(plane: Any) -> None:
    for case, error in play(plane.kubectl, (*SIMULATORS, *TRAINERS), experiment_of).items():
        if error is not None:
            raise AssertionError(case) from error


@pytest.mark.timeout(900)
def test_a_quota_is_quoted_in_the_status(plane: Any) -> None:
    def of_nothing(case: Case, namespace: str) -> Manifest:
        metadata = {"name": "none", "namespace": namespace}
        hard = {"count/statefulsets.apps": "0"}
        plane.kubectl.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
        return experiment_of(case, namespace)

    (error,) = play(plane.kubectl, [a_quota_that_allows_no_more], of_nothing).values()
    if error is not None:
        raise error
