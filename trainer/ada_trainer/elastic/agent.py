"""torch's elastic agent, told what our workers' exit codes mean and given a name for each membership.

A worker that asks for regrouping costs no restart: its group lost a member, it did nothing wrong. One that was told to
stop, or whose configuration can't work, ends the agent at once.
"""

import logging
import os
import secrets
import signal
import time
from collections import Counter
from typing import Any

from torch.distributed import DistNetworkError, DistStoreError
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.rendezvous import RendezvousHandler, dynamic_rendezvous

from ada_trainer.elastic.names import MEMBERSHIP_KEY, MEMBERSHIP_VARIABLE
from ada_trainer.elastic.processes import is_stopped
from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_REGROUP, EXIT_STOPPED

START_LOGGER = "torch.distributed.elastic.multiprocessing.api"  # tells of every worker that ends

logger = logging.getLogger("ada_trainer.agent")


class MeetingBrokenError(Exception):
    """Nodes met, and then one of them or the store went before they knew who is who."""


class TrainerAgent(LocalElasticAgent):
    """One node's agent."""

    def __init__(self, *arguments: Any, restarts: Counter[str], **options: Any) -> None:
        """Take what torch's agent takes.

        Args:
            restarts: counts the starts anew, by cause.
        """
        super().__init__(*arguments, **options)
        self._membership = ""
        logging.getLogger(START_LOGGER).addFilter(_without_traceback)
        self._restarts = restarts
        self.started = False  # workers were started at least once

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        try:
            self._meet(worker_group)
        except (DistStoreError, DistNetworkError) as error:  # torch tells only of a store lost before they met
            raise MeetingBrokenError(str(error).splitlines()[0]) from error

    def _meet(self, worker_group: WorkerGroup) -> None:
        began = time.monotonic()
        super()._rendezvous(worker_group)
        logger.info(
            "node %d of %d met the others in %.1f s",
            worker_group.group_rank,
            worker_group.group_world_size,
            time.monotonic() - began,
        )
        store = worker_group.store
        if store is None:
            raise RuntimeError("torch's agent joined a rendezvous without a store")
        if worker_group.group_rank == 0:
            store.set(MEMBERSHIP_KEY, secrets.token_hex(8))
        self._membership = store.get(MEMBERSHIP_KEY).decode()
        self.started = True

    def _set_local_rank_env(self, worker_env: dict[str, str | None], local_rank: int, spec: WorkerSpec) -> None:
        super()._set_local_rank_env(worker_env, local_rank, spec)
        worker_env[MEMBERSHIP_VARIABLE] = self._membership

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        # A process that is stopped heeds no SIGTERM: the others would wait half a minute for nothing.
        for pid in self._pcontext.pids().values() if self._pcontext is not None else ():
            if is_stopped(pid):
                os.kill(pid, signal.SIGKILL)
        super()._stop_workers(worker_group)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is WorkerState.FAILED:
            codes = {failure.exitcode for failure in result.failures.values()}
            self._remaining_restarts = remaining_restarts(self._remaining_restarts, codes)
            self._restarts["regrouped" if asks_to_regroup(codes) else "failed"] += 1
        elif result.state is WorkerState.HEALTHY and is_left_out(worker_group.spec.rdzv_handler):
            logger.warning("the others took this node for dead, its heartbeat came too late; meeting them again")
            self._restarts["regrouped"] += 1
            self._restart_workers(worker_group)
        return result


def leave_out_call_stacks() -> None:
    """Have torch's rendezvous not look up the name of the method that is at work, for events that nobody reads.

    It walks the stack and all loaded modules for that, twice, after it has read the shared state and before it writes
    its own change, which counts only if nobody has written meanwhile. Others write once a second to say that they live.
    Where the walk takes longer than that, on a machine that has much to do, a node that comes can try for ever.
    """
    dynamic_rendezvous.get_method_name = lambda depth=2: "rendezvous"


def forget(handler: RendezvousHandler | None) -> None:
    """Let the others forget this node as it was at a meeting; closing the meeting would end it for all of them."""
    if isinstance(handler, dynamic_rendezvous.DynamicRendezvousHandler):
        handler._stop_heartbeats()


def is_left_out(handler: RendezvousHandler) -> bool:
    """Return whether the others go on without this node, as of the last time that the shared state was read."""
    if not isinstance(handler, dynamic_rendezvous.DynamicRendezvousHandler):
        return False
    return handler._this_node not in handler._state_holder.state.participants


def _without_traceback(record: logging.LogRecord) -> bool:
    """Let a record pass without its traceback: to print one, torch loads its compiler, while the whole group waits."""
    record.exc_info = None
    return True


def remaining_restarts(remaining: int, codes: set[int]) -> int:
    """Return the restarts left, before torch takes one for this failure, given the workers' exit codes."""
    if codes & {EXIT_CONFIGURATION, EXIT_STOPPED}:
        return 0
    return remaining + 1 if asks_to_regroup(codes) else remaining


def asks_to_regroup(codes: set[int]) -> bool:
    """Return whether the workers ended only because their group did; torch ends those that are left by a signal."""
    return EXIT_REGROUP in codes and codes <= {EXIT_REGROUP, EXIT_STOPPED, -signal.SIGTERM, -signal.SIGKILL}
