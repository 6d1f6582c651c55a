"""A leader that is stopped, or whose write is late, while another takes over: nothing of the former lands afterwards.

Both are processes; SIGSTOP is what a machine does that swaps, migrates or freezes. The one that was stopped believes
for a moment that it still leads. A write that was sent before and lands late is beyond it: it must do no harm.
"""

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from tests.control_plane.api_proxy import ApiProxy
from tests.control_plane.forked_operators import ForkedOperator, Operators
from tests.control_plane.life import Life, Services, experiment, services
from tests.control_plane.operators import PatientCluster
from tests.control_plane.test_api_faults import assert_well

from ada_operator.cluster import load_configuration

LONG = bool(os.environ.get("ADA_TEST_LONG"))
LEASE_S = 9.0
Kind = Literal["stopped", "late"]
POINTS: tuple[tuple[int, Kind], ...] = tuple(
    (number, kind) for number in (range(0, 60, 4) if LONG else (1, 34)) for kind in ("stopped", "late")
)
LATE_BY = 3  # writes of the next leader that a late write waits for; or it lands before the life is over
PATIENCE_S = 120.0
AT_ONCE = 4  # takeovers, of two operators each: more of them than cores, and leases are lost for want of time


@dataclass
class Takeover:
    """Two operators of one namespace; the first is stopped at one of its writes."""

    number: int
    kind: Kind
    former: ForkedOperator
    following: ForkedOperator
    tries: int | None = None  # of the former, when it was stopped
    landed_late: bool = False
    continued: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, tries: int) -> None:
        """Stop the former leader; what it was doing it will go on with."""
        self.tries = tries
        assert self.former.process is not None and self.former.process.pid is not None
        os.kill(self.former.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the former leader run again."""
        assert self.former.process is not None and self.former.process.pid is not None
        os.kill(self.former.process.pid, signal.SIGCONT)
        self.continued.set()


async def until(what: str, holds: Any) -> None:
    """Wait for something."""
    for _ in range(int(PATIENCE_S * 10)):
        if holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no {what} in {PATIENCE_S:.0f} s")


@pytest.mark.timeout(3600 if LONG else 900)
def test_a_former_leader_writes_nothing_after_the_next_ones_first_and_a_late_write_does_no_harm(
    plane, make_spaces, tmp_path
):
    names = make_spaces(len(POINTS), experiment)

    async def every_takeover() -> list[dict[str, Any]]:
        admin = PatientCluster(await load_configuration(str(plane.kubeconfig)))
        first, second = ApiProxy(plane.kubeconfig), ApiProxy(plane.kubeconfig)  # one for each replica
        slots = asyncio.Semaphore(AT_ONCE)
        async with (
            services() as served,
            first.running(tmp_path) as first_config,
            second.running(tmp_path) as second_config,
        ):
            formers = Operators(admin, first_config, served.url, tmp_path)
            followings = Operators(admin, second_config, served.url, tmp_path)
            lease = ("--lease-seconds", str(LEASE_S))
            takeovers = {
                name: Takeover(
                    *point,
                    formers.make(name, f"{name}-former", *lease),
                    followings.make(name, f"{name}-following", *lease),
                )
                for name, point in zip(names, POINTS, strict=True)
            }

            async def on_write(namespace: str, number: int, landed: bool) -> bool:
                one = takeovers[namespace]
                if one.tries is not None or number != one.number or landed != (one.kind == "stopped"):
                    return True
                one.stop(first.tries[namespace])
                if one.kind == "late":
                    await until("writes of the next leader", lambda: second.writes[namespace] >= LATE_BY)
                    one.landed_late = True
                return True

            async def one_of_few(name: str, one: Takeover) -> dict[str, Any]:
                async with slots:
                    return await take_over(one, name, first, second, admin, served)

            first.on_write = on_write
            try:
                return await asyncio.gather(*(one_of_few(name, one) for name, one in takeovers.items()))
            finally:
                for one in takeovers.values():
                    for operator in (one.former, one.following):
                        operator.kill()
                await admin.close()

    for end in asyncio.run(every_takeover()):
        assert_well(end)


async def take_over(
    one: Takeover, namespace: str, first: ApiProxy, second: ApiProxy, admin: PatientCluster, served: Services
) -> dict[str, Any]:
    """Return the end of a life whose first operator is stopped on the way."""
    one.former.start()
    await until("leader", lambda: "leading as" in one.former.said(200))
    one.following.start()
    life = Life(admin, served, namespace)
    playing = asyncio.create_task(life.play())
    try:
        await until(f"write {one.number} of the first leader", lambda: one.tries is not None)
        await until("write of the next leader", lambda: second.writes[namespace] > 0)
        one.go_on()
        process = one.former.process
        assert process is not None
        await until("end of the former leader", lambda: not process.is_alive())
        assert process.exitcode == 1, one.former.said()
        assert "does not hold the lease" in one.former.said()
        assert first.tries[namespace] == one.tries, "the former leader wrote"
        await playing
    finally:
        playing.cancel()
    print(f"{one.kind} at write {one.number}: {second.writes[namespace]} writes of the next leader")
    assert one.landed_late == (one.kind == "late")
    return await life.end()
