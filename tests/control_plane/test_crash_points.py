"""An operator that dies between any two writes, or before it hears the answer to one, is carried on by the next one."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from tests.cluster.processes import wait_until

from ada_operator.cluster import EXPERIMENTS, LABELLED, SECRETS, Cluster, load_configuration
from ada_operator.curriculum_poll import CurriculumPoll
from ada_operator.metrics import OperatorMetrics
from ada_operator.observed import Platform
from ada_operator.reconcile import Reconciler

NAME = "demo"
SPEC = {"stages": [{"name": "teacher", "frames": 1000, "trainer": {"nodes": {"min": 1, "max": 1}}}]}
SPACES = count(1)
LONG = bool(os.environ.get("ADA_TEST_LONG"))  # both ends of every write; else one of them, in turns


class CrashError(BaseException):
    """The end of an operator; nothing in it may catch this."""


class CrashingCluster(Cluster):
    """A connection whose owner dies at its Nth write: before it is sent, or before its answer is read."""

    def __init__(self, configuration: Any, writes: int | None, heard: bool) -> None:
        super().__init__(configuration)
        self.writes, self.heard, self.done = writes, heard, 0

    async def _write(self, *arguments: Any) -> Any:
        dies = self.done == self.writes
        if dies and not self.heard:
            raise CrashError
        answer = await super()._write(*arguments)
        if dies:
            raise CrashError
        self.done += 1
        return answer


@dataclass(frozen=True)
class End:
    """How an experiment stands once nothing is left to do, as far as it must not depend on crashes."""

    children: tuple[tuple[str, str], ...]
    phase: str
    generation: int
    restarts: int
    conditions: tuple[tuple[str, str, str], ...]
    events: tuple[str, ...]


async def lead(kubeconfig: str, namespace: str, writes: int | None = None, heard: bool = False) -> int:
    """Be an operator until nothing is left to do, or until its crash; return the number of its writes."""
    cluster = CrashingCluster(await load_configuration(kubeconfig), writes, heard)
    poll = CurriculumPoll("http://127.0.0.1:9")
    reconciler = Reconciler(cluster, poll, Platform(default_store="file:///store"), OperatorMetrics(), "test")
    try:
        quiet = 0
        for _ in range(200):
            before = cluster.done
            await reconciler.reconcile((namespace, NAME))
            quiet = quiet + 1 if cluster.done == before and await has_job(cluster, namespace) else 0
            if quiet == 3:
                return cluster.done
            await asyncio.sleep(0.2)
        raise AssertionError(f"{namespace}: something is left to do after 200 rounds")
    finally:
        await poll.close()
        await cluster.close()


async def has_job(cluster: Cluster, namespace: str) -> bool:
    jobs = await cluster.list(LABELLED[4], namespace)
    return any(job.get("status", {}).get("ready") == 1 for job in jobs)


async def end(kubeconfig: str, namespace: str) -> End:
    cluster = Cluster(await load_configuration(kubeconfig))
    try:
        kinds = [resource for resource in (*LABELLED, SECRETS) if resource.kind != "Pod"]
        listed = [item for resource in kinds for item in await cluster.list(resource, namespace)]
        children = [item for item in listed if "ada.dev/experiment" in item["metadata"].get("labels", {})]
        found = await cluster.get(EXPERIMENTS, namespace, NAME)
        assert found is not None
        status = found["status"]
        page = await cluster._request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
    finally:
        await cluster.close()
    return End(
        children=tuple(sorted((item["kind"], item["metadata"]["name"]) for item in children)),
        phase=status["phase"],
        generation=status["stages"][0]["generation"],
        restarts=status["restarts"],
        conditions=tuple((one["type"], one["status"], one["reason"]) for one in status["conditions"]),
        events=tuple(sorted(one["reason"] for one in page["items"] if one["regarding"]["kind"] == "AdaExperiment")),
    )


@pytest.fixture
def spaces(plane) -> Iterator[list[str]]:
    """Namespaces with the experiment in each."""
    names = [f"crash-{os.getpid()}-{next(SPACES)}" for _ in range(60 if LONG else 30)]
    plane.kubectl.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names))

    def accounts() -> bool:
        found = plane.kubectl("get", "serviceaccounts", "--all-namespaces", "--no-headers").splitlines()
        return {line.split()[0] for line in found} >= set(names)

    wait_until("default service accounts", accounts)
    identity = {"apiVersion": "ada.dev/v1alpha1", "kind": "AdaExperiment"}
    plane.kubectl.apply(*({**identity, "metadata": {"name": NAME, "namespace": name}, "spec": SPEC} for name in names))
    yield names
    plane.kubectl.run("delete", "namespace", *names, "--wait=false")


def test_whichever_write_an_operator_dies_at_the_next_one_comes_to_the_same_end(plane, spaces):
    """Events are told after the status is written: the crash between the two may cost one, and never doubles it."""
    kubeconfig = str(plane.kubeconfig)

    async def crash_and_carry_on(namespace: str, writes: int, heard: bool) -> End:
        with pytest.raises(CrashError):
            await lead(kubeconfig, namespace, writes, heard)
        await lead(kubeconfig, namespace)
        return await end(kubeconfig, namespace)

    async def every_crash() -> tuple[End, dict[str, End]]:
        undisturbed, *rest = spaces
        # the number of writes depends a little on how quickly pods come up: the last ones may be status writes
        total = await lead(kubeconfig, undisturbed) - 2
        points = [(n, heard) for n in range(total) for heard in (False, True) if LONG or heard == bool(n % 2)]
        assert total > 10 and len(points) <= len(rest), total
        slots = asyncio.Semaphore(8)

        async def one(namespace: str, point: tuple[int, bool]) -> End:
            async with slots:
                return await crash_and_carry_on(namespace, *point)

        ends = await asyncio.gather(*map(one, rest, points))
        names = [f"write {n}, {'answer lost' if heard else 'not sent'}" for n, heard in points]
        return await end(kubeconfig, undisturbed), dict(zip(names, ends, strict=True))

    expected, ends = asyncio.run(every_crash())
    assert expected.generation == 1 and expected.restarts == 0
    for point, found in ends.items():
        assert (found.children, found.phase, found.generation, found.restarts, found.conditions) == (
            expected.children,
            expected.phase,
            expected.generation,
            expected.restarts,
            expected.conditions,
        ), point
        assert set(found.events) <= set(expected.events) and len(set(found.events)) == len(found.events), point
