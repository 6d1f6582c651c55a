"""Experiments that are applied together: each has its first child without a read, and no write is repeated."""

from collections import Counter, defaultdict
from typing import Any

import pytest
from tests.cluster.processes import wait_until
from tests.control_plane.flow import Flow

MANY = 30


def experiment(namespace: str, number: int) -> dict[str, Any]:
    return {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": f"run-{number}", "namespace": namespace},
        "spec": {"environment": {"observation": "symbolic"}, "stages": [{"name": "only", "frames": 10**9}]},
    }


def test_a_new_experiment_is_made_its_first_children_without_asking_for_what_is_known(
    plane, namespace, tmp_path, make_operator
):
    if not hasattr(plane, "audit"):
        pytest.skip("the cluster is not ours: there is no audit log to read")
    flow = Flow(plane.kubectl, namespace, tmp_path)
    account = f"system:serviceaccount:{namespace}:ada-operator"
    operator = make_operator(flow.operator_environment(), "--platform", str(flow.platform()), "--resync-seconds", "60")

    def asked() -> list[dict[str, Any]]:
        return [one for one in plane.audit() if one["user"]["username"] == account and "objectRef" in one]

    def lists_of(kind: str) -> int:
        return sum(one["verb"] == "list" and one["objectRef"]["resource"] == kind for one in asked())

    wait_until(
        "whole inventory", lambda: lists_of("networkpolicies") > 1, 60, operator.said
    )  # kopf's list is the other
    plane.kubectl.apply(*(experiment(namespace, number) for number in range(MANY)))
    budgets = ("get", "statefulsets", f"--namespace={namespace}", "--output=name", "--selector=ada.dev/part=rendezvous")
    wait_until(
        "last child of the first round", lambda: len(plane.kubectl(*budgets).split()) == MANY, 120, operator.said
    )
    requests = [one for one in asked() if one["objectRef"]["resource"] != "leases"]
    reads = [one["requestURI"] for one in requests if one["verb"] == "get" or "%3D" in one["requestURI"]]
    assert reads == []
    written: defaultdict[str, list[str]] = defaultdict(list)
    for one in requests:
        if one["verb"] == "patch":
            assert one["responseStatus"]["code"] == 201, one
            name = "-".join(one["objectRef"]["name"].split("-")[:2])
            written[name].append(f"{one['objectRef']['resource']}/{one['objectRef']['name']}")
    assert len(written) == MANY
    for children in written.values():
        assert children[0].startswith("configmaps/")
        assert max(Counter(children).values()) == 1, children
