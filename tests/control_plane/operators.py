"""Operators in the tests' own event loop, with what a test may have to change inside them: waits and clocks."""

import asyncio
from contextlib import suppress
from typing import Any

from tests.control_plane.life import NAME

from ada_operator.cluster import ApiError, Cluster
from ada_operator.curriculum_poll import CurriculumPoll
from ada_operator.metrics import OperatorMetrics
from ada_operator.observed import Platform
from ada_operator.reconcile import ChildRefusedError, Reconciler, place

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


async def lead(cluster: Cluster, url: str, namespace: str, platform: Platform | None = None) -> None:
    """Be an operator for one experiment until cancelled; errors are tried again."""
    poll = CurriculumPoll(url)
    metrics = OperatorMetrics()
    platform = platform or Platform(default_store="file:///store")
    reconciler = Reconciler(cluster, poll, platform, metrics, "test")
    try:
        while True:
            with suppress(ApiError, ChildRefusedError):
                await reconciler.reconcile((namespace, NAME))
            reconciler.kept.doubt(place((namespace, NAME)))  # as if there were an event about everything
            await asyncio.sleep(PAUSE_S)
    finally:
        await poll.close()
