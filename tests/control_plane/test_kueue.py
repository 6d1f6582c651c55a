"""Kueue itself: it holds groups, lets them go where there is room in a queue, and takes them back."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.build import missing_programs
from tests.cluster.control_plane import PROGRAMS, ControlPlane
from tests.cluster.kueue import kueue
from tests.control_plane.conftest import ROOT
from tests.control_plane.life import NAME
from tests.control_plane.stand import MERGE, Case, Stand, play
from tests.control_plane.test_queue_and_scale import experiment_of, job, trainers

from ada_operator.cluster import EXPERIMENTS, JOBS, Resource

pytestmark = [
    pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="a control plane of its own: ADA_TEST_LONG=1"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a folder for Kueue alone, which takes root"),
    pytest.mark.timeout(900),
]
VERSION = "kueue.x-k8s.io/v1beta2"
QUEUES = Resource(VERSION, "LocalQueue", "localqueues")


@pytest.fixture(scope="module")
def queued_plane() -> Iterator[ControlPlane]:
    """A control plane with Kueue."""
    if missing := missing_programs(*PROGRAMS, "kueue"):
        pytest.skip(f"{', '.join(missing)} not built: run `python tests/cluster/build.py`")
    with ControlPlane() as plane, kueue(plane):
        plane.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
        plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/adaexperiments.ada.dev")
        plane.kubectl.apply({"apiVersion": VERSION, "kind": "ResourceFlavor", "metadata": {"name": "any"}})
        yield plane


def queue_for(pods: int) -> list[dict[str, Any]]:
    """Return the resources of a queue with room for so many pods at once."""
    room = [{"name": "cpu", "nominalQuota": "100"}, {"name": "memory", "nominalQuota": "1Ti"}]
    room.append({"name": "pods", "nominalQuota": str(pods)})
    return [{"coveredResources": [one["name"] for one in room], "flavors": [{"name": "any", "resources": room}]}]


async def make_queue(stand: Stand, pods: int) -> None:
    """Make the queue that the experiment names, with room for so many pods at once."""
    spec = {"namespaceSelector": {}, "resourceGroups": queue_for(pods)}
    metadata = {"name": stand.namespace}
    path = f"/apis/{VERSION}/clusterqueues"
    whole = {"apiVersion": VERSION, "kind": "ClusterQueue", "metadata": metadata, "spec": spec}
    await stand.cluster._request("POST", path, {}, whole)
    local = {"apiVersion": VERSION, "kind": "LocalQueue", "metadata": {"name": "gpus", "namespace": stand.namespace}}
    local["spec"] = {"clusterQueue": stand.namespace}
    await stand.cluster._request("POST", QUEUES.path(stand.namespace), {}, local)


async def stop_queue(stand: Stand, policy: str) -> None:
    """Have the queue take everything back (HoldAndDrain), or go on (None)."""
    path = QUEUES.path(stand.namespace, "gpus")
    await stand.cluster._request("PATCH", path, {}, {"spec": {"stopPolicy": policy}}, MERGE)


async def held(stand: Stand) -> None:
    """Wait until the status says that the queue holds the group, and none of its pods is left."""

    async def is_held() -> bool:
        training = await stand.condition("Training")
        says = training["status"] == "False" and training["message"].endswith("is held by the queue gpus")
        return says and not await trainers(stand)

    await stand.until("group that the queue holds", is_held)


async def a_group_waits_for_its_queue_and_is_taken_back_and_let_go(stand: Stand) -> None:
    before = await job(stand)
    await held(stand)
    await make_queue(stand, 2)
    await stand.learn(250)
    await stop_queue(stand, "HoldAndDrain")
    await held(stand)
    await stop_queue(stand, "None")
    await stand.learn(300)
    status = await stand.status()
    assert (await job(stand))["metadata"]["uid"] == before["metadata"]["uid"]
    assert status["stages"][0]["generation"] == 1
    assert status["restarts"] == 0


async def a_group_waits_until_another_job_leaves_it_room(stand: Stand) -> None:
    await make_queue(stand, 1)
    container = {"name": "only", "image": "none", "command": ["sleep", "1e9"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    labels = {"kueue.x-k8s.io/queue-name": "gpus"}
    metadata = {"name": "other", "namespace": stand.namespace, "labels": labels}
    other = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}
    await stand.cluster.create(other)

    async def runs() -> bool:
        found = await stand.cluster._request("GET", JOBS.path(stand.namespace, "other"))
        return bool(found["status"].get("active"))

    await stand.until("other Job that runs", runs)
    path = f"/apis/{VERSION}/clusterqueues/{stand.namespace}"
    await stand.cluster._request("PATCH", path, {}, {"spec": {"resourceGroups": queue_for(2)}}, MERGE)
    await asyncio.sleep(3)  # in which it could be let go
    await held(stand)
    await stand.cluster.delete(JOBS, stand.namespace, "other")
    await stand.learn(250)
    assert len(await trainers(stand)) == 2


async def a_group_that_is_scaled_asks_its_queue_again(stand: Stand) -> None:
    await make_queue(stand, 2)
    await stand.learn(250)
    for nodes, frames in ((1, 300), (2, 350)):
        path = f"{EXPERIMENTS.path(stand.namespace, NAME)}/scale"
        await stand.cluster._request("PATCH", path, {}, {"spec": {"replicas": nodes}}, MERGE)

        async def has(nodes: int = nodes) -> bool:
            spec = (await job(stand))["spec"]
            return spec["parallelism"] == spec["completions"] == nodes and len(await trainers(stand)) == nodes

        await stand.until(f"{nodes} nodes", has)
        await stand.learn(frames)
    assert (await stand.status())["restarts"] == 0


CASES: tuple[Case, ...] = (
    a_group_waits_for_its_queue_and_is_taken_back_and_let_go,
    a_group_waits_until_another_job_leaves_it_room,
    a_group_that_is_scaled_asks_its_queue_again,
)


def test_kueue_holds_groups_lets_them_go_and_takes_them_back(queued_plane: Any) -> None:
    played = play(queued_plane.kubectl, CASES, experiment_of)
    assert {case: str(error)[:2000] for case, error in played.items() if error is not None} == {}
