"""Pods that misbehave on a real node: real kubelet, real limits, real probes, a real registry that lacks the image.

The pods are those that the operator makes, but for the programs in them (tests/nodes/stub), which do what a case asks
for. All cases live at once, each with an operator of its own; the operator's long waits are shortened.
"""

import asyncio
import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.cluster.nodes import ROOT, NodeCluster
from tests.control_plane.life import NAME, experiment
from tests.control_plane.stand import HOPELESS_S, Case, Stand, play
from tests.nodes.misbehaving import PLATFORM

from ada_operator import names
from ada_operator.cluster import EXPERIMENTS, PODS
from ada_operator.observed import Manifest

REGISTRY, AWAY = "registry.test", "registry-that-is-away.test"


def doing(what: str, **more: Any) -> dict[str, Any]:
    """Return the overrides of a part whose program misbehaves."""
    return {"pod": {"env": [{"name": "ADA_STUB", "value": what}], **more}}


def limited(**limits: str) -> dict[str, Any]:
    """Return resources with these limits, and requests that any node has."""
    return {"resources": {"limits": limits, "requests": dict.fromkeys(limits, "1Mi")}}


async def an_image_that_its_registry_does_not_have(stand: Stand) -> None:
    await stand.said("Degraded", "PodsBlocked", f"{REGISTRY}/ada:9")
    await stand.said("Failed", "ImageUnavailable", f"image {REGISTRY}/ada:9", "not found")


async def a_registry_that_is_away(stand: Stand) -> None:
    await stand.said("Degraded", "PodsBlocked", f"{AWAY}/ada:9")
    await asyncio.sleep(3 * HOPELESS_S)
    assert (await stand.condition("Failed"))["status"] == "False"


async def a_setting_that_is_not_there(stand: Stand) -> None:
    await stand.said("Failed", "ConfigurationError", 'secret "wandb" not found')


async def no_node_that_fits(stand: Stand) -> None:
    await stand.said("Degraded", "PodsBlocked", "finds no place", "node(s)")
    assert (await stand.condition("Failed"))["status"] == "False"


async def a_server_in_a_crash_loop(stand: Stand) -> None:
    await stand.said("Degraded", "PodsCrash", "exit code 1", "the stub was asked to crash")
    await stand.said("Failed", "CrashLoop", "the stub was asked to crash")


async def a_server_that_uses_more_memory_than_its_limit(stand: Stand) -> None:
    await stand.said("Failed", "OutOfMemory", "simulator ran out of memory (limit 64Mi)")


async def a_trainer_that_crashes(stand: Stand) -> None:
    await stand.said("Failed", "TooManyFailures", "exit code 1", "the stub was asked to crash")
    assert (await stand.status())["stages"][0]["restarts"]["code"] == 2


async def a_trainer_that_uses_more_memory_than_its_limit(stand: Stand) -> None:
    await stand.said("Failed", "OutOfMemory", "trainer ran out of memory (limit 64Mi)")


async def a_worker_that_uses_more_memory_than_its_limit(stand: Stand) -> None:
    await stand.said("Failed", "OutOfMemory", "trainer ran out of memory (limit 64Mi)")


async def readiness_that_flaps(stand: Stand) -> None:
    pod = await stand.pod("simulator")
    url = f"http://{pod['status']['podIP']}:{names.HEALTH_PORTS['simulator']}/ready"

    async def ready(yes: bool) -> None:
        request = urllib.request.Request(f"{url}/{'yes' if yes else 'no'}", method="POST")
        with await asyncio.to_thread(urllib.request.urlopen, request, None, 10):
            pass

    async def since() -> Any:
        conditions = (await stand.pod("simulator"))["status"]["conditions"]
        return next(one["lastTransitionTime"] for one in conditions if one["type"] == "Ready")

    await stand.learn(250)
    before = await since()
    for number in range(6):  # the probe asks every two seconds, and three answers in a row count
        await ready(number % 2 == 1)
        await asyncio.sleep(0.5)
    degraded = await stand.condition("Degraded")
    if await since() == before:  # else the machine was so slow that the kubelet heard three
        assert pod["metadata"]["name"] not in degraded["message"], degraded
    await ready(False)
    await stand.said("Degraded", "PodsNotReady", pod["metadata"]["name"])
    await ready(True)

    async def well() -> bool:
        return (await stand.condition("Degraded"))["status"] == "False"

    await stand.until("end of the trouble", well)
    assert (await stand.status())["restarts"] == 0


async def a_pod_that_is_evicted_as_by_a_drain(stand: Stand) -> None:
    await stand.learn(250)
    pod = await stand.pod("trainer")
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": stand.namespace}}
    await stand.cluster._request("POST", f"{PODS.path(stand.namespace, name)}/eviction", {}, body)
    await counts_as_a_disruption(stand, pod)


async def a_pod_that_the_kubelet_evicts(stand: Stand) -> None:
    """Its container writes more than its limit of the node's disk."""
    await counts_as_a_disruption(stand, await stand.pod("trainer"))


async def counts_as_a_disruption(stand: Stand, pod: Manifest) -> None:
    """Wait until a pod is replaced and counted, and nothing else is."""

    async def counted() -> bool:
        return bool((await stand.status())["stages"][0]["restarts"]["disruption"] > 0)

    async def replaced() -> bool:
        return bool((await stand.pod("trainer"))["metadata"]["uid"] != pod["metadata"]["uid"])

    await stand.until("disruption", counted)
    await stand.until("replacement", replaced)
    found = (await stand.status())["stages"][0]["restarts"]
    assert found["code"] == found["outOfMemory"] == 0
    assert (await stand.condition("Failed"))["status"] == "False"


async def a_pod_that_does_not_end_when_it_is_told_to(stand: Stand) -> None:
    """It ignores SIGTERM: suspended is said when the kubelet has killed it, not before."""
    pod = await stand.pod("trainer")
    body = {"spec": {"suspend": True}}
    merge = "application/merge-patch+json"
    await stand.cluster._request("PATCH", EXPERIMENTS.path(stand.namespace, NAME), {}, body, merge)

    async def is_suspended() -> bool:
        there = await stand.cluster.get(PODS, stand.namespace, pod["metadata"]["name"])
        suspended = (await stand.status())["phase"] == "Suspended"
        assert there is None or not suspended, "suspended, and its pod runs"
        return suspended

    await stand.until("suspension", is_suspended)


SIMULATORS: dict[Case, dict[str, Any]] = {
    an_image_that_its_registry_does_not_have: {"pod": {"image": f"{REGISTRY}/ada:9"}},
    a_registry_that_is_away: {"pod": {"image": f"{AWAY}/ada:9"}},
    a_setting_that_is_not_there: {
        "pod": {"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}}}]}
    },
    no_node_that_fits: {"pod": {"nodeSelector": {"nobody": "has-this"}}},
    a_server_in_a_crash_loop: doing("crash"),
    a_server_that_uses_more_memory_than_its_limit: doing("use memory", **limited(memory="64Mi")),
    readiness_that_flaps: {},
}
TRAINERS: dict[Case, dict[str, Any]] = {
    a_trainer_that_crashes: doing("crash"),
    a_trainer_that_uses_more_memory_than_its_limit: doing("use memory", **limited(memory="64Mi")),
    a_worker_that_uses_more_memory_than_its_limit: doing("have a child use memory", **limited(memory="64Mi")),
    a_pod_that_is_evicted_as_by_a_drain: {},
    a_pod_that_the_kubelet_evicts: doing("fill the disk", **limited(**{"ephemeral-storage": "1Mi"})),
    a_pod_that_does_not_end_when_it_is_told_to: doing("ignore"),
}
CASES = (*SIMULATORS, *TRAINERS)
BUDGETS: dict[Case, int] = {a_trainer_that_crashes: 1}  # else 0


def experiment_of(case: Case, namespace: str) -> Manifest:
    """Return the experiment of a case: a stage of one simulator and one node."""
    found = experiment(namespace)
    stage = found["spec"]["stages"][0]
    stage |= {"simulators": SIMULATORS.get(case, {}), "trainer": TRAINERS.get(case, {})}
    found["spec"] |= {"stages": [stage], "failurePolicy": {"maxCodeFailures": BUDGETS.get(case, 0)}}
    return found


class NoSuchImage(BaseHTTPRequestHandler):
    """A registry that has nothing."""

    def do_GET(self) -> None:
        """Answer as the distribution specification says."""
        found = self.path == "/v2/"
        body = b"{}" if found else b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def registries(cluster: NodeCluster) -> Iterator[None]:
    """Have node-1 reach one registry that has no image, and another at which nobody listens."""
    server = ThreadingHTTPServer((cluster.network.host, 0), NoSuchImage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, port in ((REGISTRY, server.server_address[1]), (AWAY, 9)):
        folder = cluster.folder / "node-1" / "registries" / name
        folder.mkdir(parents=True, exist_ok=True)
        address = f"http://{cluster.network.host}:{port}"
        content = f'server = "{address}"\n[host."{address}"]\ncapabilities = ["pull", "resolve"]\n'
        (folder / "hosts.toml").write_text(content)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def ends(cluster: NodeCluster, request: pytest.FixtureRequest) -> dict[str, BaseException | None]:
    """What came of every case that is asked for, by name."""
    asked = {item.name for item in request.session.items}
    cases = [case for case in CASES if any(f"[{case.__name__}]" in name for name in asked)]
    cluster.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/adaexperiments.ada.dev")
    with registries(cluster):
        return play(cluster.kubectl, cases, experiment_of, platform=PLATFORM)


@pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_each_misbehaviour_is_named_and_only_what_cannot_be_mended_fails(
    ends: dict[str, BaseException | None], case: str
) -> None:
    found = ends[case]
    if found is not None:
        raise found
