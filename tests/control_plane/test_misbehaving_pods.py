"""Pods that misbehave under a real control plane: what the status says of each, and how the experiment fares.

All cases live at once, each in a namespace with an operator of its own; what a kubelet would say, the test writes into
the pods' statuses. Waits that are minutes long are shortened.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.cluster.processes import wait_until
from tests.control_plane import operators
from tests.control_plane.life import NAME, Services, ask_quickly, experiment, services
from tests.control_plane.operators import PatientCluster, lead

from ada_operator import blocked_pods, start_failure, view
from ada_operator.cluster import EXPERIMENTS, PODS, Cluster, load_configuration
from ada_operator.observed import Manifest

HOPELESS_S, PATIENCE_S, LINGER_S = 4.0, 3.0, 3.0
TIMEOUT_S = 300.0
MERGE = "application/merge-patch+json"
PULL = 'failed to resolve reference "registry.example/ada:9": '
STUCK = "test.ada.dev/stuck"


@dataclass
class Stand:
    """One experiment, and hands to do to its pods what nodes do."""

    cluster: Cluster  # an administrator's
    services: Services
    namespace: str

    async def status(self) -> dict[str, Any]:
        """Return the experiment's status."""
        found = await self.cluster.get(EXPERIMENTS, self.namespace, NAME)
        return (found or {}).get("status") or {}

    async def condition(self, kind: str) -> dict[str, str]:
        """Return a condition; an empty one if it is not there."""
        conditions = (await self.status()).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {"status": "", "reason": "", "message": ""})

    async def until(self, what: str, probe: Callable[[], Awaitable[Any]]) -> Any:
        """Wait for something."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if found := await probe():
                return found
            await asyncio.sleep(0.5)
        raise AssertionError(f"no {what}: {json.dumps(await self.status(), indent=1)}")

    async def said(self, kind: str, reason: str, *words: str) -> None:
        """Wait until a condition holds for a reason, with these words."""

        async def holds() -> bool:
            found = await self.condition(kind)
            return found["status"] == "True" and found["reason"] == reason and all(w in found["message"] for w in words)

        await self.until(f"{kind} for {reason} with {words}", holds)

    async def pod(self, part: str) -> Manifest:
        """Wait for a part's first pod that runs and is not on its way out, and return it."""

        async def found() -> Manifest | None:
            pods = await self.cluster.list(PODS, self.namespace, {"ada.dev/part": part})
            running = (
                one
                for one in sorted(pods, key=lambda one: str(one["metadata"]["name"]))
                if one["status"].get("phase") == "Running" and "deletionTimestamp" not in one["metadata"]
            )
            return next(running, None)

        return await self.until(f"pod of {part}", found)

    async def patch(self, pod: Manifest, body: dict[str, Any], *subresource: str) -> None:
        """Patch a pod, or its status."""
        path = "/".join((PODS.path(self.namespace, pod["metadata"]["name"]), *subresource))
        await self.cluster._request("PATCH", path, {}, body, MERGE)

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

    async def learn(self, frames: int) -> None:
        """Have the teacher's group learn, and wait until the status shows it."""
        await self.pod("trainer")
        known = self.services.stages[self.namespace].setdefault("teacher", {"stage": "teacher"})
        known |= {"generation": 1, "phase": "training", "frames": frames, "updates": 10, "last_progress": time.time()}

        async def trains() -> bool:
            status = await self.status()
            return status.get("phase") == "Training" and status.get("frames") == frames

        await self.until(f"{frames} frames", trains)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def an_image_that_is_not_there(stand: Stand) -> None:
    pod = await stand.block("trainer", "ErrImagePull", PULL + "registry.example/ada:9: not found")
    await stand.said("Degraded", "PodsBlocked", pod["metadata"]["name"])
    await stand.said("Failed", "ImageUnavailable", pod["metadata"]["name"], "registry.example/ada:9: not found")


async def a_registry_that_is_away_for_a_while(stand: Stand) -> None:
    pod = await stand.block("trainer", "ErrImagePull", PULL + "dial tcp 10.0.0.7:443: connect: connection refused")
    await stand.said("Degraded", "PodsBlocked", "connection refused")
    await asyncio.sleep(2 * HOPELESS_S)
    assert (await stand.condition("Failed"))["status"] == "False"
    await stand.start(pod)  # it is back
    await stand.learn(250)
    assert (await stand.condition("Degraded"))["status"] == "False"


async def a_setting_that_is_not_there(stand: Stand) -> None:
    await stand.block("simulator", "CreateContainerConfigError", 'secret "wandb" not found')
    await stand.said("Failed", "ConfigurationError", 'secret "wandb" not found')


async def no_memory_again_and_again(stand: Stand) -> None:
    await stand.learn(250)
    await stand.end(137, "OOMKilled")
    await stand.learn(251)
    await stand.end(137, "OOMKilled")
    await stand.said("Failed", "OutOfMemory", "raise its memory limit")
    assert (await stand.status())["stages"][0]["restarts"]["outOfMemory"] == 2


async def a_trainer_that_crashes_again_and_again(stand: Stand) -> None:
    await stand.learn(250)
    await stand.end(1)
    await stand.learn(251)
    await stand.end(1)
    await stand.said("Failed", "TooManyFailures", "end with 1")


async def a_server_in_a_crash_loop(stand: Stand) -> None:
    pod = await stand.pod("rendezvous")
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "address in use", "finishedAt": now()}}
    loop = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    await stand.tell(pod, "Running", loop, last=last, restarts=2)
    await stand.said("Degraded", "PodsCrash", "crashed 2 times", "address in use")
    await stand.tell(pod, "Running", loop, last=last, restarts=6)
    await stand.said("Failed", "CrashLoop", pod["metadata"]["name"], "address in use")


async def no_node_that_fits(stand: Stand) -> None:
    """Its node selector, set when the experiment is made, is nowhere: the real scheduler says so."""
    await stand.said("Degraded", "PodsBlocked", "finds no place", "node(s)")
    assert (await stand.condition("Failed"))["status"] == "False"


async def an_eviction(stand: Stand) -> None:
    await stand.learn(250)
    for frames in (251, 252, 253):
        await stand.end(1, reason="Evicted", message="The node was low on resource: memory.")
        await stand.learn(frames)
    restarts = (await stand.status())["stages"][0]["restarts"]
    assert restarts["code"] == restarts["outOfMemory"] == 0


async def a_node_that_is_drained(stand: Stand) -> None:
    await stand.learn(250)
    drained = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
    for frames in (251, 252, 253):
        await stand.end(1, conditions=[{**drained, "lastTransitionTime": now()}])
        await stand.learn(frames)
    restarts = (await stand.status())["stages"][0]["restarts"]
    assert restarts["code"] == 0 and restarts["disruption"] > 0
    assert (await stand.status())["lostSeconds"]["disruption"] > 0


async def a_pod_that_does_not_end(stand: Stand) -> None:
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


async def readiness_that_flaps(stand: Stand) -> None:
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


def experiment_of(case: str, namespace: str) -> Manifest:
    """Return the experiment of a case."""
    found = experiment(namespace)
    found["spec"]["failurePolicy"] = {"maxCodeFailures": BUDGETS.get(case, 0)}
    if case == "no_node_that_fits":
        found["spec"]["stages"][0]["trainer"] = {"pod": {"nodeSelector": {"nobody": "has-this"}}}
    return found


@pytest.fixture(scope="module")
def ends(plane: Any) -> Iterator[dict[str, Exception | None]]:
    """What came of every case, by name."""
    spaces = {case.__name__: f"pods-{os.getpid()}-{number}" for number, case in enumerate(CASES)}
    plane.kubectl.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in spaces.values())
    )
    for name in spaces.values():
        wait_until(
            "default service account",
            lambda name=name: plane.kubectl.run("get", "serviceaccount", "default", f"-n={name}").returncode == 0,
        )
    plane.kubectl.apply(*(experiment_of(case, name) for case, name in spaces.items()))
    with pytest.MonkeyPatch.context() as monkeypatch:
        ask_quickly(monkeypatch)
        monkeypatch.setattr(operators, "PAUSE_S", 0.5)  # many share a machine, and each look lists everything
        monkeypatch.setattr(start_failure, "HOPELESS_S", HOPELESS_S)
        monkeypatch.setattr(blocked_pods, "PATIENCE_S", PATIENCE_S)
        for module in (blocked_pods, view):
            monkeypatch.setattr(module, "LINGER_S", LINGER_S)
        yield asyncio.run(every_case(str(plane.kubeconfig), spaces))
    plane.kubectl.run("delete", "namespace", *spaces.values(), "--wait=false")


async def every_case(kubeconfig: str, spaces: dict[str, str]) -> dict[str, Any]:
    """Play all cases at once; return what each raised."""
    admin = PatientCluster(await load_configuration(kubeconfig))
    try:
        async with services() as served, leaders(kubeconfig, served.url, spaces.values()):
            played = (case(Stand(admin, served, spaces[case.__name__])) for case in CASES)
            found = await asyncio.gather(*played, return_exceptions=True)
    finally:
        await admin.close()
    return dict(zip(spaces, found, strict=True))


@asynccontextmanager
async def leaders(kubeconfig: str, url: str, namespaces: Any) -> AsyncIterator[None]:
    """Have an operator for each namespace."""
    cluster = Cluster(await load_configuration(kubeconfig))
    leading = [asyncio.create_task(lead(cluster, url, namespace)) for namespace in namespaces]
    try:
        yield
        assert not [task for task in leading if task.done()], "an operator ended"
    finally:
        for task in leading:
            task.cancel()
        await asyncio.gather(*leading, return_exceptions=True)
        await cluster.close()


@pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_each_misbehaviour_is_named_and_only_what_cannot_be_mended_fails(ends, case):
    if ends[case] is not None:
        raise ends[case]
