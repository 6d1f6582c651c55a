"""An operator that dies between any two writes, or before it hears the answer to one, is carried on by the next one."""

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from tests.cluster.processes import wait_until
from tests.control_plane import life, troubled_life
from tests.control_plane.life import Life, ask_quickly, services
from tests.control_plane.operators import CrashingCluster, PatientCluster, crash_and_carry_on, lead
from tests.control_plane.troubled_life import TroubledLife

from ada_operator.cluster import load_configuration

SPACES = count(1)
LONG = bool(os.environ.get("ADA_TEST_LONG"))  # every write and both ends of it; else a few, spread over the life
STRIDE = 20
SHARES = 8 if LONG else 1  # of all points in as many tests
AT_ONCE = 10
LIVES = {"plain": (Life, life.experiment)}
if LONG:
    LIVES["troubled"] = (TroubledLife, troubled_life.experiment)

Point = tuple[int, bool]


@pytest.fixture
def make_spaces(plane) -> Iterator[Any]:
    """A function that makes namespaces with an experiment in each."""
    made: list[str] = []

    def make(number: int, experiment: Any) -> list[str]:
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


async def live(life: Life, operator: Any) -> dict[str, Any]:
    """Return the end of a life that an operator leads."""
    leading = asyncio.create_task(operator)
    playing = asyncio.create_task(life.play())
    done, _ = await asyncio.wait((leading, playing), return_when=asyncio.FIRST_COMPLETED)
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    for task in done:
        task.result()
    return await life.end()


def chosen(writes: int, share: int) -> list[Point]:
    """Return the points of a share: of all of them, or of a few, the harder half: what was written is not known."""
    if not LONG:
        return [(number, True) for number in range(0, writes, STRIDE)]
    return [(number, heard) for number in range(share, writes, SHARES) for heard in (False, True)]


@pytest.mark.timeout(3600 if LONG else 900)
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("kind", LIVES)
def test_whichever_write_an_operator_dies_at_the_next_one_comes_to_the_same_end(
    plane, make_spaces, monkeypatch, kind, share
):
    """A teacher and its student, from apply to Succeeded; object by object, and no child was made once too often."""
    ask_quickly(monkeypatch)
    make_life, experiment = LIVES[kind]
    kubeconfig = str(plane.kubeconfig)

    async def every_crash() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        admin = PatientCluster(await load_configuration(kubeconfig))
        slots = asyncio.Semaphore(AT_ONCE)
        try:
            async with services() as served:
                (undisturbed,) = make_spaces(1, experiment)
                cluster = CrashingCluster(await load_configuration(kubeconfig))
                expected = await live(make_life(admin, served, undisturbed), lead(cluster, served.url, undisturbed))
                await cluster.close()
                assert cluster.done > 30, cluster.done
                points = chosen(cluster.done, share)
                names = make_spaces(len(points), experiment)

                async def one(namespace: str, point: Point) -> dict[str, Any]:
                    async with slots:
                        operator = crash_and_carry_on(kubeconfig, served.url, namespace, *point)
                        found = await live(make_life(admin, served, namespace), operator)
                        print(f"{point}: {'the same end' if found == expected else found}", flush=True)
                        return found

                ends = await asyncio.gather(*map(one, names, points))
                print(f"{cluster.done} writes in an undisturbed life, {len(points)} crashes")
                said = [f"write {n}, {'answer lost' if heard else 'not sent'}" for n, heard in points]
                return expected, dict(zip(said, ends, strict=True))
        finally:
            await admin.close()

    expected, ends = asyncio.run(every_crash())
    assert expected["status"]["phase"] == "Succeeded"
    if kind == "plain":
        assert set(expected["made"].values()) == {1}
    else:
        went_wrong = [stage["restarts"] for stage in expected["status"]["stages"]]
        assert (went_wrong[0]["notFinite"], went_wrong[1]["code"]) == (1, 1)
        assert expected["status"]["restarts"] == 2
        assert expected["resumed"] == {"teacher 2": "file:///store/teacher/250"}
    for point, found in ends.items():
        assert found == expected, point
