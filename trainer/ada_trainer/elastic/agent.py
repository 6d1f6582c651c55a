"""torch's elastic agent, told what our workers' exit codes mean and given a name for each membership.

A worker that asks for regrouping costs no restart: its group lost a member, it did nothing wrong. One that was told to
stop, or whose configuration can't work, ends the agent at once.
"""

import secrets
import signal
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

from ada_trainer.elastic.names import MEMBERSHIP_KEY, MEMBERSHIP_VARIABLE
from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_REGROUP, EXIT_STOPPED


class TrainerAgent(LocalElasticAgent):
    """One node's agent."""

    def __init__(
        self, *arguments: Any, environment: MutableMapping[str, str], restarts: Counter[str], **options: Any
    ) -> None:
        """Take what torch's agent takes.

        Args:
            environment: the workers' own; the agent writes the name of the membership into it.
            restarts: counts the starts anew, by cause.
        """
        super().__init__(*arguments, **options)
        self._environment = environment
        self._restarts = restarts
        self.started = False  # workers were started at least once

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        super()._rendezvous(worker_group)
        store = worker_group.store
        if store is None:
            raise RuntimeError("torch's agent joined a rendezvous without a store")
        if worker_group.group_rank == 0:
            store.set(MEMBERSHIP_KEY, secrets.token_hex(8))
        self._environment[MEMBERSHIP_VARIABLE] = store.get(MEMBERSHIP_KEY).decode()
        self.started = True

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is WorkerState.FAILED:
            codes = {failure.exitcode for failure in result.failures.values()}
            self._remaining_restarts = remaining_restarts(self._remaining_restarts, codes)
            self._restarts["regrouped" if asks_to_regroup(codes) else "failed"] += 1
        return result


def remaining_restarts(remaining: int, codes: set[int]) -> int:
    """Return the restarts left, before torch takes one for this failure, given the workers' exit codes."""
    if codes & {EXIT_CONFIGURATION, EXIT_STOPPED}:
        return 0
    return remaining + 1 if asks_to_regroup(codes) else remaining


def asks_to_regroup(codes: set[int]) -> bool:
    """Return whether the workers ended only because their group did; torch ends those that are left by a signal."""
    return EXIT_REGROUP in codes and codes <= {EXIT_REGROUP, EXIT_STOPPED, -signal.SIGTERM, -signal.SIGKILL}
