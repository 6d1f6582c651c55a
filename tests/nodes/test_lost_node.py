"""A node that loses its power while it trains: named, not waited for, not held against the run; and taken back."""

import asyncio
import os
import time
from typing import Any

import pytest
from tests.cluster.nodes import ROOT, NodeCluster
from tests.control_plane.life import experiment
from tests.control_plane.stand import Case, Stand, play
from tests.nodes.misbehaving import PLATFORM

from ada_operator.cluster import PODS
from ada_operator.observed import Manifest

LOST = 2  # the number of the node
AT_ONCE = [
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    for what in ("unreachable", "not-ready")
]
TAINT = "test.ada.dev/lost"  # keeps all others off that node


def experiment_of(case: Case, namespace: str) -> Manifest:
    """Return an experiment whose trainer prefers the node that is lost; everything else stays off it."""
    found = experiment(namespace)
    stage = found["spec"]["stages"][0]
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [f"node-{LOST}"]}
    preference = {"weight": 100, "preference": {"matchExpressions": [there]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}
    stage["trainer"] = {"pod": {"affinity": affinity, "tolerations": [*AT_ONCE, {"key": TAINT, "operator": "Exists"}]}}
    found["spec"] |= {"stages": [stage], "failurePolicy": {"maxCodeFailures": 0, "stallSeconds": 120}}
    return found


@pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")
@pytest.mark.timeout(1200)
def test_a_node_whose_power_is_cut_is_named_and_the_training_goes_on_elsewhere(cluster: NodeCluster) -> None:
    cluster.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/adaexperiments.ada.dev")
    name = f"node-{LOST}"

    async def power_cut(stand: Stand) -> None:
        await stand.learn(250)
        pod = await stand.pod("trainer")
        (found,) = await trainers(stand)
        assert found["spec"]["nodeName"] == name
        began = time.monotonic()
        cluster.power_cut(name)
        await stand.said("Degraded", "PodsNotReady", pod["metadata"]["name"])
        print(f"not ready after {time.monotonic() - began:.0f} s")

        await stand.said("Degraded", "PodStuck", pod["metadata"]["name"], f"is {name} lost?")
        print(f"stuck after {time.monotonic() - began:.0f} s")

        async def replaced() -> bool:
            running = [one for one in await trainers(stand) if one["spec"].get("nodeName") == "node-1"]
            return bool(running and running[0]["status"].get("phase") == "Running")

        await stand.until("trainer on the other node", replaced)
        print(f"runs elsewhere after {time.monotonic() - began:.0f} s")
        status = await stand.status()
        generation = status["stages"][0]["generation"]
        await stand.learn(300, generation)
        print(f"trains again after {time.monotonic() - began:.0f} s: {status['stages'][0]['restarts']}")
        assert (await stand.condition("Failed"))["status"] == "False"
        counted = status["stages"][0]["restarts"]
        assert counted["disruption"] == 1 and sum(counted.values()) == 1, counted
        await asyncio.to_thread(cluster.power_on, LOST)
        await asyncio.to_thread(cluster.wait_for_node, LOST)

        async def nothing_is_left() -> bool:
            return pod["metadata"]["uid"] not in [one["metadata"]["uid"] for one in await trainers(stand)]

        await stand.until("end of the lost pod", nothing_is_left)
        assert (await stand.status())["stages"][0]["generation"] == generation

    async def trainers(stand: Stand) -> list[dict[str, Any]]:
        return await stand.cluster.list(PODS, stand.namespace, {"ada.dev/part": "trainer"})

    cluster.power_on(LOST)
    cluster.wait_for_node(LOST)
    cluster.kubectl("taint", "node", name, f"{TAINT}=yes:NoSchedule")
    try:
        (error,) = play(cluster.kubectl, [power_cut], experiment_of, platform=PLATFORM).values()
    finally:
        if name in cluster.machines:
            cluster.power_cut(name)
        cluster.kubectl.run("delete", "node", name)
    if error is not None:
        raise error
