"""An API server that refuses, forgets and answers late; clocks that jump; two leaders at once: the end is the same."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.control_plane.life import Life, ask_quickly, experiment, services
from tests.control_plane.operators import FAULTS, FaultyCluster, lead

from ada_operator.cluster import Cluster, load_configuration

LONG = bool(os.environ.get("ADA_TEST_LONG"))
SHARE = 0.15  # of the requests that go wrong
HOUR_S = 3600.0
Leaders = Callable[[Any, str], list[Cluster]]


def live(plane: Any, namespace: str, leaders: Leaders, meanwhile: Callable[[], Any] | None = None) -> dict[str, Any]:
    """Return the end of a life that these operators lead, all at once and without asking one another."""

    async def run() -> dict[str, Any]:
        kubeconfig = str(plane.kubeconfig)
        admin = Cluster(await load_configuration(kubeconfig))
        configuration = await load_configuration(kubeconfig)
        async with services() as served:
            clusters = leaders(configuration, namespace)
            life = Life(admin, served, namespace)
            tasks = [asyncio.create_task(lead(cluster, served.url, namespace)) for cluster in clusters]
            if meanwhile:
                tasks.append(asyncio.create_task(meanwhile()))
            playing = asyncio.create_task(life.play())
            done, _ = await asyncio.wait((*tasks, playing), return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
            end = await life.end()
            for cluster in (*clusters, admin):
                await cluster.close()
            return end

    plane.kubectl.apply(experiment(namespace))
    return asyncio.run(run())


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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_requests_of_every_verb_that_fail_with_and_without_effect_change_nothing(plane, namespace, monkeypatch, seed):
    ask_quickly(monkeypatch)
    made: list[FaultyCluster] = []

    def leaders(configuration: Any, namespace: str) -> list[Cluster]:
        made.append(FaultyCluster(configuration, seed, SHARE))
        return [*made]

    assert_well(live(plane, namespace, leaders))
    tried = made[0].tried
    assert tried.total() > 40 and {fault for _, fault in tried} == set(FAULTS), tried
    print(f"seed {seed}: {tried.total()} faults")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("round_number", range(10 if LONG else 1))
def test_two_that_both_take_themselves_for_the_leader_do_no_harm(plane, namespace, monkeypatch, round_number):
    """Worse than what the lease allows: both write all the time; uids and versions keep old plans from landing."""
    ask_quickly(monkeypatch)
    assert_well(live(plane, namespace, lambda configuration, _: [Cluster(configuration), Cluster(configuration)]))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_clocks_that_jump_by_an_hour_stop_nothing_and_end_nothing(plane, namespace, monkeypatch, jump_s):
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

    assert_well(live(plane, namespace, lambda configuration, _: [Cluster(configuration)], jump_now_and_then))
