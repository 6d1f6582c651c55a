"""NetworkPolicies hold: pods that belong to an experiment reach it, and pods that do not try and fail.

The policies are the operator's and the chart's own. Behind the ports stand programs that take any connection, so that
all of them can be tried within a minute; `test_chart_on_a_node.py` tries those of a real experiment.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.build import missing_programs
from tests.cluster.control_plane import Kubectl, has_default_account
from tests.cluster.helm import render
from tests.cluster.nodes import NodeCluster
from tests.cluster.processes import wait_until
from tests.nodes.reach import Place, pod, wait_until_reached

from ada_api.experiment import AdaExperiment
from ada_operator import names
from ada_operator.manifests.infrastructure import network_policy
from ada_operator.observed import Platform

OURS, SYSTEM, ELSEWHERE = SPACES = ("policies", "policies-system", "policies-elsewhere")
ASKED = {"curriculum": names.CURRICULUM_PORT, "rendezvous": names.RENDEZVOUS_PORT, "simulator": names.SIMULATOR_PORT}
GLOO_PORT = 40_000  # one of those on which torch lets workers meet
PORTS = {part: {"health": health, "asked": ASKED.get(part, GLOO_PORT)} for part, health in names.HEALTH_PORTS.items()}
RELEASE_PORTS = {"operator": {"http": 8080}, "store": {"s3": 9000}}
PLATFORM = Platform(operator_namespace=SYSTEM)


def policy_of(name: str, platform: Platform = PLATFORM) -> dict[str, Any]:
    """Return an experiment's policy as the operator applies it, without its owner."""
    document = {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": name, "namespace": OURS, "uid": "0"},
        "spec": {"stages": [{"name": "teacher", "frames": 10}]},
    }
    found = dict(network_policy(AdaExperiment.model_validate(document), platform))
    del found["metadata"]["ownerReferences"]
    return found


def of_the_chart() -> list[dict[str, Any]]:
    """Return the chart's policies, and pods with the labels of those that it makes."""
    rendered = render({"developmentStore": {"enabled": True}})
    policies = [one for one in rendered if one["kind"] == "NetworkPolicy"]
    for policy in policies:
        policy["metadata"]["namespace"] = SYSTEM
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in rendered if one["kind"] == "Deployment"]
    component = "app.kubernetes.io/component"
    return [*policies, *(pod(SYSTEM, one[component], one, RELEASE_PORTS[one[component]]) for one in labels)]


class Pods:
    """The pods of two experiments, of a release, and strangers."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        made = [pod(OURS, part, names.labels("quick", part), ports) for part, ports in PORTS.items()]
        made.append(pod(OURS, "other", names.labels("quick-2", "trainer")))
        made += [pod(space, "stranger", {}) for space in SPACES]
        kubectl.apply(*made, *of_the_chart(), policy_of("quick"), policy_of("quick-2"))
        for space in SPACES:
            kubectl("wait", f"--namespace={space}", "--for=condition=Ready", "--timeout=180s", "pod", "--all")
        self.health = {(self.address(OURS, part), port) for part, port in names.HEALTH_PORTS.items()}
        self.asked = {part: (self.address(OURS, part), ports["asked"]) for part, ports in PORTS.items()}
        self.release = {
            part: (self.address(SYSTEM, part), port) for part, ports in RELEASE_PORTS.items() for port in ports.values()
        }

    def address(self, space: str, name: str) -> str:
        return self.kubectl("get", "pod", name, f"--namespace={space}", "--output=jsonpath={.status.podIP}")

    def reach(self, space: str, name: str, more: set[Place]) -> None:
        """Wait until a pod reaches health, the operator's metrics, and what is named, and nothing else."""
        everything = self.health | set(self.asked.values()) | set(self.release.values())
        open_to_all = self.health | {self.release["operator"]}
        wait_until_reached(self.kubectl, space, name, everything, open_to_all | more)


@pytest.fixture
def pods(cluster: NodeCluster) -> Iterator[Pods]:
    if missing_programs("helm"):
        pytest.skip("helm not built: run `python tests/cluster/build.py helm`")
    kubectl, labels = cluster.kubectl, {"pod-security.kubernetes.io/enforce": "restricted"}
    for space in SPACES:
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": labels}})
        wait_until("default service account", lambda space=space: has_default_account(kubectl, space))
    yield Pods(kubectl)
    for space in SPACES:
        kubectl.run("delete", "namespace", space, "--wait=false")


@pytest.mark.timeout(600)
def test_only_who_belongs_to_an_experiment_reaches_it(pods: Pods) -> None:
    pods.reach(OURS, "trainer", {*pods.asked.values(), pods.release["store"]})
    pods.reach(SYSTEM, "operator", {pods.asked["curriculum"]})
    pods.reach(SYSTEM, "stranger", {pods.asked["curriculum"]})  # the namespace is trusted, not the pod
    pods.reach(OURS, "other", {pods.release["store"]})  # the store is one for all, its keys are not
    pods.reach(OURS, "stranger", set())
    pods.reach(ELSEWHERE, "stranger", set())

    # That it is the policies that hold: without one everything is open.
    pods.kubectl.apply(policy_of("quick", Platform()))
    pods.reach(ELSEWHERE, "stranger", {pods.asked["curriculum"]})
    pods.kubectl("delete", "networkpolicies", "--all", f"--namespace={OURS}")
    pods.reach(ELSEWHERE, "stranger", set(pods.asked.values()))
