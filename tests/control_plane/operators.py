"""Operators in the tests' own event loop, and the ways in which they and their connections fail."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tests.control_plane.life import NAME

from ada_operator.cluster import ApiError, Cluster
from ada_operator.curriculum_poll import CurriculumPoll
from ada_operator.metrics import OperatorMetrics
from ada_operator.observed import Manifest, Platform
from ada_operator.reconcile import Reconciler, place

PAUSE_S = 0.15  # between looks


class PatientCluster(Cluster):
    """A connection for who plays and watches: a machine under load that does not answer in time is asked again."""

    async def _request(self, *arguments: Any, **named: Any) -> Any:
        while True:
            try:
                return await super()._request(*arguments, **named)
            except ApiError as error:
                if error.status != 0:
                    raise
                await asyncio.sleep(0.5)


FAULTS = ("429", "409", "500", "503", "lost request", "lost answer", "stale list")


class FaultyCluster(Cluster):
    """A connection on which requests of every verb fail, by a seed: some are refused, some time out with effect.

    `share` of the reads goes wrong, and twice that of the writes.
    """

    def __init__(self, configuration: Any, seed: int, share: float, faults: Iterable[str] = FAULTS) -> None:
        super().__init__(configuration)
        self._random, self._share, self._faults = random.Random(seed), share, tuple(faults)
        self._lists: dict[str, Manifest] = {}
        self.tried: Counter[tuple[str, str]] = Counter()

    async def _request(self, method: str, path: str, *rest: Any) -> Any:
        share = self._share if method == "GET" else 2 * self._share
        fault = self._random.choice(self._faults) if self._random.random() < share else ""
        is_list = method == "GET" and bool(rest)
        if fault == "stale list" and not (is_list and (path + str(rest)) in self._lists):
            fault = ""
        if fault:
            self.tried[method, fault] += 1
        if fault.isdigit():
            raise ApiError(method, path, int(fault), "Injected", "refused by the test")
        if fault == "lost request":
            raise ApiError(method, path, 0, "TimeoutError", "never sent")
        if fault == "stale list":
            return self._lists[path + str(rest)]
        answer = await super()._request(method, path, *rest)
        if fault == "lost answer":
            raise ApiError(method, path, 0, "TimeoutError", "sent, and not answered")
        if is_list:
            self._lists[path + str(rest)] = answer
        return answer


async def lead(cluster: Cluster, url: str, namespace: str, platform: Platform | None = None) -> None:
    """Be an operator for one experiment until cancelled; errors are tried again."""
    poll = CurriculumPoll(url)
    metrics = OperatorMetrics()
    platform = platform or Platform(default_store="file:///store")
    reconciler = Reconciler(cluster, poll, platform, metrics, "test")
    try:
        while True:
            with suppress(ApiError):
                await reconciler.reconcile((namespace, NAME))
            reconciler.kept.doubt(place((namespace, NAME)))  # as if there were an event about everything
            await asyncio.sleep(PAUSE_S)
    finally:
        await poll.close()
