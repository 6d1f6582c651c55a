"""Experiments side by side, each in a namespace with an operator of its own, and what tests do to their pods."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from tests.cluster.control_plane import Kubectl
from tests.cluster.processes import wait_until
from tests.control_plane import operators
from tests.control_plane.life import NAME, Services, ask_quickly, services
from tests.control_plane.operators import PatientCluster, lead

from ada_operator import blocked_pods, start_failure, view
from ada_operator.cluster import EXPERIMENTS, PODS, Cluster, load_configuration
from ada_operator.observed import Manifest, Platform

SERIAL = count(1)
HOPELESS_S, PATIENCE_S, LINGER_S = 4.0, 3.0, 3.0
TIMEOUT_S = 300.0
MERGE = "application/merge-patch+json"


@dataclass
class Stand:
    """One experiment, seen from outside."""

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

    async def learn(self, frames: int, generation: int = 1) -> None:
        """Have the teacher's group learn, and wait until the status shows it."""
        await self.pod("trainer")
        known = self.services.stages[self.namespace].setdefault("teacher", {"stage": "teacher"})
        now = time.time()
        known |= {"phase": "training", "frames": frames, "updates": 10, "last_progress": now, "generation": generation}

        async def trains() -> bool:
            status = await self.status()
            return status.get("phase") == "Training" and status.get("frames") == frames

        await self.until(f"{frames} frames", trains)


Case = Callable[[Any], Awaitable[None]]


def play(
    kubectl: Kubectl,
    cases: Sequence[Case],
    experiment: Callable[[Case, str], Manifest],
    make_stand: Callable[[Cluster, Services, str], Stand] = Stand,
    platform: Platform | None = None,
) -> dict[str, BaseException | None]:
    """Play all cases at once, with short waits; return by name what each raised."""
    spaces = {case.__name__: f"pods-{os.getpid()}-{next(SERIAL)}" for case in cases}
    kubectl.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in spaces.values()))
    for name in spaces.values():
        wait_until(
            "default service account",
            lambda name=name: kubectl.run("get", "serviceaccount", "default", f"-n={name}").returncode == 0,
        )
    kubectl.apply(*(experiment(case, spaces[case.__name__]) for case in cases))

    async def every_case() -> dict[str, BaseException | None]:
        admin = PatientCluster(await load_configuration(str(kubectl.config)))
        try:
            async with services() as served, leaders(kubectl, served.url, spaces.values(), platform):
                played = (case(make_stand(admin, served, spaces[case.__name__])) for case in cases)
                found = await asyncio.gather(*played, return_exceptions=True)
        finally:
            await admin.close()
        return dict(zip(spaces, found, strict=True))

    with pytest.MonkeyPatch.context() as monkeypatch:
        ask_quickly(monkeypatch)
        monkeypatch.setattr(operators, "PAUSE_S", 0.5)  # many share a machine, and each look lists everything
        monkeypatch.setattr(start_failure, "HOPELESS_S", HOPELESS_S)
        monkeypatch.setattr(blocked_pods, "PATIENCE_S", PATIENCE_S)
        for module in (blocked_pods, view):
            monkeypatch.setattr(module, "LINGER_S", LINGER_S)
        try:
            return asyncio.run(every_case())
        finally:
            kubectl.run("delete", "namespace", *spaces.values(), "--wait=false")


@asynccontextmanager
async def leaders(
    kubectl: Kubectl, url: str, namespaces: Iterable[str], platform: Platform | None
) -> AsyncIterator[None]:
    """Have an operator for each namespace."""
    cluster = Cluster(await load_configuration(str(kubectl.config)))
    leading = [asyncio.create_task(lead(cluster, url, namespace, platform)) for namespace in namespaces]
    try:
        yield
        for task in leading:
            if task.done():
                task.result()
    finally:
        for task in leading:
            task.cancel()
        await asyncio.gather(*leading, return_exceptions=True)
        await cluster.close()
