"""Leader election by a Lease: of several replicas one acts, the others wait.

A replica takes the lease when the holder has not renewed it for the lease's duration, measured by its own clock from
the moment it saw the last renewal, so the replicas' clocks need not agree. The leader renews it several times in that
duration and counts itself out well before the others may take over; every write asks `check` first.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ada_operator.cluster import LEASES, ApiError, Cluster
from ada_operator.observed import Manifest

logger = logging.getLogger(__name__)


class NotLeaderError(Exception):
    """This process may not write: it does not hold the lease, or can't be sure that it still does."""


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds; with the defaults the same as Kubernetes' own controllers."""

    duration_s: float = 15.0

    @property
    def deadline_s(self) -> float:
        """Age of the last renewal at which a leader stops; the rest is for its last write to end."""
        return self.duration_s * 2 / 3

    @property
    def retry_s(self) -> float:
        """Time between attempts to take or renew."""
        return self.duration_s * 2 / 15

    @property
    def write_timeout_s(self) -> float:
        """Longest time that a write may take which was begun while leading."""
        return self.duration_s - self.deadline_s


class Leader:
    """Takes and keeps one Lease."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._namespace, self._name, self._identity, self._times = namespace, name, identity, times
        self._clock = clock
        self._renewed_at: float | None = None
        self._seen: tuple[str, float] | None = None  # version of another's lease, and when we first saw it

    @property
    def leads(self) -> bool:
        """Whether this process may write now."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._times.deadline_s

    def check(self) -> None:
        """Raise NotLeaderError unless this process may write now."""
        if not self.leads:
            raise NotLeaderError(f"{self._identity} does not hold the lease {self._namespace}/{self._name}")

    async def acquire(self) -> None:
        """Return once this process leads."""
        logger.info("waiting for the lease %s/%s", self._namespace, self._name)
        while not await self._try():
            await asyncio.sleep(self._times.retry_s)
        logger.info("leading as %s", self._identity)

    async def keep(self) -> None:
        """Renew the lease until that fails for too long.

        Raises:
            NotLeaderError: the lease is lost; nothing may be written any more.
        """
        while True:
            await asyncio.sleep(self._times.retry_s)
            if not await self._try():
                self.check()

    async def release(self) -> None:
        """Let another replica take over at once, if this one leads."""
        if not self.leads:
            return
        try:
            lease = await self._cluster.get(LEASES, self._namespace, self._name)
            if lease and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._cluster.replace(lease)
        except ApiError as error:
            logger.warning("could not give the lease back: %s", error)
        self._renewed_at = None

    async def _try(self) -> bool:
        """Take or renew the lease; return whether this process holds it after that."""
        asked_at = self._clock()
        try:
            lease = await self._cluster.get(LEASES, self._namespace, self._name)
            if lease is None:
                await self._cluster.create(self._lease(None))
            elif self._may_take(lease):
                await self._cluster.replace(self._lease(lease))
            else:
                self._renewed_at = None
                return False
        except ApiError as error:
            if error.status != 409:  # another replica was quicker; anything else is worth a line
                logger.warning("could not take or renew the lease: %s", error)
            return False
        self._renewed_at = asked_at
        return True

    def _may_take(self, lease: Manifest) -> bool:
        """Return whether the lease is ours, free, or not renewed for its duration while we watched."""
        holder = lease["spec"].get("holderIdentity")
        if holder in ("", None, self._identity):
            return True
        version, now = lease["metadata"]["resourceVersion"], self._clock()
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
            return False
        return now - self._seen[1] >= float(lease["spec"].get("leaseDurationSeconds") or self._times.duration_s)

    def _lease(self, old: Manifest | None) -> Manifest:
        """Return the lease as held by us from now on."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = dict(old["spec"]) if old else {}
        if spec.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", -1) + 1}
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._times.duration_s)),
            "renewTime": now,
        }
        metadata = old["metadata"] if old else {"namespace": self._namespace, "name": self._name}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
