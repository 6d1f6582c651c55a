"""An operator that dies between any two writes, or before it hears the answer to one, is carried on by the next one."""

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from tests.cluster.processes import wait_until
from tests.control_plane.life import Life, Services, ask_quickly, experiment, services
from tests.control_plane.operators import CrashingCluster, crash_and_carry_on, lead

from ada_operator.cluster import Cluster, load_configuration

SPACES = count(1)
LONG = bool(os.environ.get("ADA_TEST_LONG"))  # every write and both ends of it; else a few, spread over the life
STRIDE = 1 if LONG else 20
AT_ONCE = 10

Point = tuple[int, bool]


@pytest.fixture
def make_spaces(plane) -> Iterator[Any]:
    """A function that makes namespaces with the experiment in each."""
    made: list[str] = []

    def make(number: int) -> list[str]:
        names = [f"life-{os.getpid()}-{next(SPACES)}" for _ in range(number)]
        made.extend(names)
        plane.kubectl.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names))

        def accounts() -> bool:
            found = plane.kubectl("get", "serviceaccounts", "--all-namespaces", "--no-headers").splitlines()
            return {line.split()[0] for line in found} >= set(names)

        wait_until("default service accounts", accounts)
        plane.kubectl.apply(*map(experiment, names))
        return names

    yield make
    if made:
        plane.kubectl.run("delete", "namespace", *made, "--wait=false")


async def live(admin: Cluster, served: Services, namespace: str, operator: Any) -> dict[str, Any]:
    """Return the end of a life that an operator leads."""
    life = Life(admin, served, namespace)
    leading = asyncio.create_task(operator)
    playing = asyncio.create_task(life.play())
    done, _ = await asyncio.wait((leading, playing), return_when=asyncio.FIRST_COMPLETED)
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    for task in done:
        task.result()
    return await life.end()


@pytest.mark.timeout(7200 if LONG else 600)
def test_whichever_write_an_operator_dies_at_the_next_one_comes_to_the_same_end(plane, make_spaces, monkeypatch):
    """A teacher and its student, from apply to Succeeded; object by object, and no child was ever made twice."""
    ask_quickly(monkeypatch)
    kubeconfig = str(plane.kubeconfig)

    async def every_crash() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        admin = Cluster(await load_configuration(kubeconfig))
        slots = asyncio.Semaphore(AT_ONCE)
        try:
            async with services() as served:
                (undisturbed,) = make_spaces(1)
                cluster = CrashingCluster(await load_configuration(kubeconfig))
                expected = await live(admin, served, undisturbed, lead(cluster, served.url, undisturbed))
                await cluster.close()
                points = [(n, heard) for n in range(0, cluster.done, STRIDE) for heard in (False, True)]
                points = points if LONG else points[1::2]  # the harder half: what was written is not known
                assert cluster.done > 30, cluster.done
                names = make_spaces(len(points))

                async def one(namespace: str, point: Point) -> dict[str, Any]:
                    async with slots:
                        operator = crash_and_carry_on(kubeconfig, served.url, namespace, *point)
                        found = await live(admin, served, namespace, operator)
                        print(f"{point}: {'the same end' if found == expected else found}", flush=True)
                        return found

                ends = await asyncio.gather(*map(one, names, points))
                print(f"{cluster.done} writes in an undisturbed life, {len(points)} crashes")
                said = [f"write {n}, {'answer lost' if heard else 'not sent'}" for n, heard in points]
                return expected, dict(zip(said, ends, strict=True))
        finally:
            await admin.close()

    expected, ends = asyncio.run(every_crash())
    assert set(expected["made"].values()) == {1}
    for point, found in ends.items():
        assert found == expected, point
