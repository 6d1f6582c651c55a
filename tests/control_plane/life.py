"""Whole lives of a teacher and its student, played quickly: many at once, each in a namespace, in one event loop.

Pods are KWOK's. What trainers and evaluations would tell the curriculum service, `Life` puts into the answers of one
HTTP server that stands for all of them; it goes on only when the status shows what it said before, so that every life
takes the same steps whatever happens to the operator meanwhile.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ada_operator import curriculum_poll, work_queue
from ada_operator.cluster import CONFIG_MAPS, EXPERIMENTS, JOBS, LABELLED, PODS, STATEFUL_SETS, Cluster
from ada_operator.observed import Manifest

NAME = "demo"
FRAMES = {"teacher": 1000, "student": 2000}
SETTINGS = {f"ConfigMap/{NAME}-experiment"}
POLL_S = 0.2  # many lives look at one API server
DEADLINE_S = 900.0  # a life takes a minute, many at once under faults some


def experiment(namespace: str) -> Manifest:
    """Return an experiment of a teacher of one node and a student of up to two."""
    stages: list[dict[str, Any]] = [
        {"name": "teacher", "frames": FRAMES["teacher"]},
        {
            "name": "student",
            "frames": FRAMES["student"],
            "distillation": {"teacher": "teacher"},
            "trainer": {"nodes": {"min": 1, "max": 2}},
            "simulators": {"replicas": 2},
        },
    ]
    spec = {"stages": stages, "evaluation": {"trials": [1, 5]}, "failurePolicy": {"maxCodeFailures": 0}}
    metadata = {"name": NAME, "namespace": namespace}
    return {"apiVersion": "ada.dev/v1alpha1", "kind": "AdaExperiment", "metadata": metadata, "spec": spec}


class Services:
    """The curriculum services of all lives, behind one address."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)  # by namespace and stage
        self.url = ""

    async def progress(self, request: web.Request) -> web.Response:
        """Answer `GET /v1/progress`."""
        namespace = request.match_info["namespace"]
        return web.json_response({"experiment": f"{namespace}/{NAME}", "stages": list(self.stages[namespace].values())})

    async def suspend(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/suspend`."""
        self.stages[request.match_info["namespace"]][(await request.json())["stage"]]["phase"] = "committing"
        return web.json_response({})


@asynccontextmanager
async def services() -> AsyncIterator[Services]:
    """Serve the curriculum services of all lives."""
    running = Services()
    application = web.Application()
    application.add_routes(
        [
            web.get("/{namespace}/v1/progress", running.progress),
            web.post("/{namespace}/v1/suspend", running.suspend),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    running.url = f"http://{host}:{port}/{{namespace}}"
    try:
        yield running
    finally:
        await runner.cleanup()


@dataclass
class Life:
    """One experiment's pods and curriculum service."""

    cluster: Cluster  # an administrator's
    services: Services
    namespace: str
    made: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # uids by `kind/name`
    status: dict[str, Any] = field(default_factory=dict)

    async def play(self) -> None:
        """Play until the experiment has succeeded and only its settings are left."""
        deadline = time.monotonic() + DEADLINE_S
        while not await self._is_over():
            if time.monotonic() > deadline:
                left = sorted(await self.children() - SETTINGS)
                raise AssertionError(f"{self.namespace} did not end, {left}: {json.dumps(self.status, indent=1)}")
            await asyncio.sleep(POLL_S)

    async def _is_over(self) -> bool:
        found = await self.cluster.get(EXPERIMENTS, self.namespace, NAME)
        self.status = (found or {}).get("status") or {}
        jobs = await self.cluster.list(JOBS, self.namespace)
        for item in [*jobs, *await self.cluster.list(STATEFUL_SETS, self.namespace)]:
            self.made[f"{item['kind']}/{item['metadata']['name']}"].add(item["metadata"]["uid"])
        by_name = {job["metadata"]["name"]: job for job in jobs}
        for stage in FRAMES:
            await self._train(stage, by_name.get(f"{NAME}-{stage}-trainer"))
            if f"{NAME}-{stage}-evaluation" in by_name and "evaluation" not in self._known(stage):
                scores = [{"trials": k, "median": 0.5, "mean": 0.5, "percentile20": 0.1} for k in (1, 5)]
                self._known(stage)["evaluation"] = scores
                await self._end_pods("evaluation", stage)
        if self.status.get("phase") != "Succeeded":
            return False
        return await self.children() == SETTINGS

    def _known(self, stage: str) -> dict[str, Any]:
        return self.services.stages[self.namespace].setdefault(stage, {"stage": stage})

    async def _train(self, stage: str, job: Manifest | None) -> None:
        known, frames = self._known(stage), FRAMES[stage]
        shown = next((one for one in self.status.get("stages", []) if one["name"] == stage), {})
        if job is None or job["status"].get("ready", 0) < job["spec"]["parallelism"]:
            return
        generation = int(job["metadata"]["annotations"]["ada.dev/generation"])
        if known.get("generation", 0) < generation:
            known |= {"generation": generation, "phase": "training", "frames": 250, "updates": 10}
        elif shown.get("frames") == 250 and self.status["phase"] == "Training":
            known |= {"frames": frames // 2, "checkpoint": self._commit(stage, frames // 2)}
        elif shown.get("checkpoint", {}).get("frames") == frames // 2 and known["phase"] != "trained":
            known |= {"frames": frames, "checkpoint": self._commit(stage, frames), "phase": "trained"}
            await self._end_pods("trainer", stage)
        else:
            return
        known["last_progress"] = time.time()

    def _commit(self, stage: str, frames: int) -> dict[str, Any]:
        uri = f"file:///store/{stage}/{frames}"
        return {"uri": uri, "digest": f"sha256:{frames:064x}", "frames": frames, "time": time.time()}

    async def _end_pods(self, part: str, stage: str) -> None:
        labels = {"ada.dev/part": part, "ada.dev/stage": stage}
        pods: list[Manifest] = []
        while not pods:
            pods = await self.cluster.list(PODS, self.namespace, labels)
        for pod in pods:
            await annotate(self.cluster, pod, {"test.ada.dev/exit": "0"})

    async def children(self) -> set[str]:
        """Return `kind/name` of everything of the experiment's but its pods' remains and its token."""
        lists = [await self.cluster.list(one, self.namespace, {"ada.dev/experiment": NAME}) for one in LABELLED]
        return {f"{item['kind']}/{item['metadata']['name']}" for items in lists for item in items}

    async def end(self) -> dict[str, Any]:
        """Return how everything stands, object by object, but for times, identities and speeds."""
        settings = await self.cluster.get(CONFIG_MAPS, self.namespace, f"{NAME}-experiment")
        assert settings is not None
        events = await self.cluster._request("GET", f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")
        told = [item["note"] for item in events["items"] if item["regarding"]["kind"] == "AdaExperiment"]
        return {
            "status": timeless(self.status),
            "settings": {key: value.replace(self.namespace, "") for key, value in settings["data"].items()},
            "children": sorted(await self.children()),
            "made": {name: len(uids) for name, uids in sorted(self.made.items())},
            "told twice": sorted(note for note in set(told) if told.count(note) > 1),
        }


# What depends on when somebody looked, and nothing else.
TIMES = {
    "lastTransitionTime",
    "time",
    "startTime",
    "completionTime",
    "trainedTime",
    "looked",
    "trainingSeconds",
    "lostSeconds",
}
SPEEDS = {"goodput", "framesPerSecond"}


def timeless(value: Any) -> Any:
    """Return a status without its times and what follows from them."""
    match value:
        case dict():
            return {key: timeless(one) for key, one in value.items() if key not in TIMES | SPEEDS}
        case list():
            return [timeless(one) for one in value]
    return value


async def annotate(cluster: Cluster, pod: Manifest, annotations: dict[str, str]) -> None:
    """Set annotations of a pod, if it is still there."""
    path = PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"])
    try:
        body = {"metadata": {"annotations": annotations}}
        await cluster._request("PATCH", path, {}, body, "application/merge-patch+json")
    except Exception as error:
        if getattr(error, "status", None) != 404:
            raise


def ask_quickly(monkeypatch: Any) -> None:
    """Have progress read often, and what failed tried again soon, so that a life takes seconds."""
    monkeypatch.setattr(curriculum_poll, "SHORTEST_PAUSE_S", 0.2)
    monkeypatch.setattr(curriculum_poll, "LONGEST_PAUSE_S", 1.0)
    monkeypatch.setattr(work_queue, "LONGEST_BACKOFF_S", 4.0)
