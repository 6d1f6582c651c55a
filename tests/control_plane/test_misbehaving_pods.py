"""Pods that misbehave under a real control plane: what the status says of each, and how the experiment fares.

All cases live at once; what a kubelet would say, the test writes into the pods' statuses. Waits that are minutes long
are shortened. What a real kubelet says is tried in tests/nodes.
"""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.control_plane.life import experiment
from tests.control_plane.stand import HOPELESS_S, Case, Stand, play

from ada_operator.cluster import PODS
from ada_operator.observed import Manifest

PULL = 'failed to resolve reference "registry.example/ada:9": '
STUCK = "test.ada.dev/stuck"


@dataclass
class PlayedStand(Stand):
    """An experiment, and hands to do to its pods what nodes do."""

    async def tell(self, pod: Manifest, phase: str, state: dict[str, Any], **more: Any) -> None:
        """Write into a pod's status what a kubelet would; KWOK lets it be."""
        await self.patch(pod, {"metadata": {"annotations": {"test.ada.dev/pending": "yes"}}})
        container = pod["spec"]["containers"][0]
        written = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": False,
            "state": state,
        }
        told = {**written, "restartCount": more.pop("restarts", 0), "lastState": more.pop("last", {})}
        unready = {"type": "Ready", "status": "False", "lastTransitionTime": now()}
        placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
        status = {"phase": phase, "containerStatuses": [told], "conditions": [placed, unready], **more}
        await self.patch(pod, {"status": status}, "status")

    async def block(self, part: str, reason: str, message: str) -> Manifest:
        """Have a part's pod wait for what the kubelet says."""
        pod = await self.pod(part)
        await self.tell(pod, "Pending", {"waiting": {"reason": reason, "message": message}})
        return pod

    async def start(self, pod: Manifest) -> None:
        """Have a pod that was kept from starting run and be ready."""
        container = pod["spec"]["containers"][0]
        running = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        running |= {"ready": True, "state": {"running": {"startedAt": now()}}, "lastState": {}}
        kinds = ("PodScheduled", "ContainersReady", "Ready")
        conditions = [{"type": kind, "status": "True", "lastTransitionTime": now()} for kind in kinds]
        status = {"phase": "Running", "containerStatuses": [running], "conditions": conditions}
        await self.patch(pod, {"status": status}, "status")

    async def end(self, code: int, ended_for: str = "Error", **more: Any) -> None:
        """End the trainer's pod."""
        pod = await self.pod("trainer")
        ended = {"exitCode": code, "reason": ended_for, "message": f"end with {code}", "finishedAt": now()}
        await self.tell(pod, "Failed", {"terminated": ended}, **more)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def an_image_that_is_not_there(stand: PlayedStand) -> None:
    pod = await stand.block("trainer", "ErrImagePull", PULL + "registry.example/ada:9: not found")
    await stand.said("Degraded", "PodsBlocked", pod["metadata"]["name"])
    await stand.said("Failed", "ImageUnavailable", pod["metadata"]["name"], "registry.example/ada:9: not found")


async def a_registry_that_is_away_for_a_while(stand: PlayedStand) -> None:
    pod = await stand.block("trainer", "ErrImagePull", PULL + "dial tcp 10.0.0.7:443: connect: connection refused")
    await stand.said("Degraded", "PodsBlocked", "connection refused")
    await asyncio.sleep(2 * HOPELESS_S)
    assert (await stand.condition("Failed"))["status"] == "False"
    await stand.start(pod)  # it is back
    await stand.learn(250)
    assert (await stand.condition("Degraded"))["status"] == "False"


async def a_setting_that_is_not_there(stand: PlayedStand) -> None:
    await stand.block("simulator", "CreateContainerConfigError", 'secret "wandb" not found')
    await stand.said("Failed", "ConfigurationError", 'secret "wandb" not found')


async def no_memory_again_and_again(stand: PlayedStand) -> None:
    await stand.learn(250)
    await stand.end(137, "OOMKilled")
    await stand.learn(251)
    await stand.end(137, "OOMKilled")
    await stand.said("Failed", "OutOfMemory", "raise its memory limit")
    assert (await stand.status())["stages"][0]["restarts"]["outOfMemory"] == 2


async def a_trainer_that_crashes_again_and_again(stand: PlayedStand) -> None:
    await stand.learn(250)
    await stand.end(1)
    await stand.learn(251)
    await stand.end(1)
    await stand.said("Failed", "TooManyFailures", "end with 1")


async def a_server_in_a_crash_loop(stand: PlayedStand) -> None:
    pod = await stand.pod("rendezvous")
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "address in use", "finishedAt": now()}}
    loop = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    await stand.tell(pod, "Running", loop, last=last, restarts=2)
    await stand.said("Degraded", "PodsCrash", "crashed 2 times", "address in use")
    await stand.tell(pod, "Running", loop, last=last, restarts=6)
    await stand.said("Failed", "CrashLoop", pod["metadata"]["name"], "address in use")


async def no_node_that_fits(stand: PlayedStand) -> None:
    """Its node selector, set when the experiment is made, is nowhere: the real scheduler says so."""
    await stand.said("Degraded", "PodsBlocked", "finds no place", "node(s)")
    assert (await stand.condition("Failed"))["status"] == "False"


async def an_eviction(stand: PlayedStand) -> None:
    await stand.learn(250)
    for frames in (251, 252, 253):
        await stand.end(1, reason="Evicted", message="The node was low on resource: memory.")
        await stand.learn(frames)
    restarts = (await stand.status())["stages"][0]["restarts"]
    assert restarts["code"] == restarts["outOfMemory"] == 0


async def a_node_that_is_drained(stand: PlayedStand) -> None:
    await stand.learn(250)
    drained = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
    for frames in (251, 252, 253):
        await stand.end(1, conditions=[{**drained, "lastTransitionTime": now()}])
        await stand.learn(frames)
    restarts = (await stand.status())["stages"][0]["restarts"]
    assert restarts["code"] == 0 and restarts["disruption"] > 0
    assert (await stand.status())["lostSeconds"]["disruption"] > 0


async def a_pod_that_does_not_end(stand: PlayedStand) -> None:
    """Its node is lost: it is told to go, and nobody there hears it."""
    await stand.learn(250)
    pod = await stand.pod("trainer")
    await stand.patch(pod, {"metadata": {"finalizers": [*pod["metadata"].get("finalizers", []), STUCK]}})
    path = PODS.path(stand.namespace, pod["metadata"]["name"])
    await stand.cluster._request("DELETE", path, {}, {"gracePeriodSeconds": 1})
    try:
        await stand.said("Degraded", "PodStuck", pod["metadata"]["name"], "it is not waited for")
    finally:
        await stand.patch(pod, {"metadata": {"finalizers": None}})
    await stand.learn(251)
    assert (await stand.status())["restarts"] <= 1


async def readiness_that_flaps(stand: PlayedStand) -> None:
    pod = await stand.pod("simulator")

    async def ready(yes: bool) -> None:
        truth = "True" if yes else "False"
        conditions = [
            {"type": kind, "status": truth, "lastTransitionTime": now()} for kind in ("Ready", "ContainersReady")
        ]
        await stand.patch(pod, {"status": {"conditions": conditions}}, "status")

    for number in range(10):
        await ready(number % 2 == 1)
        await asyncio.sleep(0.2)
        assert (await stand.condition("Degraded"))["status"] != "True"
    await ready(False)
    await stand.said("Degraded", "PodsNotReady", pod["metadata"]["name"])
    await ready(True)
    await stand.learn(250)
    assert (await stand.condition("Degraded"))["status"] == "False"


CASES = (
    an_image_that_is_not_there,
    a_registry_that_is_away_for_a_while,
    a_setting_that_is_not_there,
    no_memory_again_and_again,
    a_trainer_that_crashes_again_and_again,
    a_server_in_a_crash_loop,
    no_node_that_fits,
    an_eviction,
    a_node_that_is_drained,
    a_pod_that_does_not_end,
    readiness_that_flaps,
)
BUDGETS = {"no_memory_again_and_again": 1, "a_trainer_that_crashes_again_and_again": 1}  # else 0


def experiment_of(case: Case, namespace: str) -> Manifest:
    """Return the experiment of a case."""
    found = experiment(namespace)
    found["spec"]["failurePolicy"] = {"maxCodeFailures": BUDGETS.get(case.__name__, 0)}
    if case is no_node_that_fits:
        found["spec"]["stages"][0]["trainer"] = {"pod": {"nodeSelector": {"nobody": "has-this"}}}
    return found


@pytest.fixture(scope="module")
def ends(plane: Any) -> dict[str, BaseException | None]:
    """What came of every case, by name."""
    return play(plane.kubectl, CASES, experiment_of, PlayedStand)


@pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_each_misbehaviour_is_named_and_only_what_cannot_be_mended_fails(ends, case):
    if ends[case] is not None:
        raise ends[case]
