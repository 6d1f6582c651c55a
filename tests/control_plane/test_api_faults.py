"""An API server that refuses, forgets and answers late; clocks that jump; two leaders at once: the end is the same."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.control_plane.api_proxy import FAULTS, ApiProxy, Faults
from tests.control_plane.forked_operators import Operators
from tests.control_plane.life import Life, Services, ask_quickly, experiment, services
from tests.control_plane.operators import PatientCluster, lead

from ada_operator.cluster import Cluster, load_configuration

LONG = bool(os.environ.get("ADA_TEST_LONG"))
SEEDS, ROUNDS = (20, 10) if LONG else (1, 1)
SHARE = 0.15  # of the requests that go wrong
HOUR_S = 3600.0


def assert_well(end: dict[str, Any]) -> None:
    """No child was made twice, no stage lost, nothing counted as a failure, nothing left over."""
    assert end["status"]["phase"] == "Succeeded"
    assert [stage["phase"] for stage in end["status"]["stages"]] == ["Succeeded", "Succeeded"]
    assert [stage["generation"] for stage in end["status"]["stages"]] == [1, 1]
    assert end["status"]["restarts"] == 0
    assert set(end["made"].values()) == {1}, end["made"]
    assert end["told twice"] == []
    teacher, student = end["status"]["stages"]
    assert student["teacher"]["digest"] == teacher["checkpoint"]["digest"]


@pytest.mark.timeout(1800)
def test_requests_of_every_verb_that_fail_with_and_without_effect_change_nothing(plane, make_spaces, tmp_path):
    """The operators are processes; their leases and watches suffer as well, and who loses its lease is started anew."""
    names = make_spaces(SEEDS, experiment)
    faults = {name: Faults(seed, SHARE) for seed, name in enumerate(names)}

    async def every_seed() -> list[dict[str, Any]]:
        admin = PatientCluster(await load_configuration(str(plane.kubeconfig)))
        async with services() as served, ApiProxy(plane.kubeconfig, faults=faults).running(tmp_path) as kubeconfig:
            operators = Operators(admin, kubeconfig, served.url, tmp_path)

            async def one(namespace: str) -> dict[str, Any]:
                async with operators.running(namespace) as operator:
                    life = Life(admin, served, namespace)
                    try:
                        await life.play()
                    finally:
                        print(operator.said(100))
                    tried = faults[namespace].tried
                    print(f"seed {names.index(namespace)}: {tried.total()} faults, {operator.starts} starts")
                    return await life.end()

            try:
                return await asyncio.gather(*map(one, names))
            finally:
                await admin.close()

    for end in asyncio.run(every_seed()):
        assert_well(end)
    tried = sum((one.tried for one in faults.values()), start=type(faults[names[0]].tried)())
    assert tried.total() > 40 * SEEDS, tried
    assert {fault for _, fault in tried} >= set(FAULTS), tried
    assert {verb for verb, _ in tried} >= {"GET", "WATCH", "PATCH", "PUT", "POST"}, tried
    print(tried)


def test_two_that_both_take_themselves_for_the_leader_do_no_harm(plane, make_spaces, monkeypatch):
    """Worse than what the lease allows: both write all the time; uids and versions keep old plans from landing."""
    ask_quickly(monkeypatch)
    for end in play(plane, make_spaces(ROUNDS, experiment), leaders=2):
        assert_well(end)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_clocks_that_jump_by_an_hour_stop_nothing_and_end_nothing(plane, make_spaces, monkeypatch, jump_s):
    """All clocks but the API server's: the operator's, and that by which the curriculum service reports."""
    ask_quickly(monkeypatch)
    ahead_s, real = 0.0, time.time

    def skewed() -> float:
        return real() + ahead_s

    monkeypatch.setattr(time, "time", skewed)

    async def jump_now_and_then() -> None:
        nonlocal ahead_s
        while True:
            await asyncio.sleep(2.0)
            ahead_s = jump_s if ahead_s == 0 else 0.0

    (end,) = play(plane, make_spaces(1, experiment), 1, jump_now_and_then)
    assert_well(end)


Meanwhile = Callable[[], Coroutine[Any, Any, None]]


def play(plane: Any, names: list[str], leaders: int, meanwhile: Meanwhile | None = None) -> list[dict[str, Any]]:
    """Return the ends of lives, each led by so many operators at once that don't ask one another."""

    async def all_of_them() -> list[dict[str, Any]]:
        configuration = await load_configuration(str(plane.kubeconfig))
        admin, cluster = PatientCluster(configuration), Cluster(configuration)
        aside = asyncio.create_task(meanwhile()) if meanwhile else None
        try:
            async with services() as served:
                return await asyncio.gather(*(one_life(admin, cluster, served, name, leaders) for name in names))
        finally:
            if aside:
                aside.cancel()
            await admin.close()
            await cluster.close()

    return asyncio.run(all_of_them())


async def one_life(admin: Cluster, cluster: Cluster, served: Services, name: str, leaders: int) -> dict[str, Any]:
    """Return the end of one life."""
    life = Life(admin, served, name)
    leading = [asyncio.create_task(lead(cluster, served.url, name)) for _ in range(leaders)]
    playing = asyncio.create_task(life.play())
    done, _ = await asyncio.wait((*leading, playing), return_when=asyncio.FIRST_COMPLETED)
    for task in (*leading, playing):
        task.cancel()
    await asyncio.gather(*leading, playing, return_exceptions=True)
    for task in done:
        task.result()
    return await life.end()
