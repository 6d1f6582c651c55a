"""Leader election against a lease kept in memory, on clocks that the tests move."""

import asyncio
import copy
from typing import Any

import pytest

from ada_operator.cluster import ApiError
from ada_operator.leader import Leader, LeaseTimes, NotLeaderError


class LeaseServer:
    """Keeps one lease as the API server would: by version, with conflicts."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.broken = False

    async def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any] | None:
        self._fail()
        return copy.deepcopy(self.lease)

    async def create(self, manifest: dict[str, Any]) -> None:
        self._fail()
        if self.lease is not None:
            raise ApiError("POST", "lease", 409, "AlreadyExists", "")
        self._keep(manifest)

    async def replace(self, manifest: dict[str, Any]) -> None:
        self._fail()
        if self.lease is None or manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError("PUT", "lease", 409, "Conflict", "")
        self._keep(manifest)

    def _keep(self, manifest: dict[str, Any]) -> None:
        self.version += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)

    def _fail(self) -> None:
        if self.broken:
            raise ApiError("GET", "lease", 0, "ClientConnectorError", "no route")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


def replica(server: LeaseServer, identity: str, now: float = 0.0) -> tuple[Leader, Clock]:
    clock = Clock(now)
    return Leader(server, "ns", "lease", identity, LeaseTimes(15), clock), clock  # type: ignore[arg-type]


def attempt(leader: Leader) -> bool:
    return asyncio.run(leader._try())


def test_of_two_replicas_one_leads(server):
    (first, _), (second, _) = replica(server, "first"), replica(server, "second", 1e6)
    assert attempt(first) and not attempt(second)
    assert first.leads and not second.leads
    with pytest.raises(NotLeaderError, match="second does not hold the lease ns/lease"):
        second.check()


def test_a_leader_that_renews_is_never_followed(server):
    (first, _), (second, clock) = replica(server, "first"), replica(server, "second")
    for _ in range(20):
        assert attempt(first)
        clock.now += 10
        assert not attempt(second)


def test_a_lost_leader_is_followed_after_the_leases_duration_by_the_followers_own_clock(server):
    (first, _), (second, clock) = replica(server, "first"), replica(server, "second", 5_000)
    attempt(first)
    assert not attempt(second)
    clock.now += 14.9
    assert not attempt(second)
    clock.now += 0.2
    assert attempt(second)
    assert server.lease["spec"]["leaseTransitions"] == 1


def test_a_leader_that_cannot_renew_stops_before_another_may_take_over(server):
    leader, clock = replica(server, "first")
    attempt(leader)
    server.broken = True
    clock.now += 9.9
    assert not attempt(leader) and leader.leads
    clock.now += 0.2
    assert not leader.leads
    assert clock.now < 15 - 4  # time for its last write to end


def test_a_leader_whose_lease_was_taken_stops_at_once(server):
    leader, _ = replica(server, "first")
    attempt(leader)
    server.lease["spec"]["holderIdentity"] = "second"
    assert not attempt(leader)
    assert not leader.leads


def test_a_lease_that_was_given_back_is_taken_at_once(server):
    (first, _), (second, _) = replica(server, "first"), replica(server, "second")
    attempt(first)
    asyncio.run(first.release())
    assert not first.leads
    assert attempt(second)


def test_two_replicas_that_take_a_free_lease_at_once_are_told_apart_by_its_version(server):
    (first, _), (second, _) = replica(server, "first"), replica(server, "second")
    attempt(first)
    asyncio.run(first.release())
    free = asyncio.run(server.get(None, "ns", "lease"))
    assert attempt(first)

    async def stale_get(*_: Any) -> Any:
        return free

    server.get = stale_get
    assert not attempt(second)
    assert not second.leads
