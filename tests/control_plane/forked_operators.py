"""Operators as real processes that start in a moment: copies of one that has loaded everything, made by a fork server.

Each serves one namespace through a kubeconfig, holds a lease there, and is started again whenever it ends, as a kubelet
would. Its lease is then taken away, so that nobody waits for it.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.control_plane.life import ask_quickly

from ada_operator import curriculum_poll, program
from ada_operator.cluster import LEASES, ApiError, Cluster

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["ada_operator.program"])
PR_SET_PDEATHSIG = 1


class Plainly:
    """Sets attributes as pytest's monkeypatch does; nothing is set back, since the process is the test's alone."""

    setattr = staticmethod(setattr)


def operate(arguments: list[str], log: Path, url: str) -> None:
    """Be `ada operator`, in a process of its own; it dies with the fork server, and that with the tests."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with log.open("ab") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    os.environ["ADA_CURRICULUM_URL_TEMPLATE"] = url
    ask_quickly(Plainly)
    assert curriculum_poll.SHORTEST_PAUSE_S < 1.0
    sys.exit(program.main(arguments))


@dataclass
class ForkedOperator:
    """One replica at a time for one namespace."""

    arguments: list[str]
    log: Path
    url: str  # of the curriculum services
    process: ForkServerProcess | None = None
    starts: int = 0

    def start(self) -> None:
        """Start it."""
        self.process = FORKS.Process(target=operate, args=(self.arguments, self.log, self.url), daemon=True)
        self.process.start()
        self.starts += 1

    def kill(self) -> None:
        """End it as the kernel would, if it runs: no last word."""
        if self.process is not None:
            self.process.kill()
            self.process.join()

    def said(self, lines: int = 30) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


@dataclass
class Operators:
    """Makes operators for namespaces, all of them through one kubeconfig."""

    admin: Cluster
    kubeconfig: Path
    url: str
    folder: Path
    made: dict[str, ForkedOperator] = field(default_factory=dict)  # by namespace

    def make(self, namespace: str, log: str = "", *more: str) -> ForkedOperator:
        """Return an operator that has not been started."""
        platform = self.folder / "platform.json"
        if not platform.exists():  # another operator may be about to read it
            platform.write_text('{"defaultStore": "file:///store"}')
        arguments = [
            *["--kubeconfig", str(self.kubeconfig), "--platform", str(platform), "--namespace", namespace],
            *["--lease-seconds", "30", "--resync-seconds", "5", "--host", "127.0.0.1", "--port", "0", *more],
        ]
        return ForkedOperator(arguments, self.folder / f"{log or namespace}.log", self.url)

    @asynccontextmanager
    async def running(self, namespace: str) -> AsyncIterator[ForkedOperator]:
        """Run an operator, and the next one when it ends."""
        operator = self.made[namespace] = self.make(namespace)
        operator.start()
        supervision = asyncio.create_task(self._start_again(operator, namespace))
        try:
            yield operator
        finally:
            supervision.cancel()
            (ended,) = await asyncio.gather(supervision, return_exceptions=True)
            operator.kill()
            if isinstance(ended, Exception):  # nobody started it again
                raise ended

    async def _start_again(self, operator: ForkedOperator, namespace: str) -> None:
        while True:
            await asyncio.sleep(0.1)
            if operator.process is not None and not operator.process.is_alive():
                await take_lease_away(self.admin, namespace)
                operator.start()


async def take_lease_away(admin: Cluster, namespace: str) -> None:
    """Have the lease free, as it would be after its time."""
    try:
        await admin._request("DELETE", LEASES.path(namespace, program.LEASE_NAME))
    except ApiError as error:
        if error.status != 404:
            raise
