"""A group of two or four workers loses one by kill -9: how long until the next update, ours beside plain torchrun.

Real programs on loopback: rendezvous store, curriculum service, simulator servers, trainer nodes. torchrun runs an
all-reduce loop under its defaults, with the group between one and all nodes as ours.
"""

import copy
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.groups import OurGroup, State, TorchrunGroup, descendants
from benchmarks.row import Row, cost_row
from benchmarks.timing import Effort, by_turns

START_S = 240.0  # for a group to train, on a busy machine
BOUND_S = 120.0  # after which we stop waiting for the next update
LIMIT_S = 30.0
SETTLE_S = 3.0  # for a commit, and for the rendezvous to be over
EXPERIMENT: dict[str, Any] = {
    "apiVersion": "ada.dev/v1alpha1",
    "kind": "AdaExperiment",
    "metadata": {"name": "benchmark"},
    "spec": {
        "environment": {
            "observation": "symbolic",
            "trials": {"min": 1, "max": 2},
            "trialSeconds": [1],
            "actionGroups": ["move", "turn"],
            "world": {"size": {"min": 8, "max": 8}, "levels": {"min": 1, "max": 1}},
            "game": {"rules": {"min": 0, "max": 1}, "distractors": {"min": 0, "max": 1}},
        },
        "curriculum": {"method": "uniform"},
        "stages": [
            {
                "name": "only",
                "frames": 10**12,
                "model": {"preset": "nano", "core": "gru"},
                "algorithm": {"worlds": 4, "unroll": 10, "epochs": 1, "minibatches": 2},
            }
        ],
        "checkpoint": {"intervalSeconds": 5},
    },
}


class GroupAtWork(Protocol):
    """A training group whose members may be killed."""

    nodes: list[subprocess.Popen[bytes]]

    def state(self) -> State:
        """Return how far it is."""
        ...

    def workers_of(self, node: int) -> list[int]:
        """Return the processes of a node that train."""
        ...

    def log(self) -> str:
        """Return what its programs said last."""
        ...


Kill = Callable[[GroupAtWork], None]


def rows(effort: Effort) -> Iterator[Row]:
    """Kill a worker, then a whole node, in ours and in torchrun's group by turns."""
    few, many = (1, 1) if effort.small else (3, 2)
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as name:
        folder = Path(name)

        def after(make: Callable[[Path, int], OurGroup | TorchrunGroup], nodes: int, kill: Kill) -> float:
            with make(folder / secrets.token_hex(4), nodes) as group:
                return seconds_to_next_update(group, nodes, kill)

        cases: list[tuple[str, int, Kill, int]] = [
            ("a worker", 2, kill_worker, few),
            ("a worker", 4, kill_worker, many),
            ("a node, launcher and worker", 2, kill_node, 1),
        ]
        for what, nodes, kill, count in cases:
            groups = (our_group, TorchrunGroup) if effort.peers else (our_group,)
            found, *plain = by_turns([partial(after, group, nodes, kill) for group in groups], count)
            text = f"seconds from kill -9 of {what} to the next update, {nodes} workers, CPU"
            against = f"plain torchrun, 1 to {nodes} nodes, default timeouts"
            if plain and plain[0] >= BOUND_S:
                against += f" (more than {BOUND_S:g} s: no longer waited for)"
            yield cost_row("elastic", text, found, plain[0] if plain else None, against)
            yield cost_row("elastic", text, found, LIMIT_S, "limit", 1)
            if effort.small:
                return


def our_group(folder: Path, nodes: int) -> OurGroup:
    """Return a group of ours that may grow to `nodes` nodes, with a simulator for each."""
    document = copy.deepcopy(EXPERIMENT)
    document["spec"]["stages"][0] |= {
        "trainer": {"nodes": {"min": 1, "max": nodes}},
        "simulators": {"replicas": nodes},
    }
    return OurGroup(folder, document, nodes)


def seconds_to_next_update(group: GroupAtWork, nodes: int, kill: Kill) -> float:
    """Wait until all workers train, kill, and wait, bounded, for the first update of the group that meets anew."""
    give_up = time.monotonic() + START_S
    while not ((before := group.state()).workers == nodes and before.updates > 3):
        if time.monotonic() > give_up or any(node.poll() is not None for node in group.nodes):
            raise RuntimeError(f"{nodes} workers did not train within {START_S:g} s: {group.log()}")
        time.sleep(0.1)
    time.sleep(SETTLE_S)
    before = group.state()
    start = time.monotonic()
    kill(group)
    fewest: int | None = None  # a group may go back to its last checkpoint before it goes on
    while (waited := time.monotonic() - start) < BOUND_S:
        now = group.state()
        if now.membership != before.membership:
            if fewest is not None and now.updates > fewest:
                return time.monotonic() - start
            fewest = now.updates if fewest is None else min(fewest, now.updates)
        time.sleep(0.01)
    return waited


def kill_worker(group: GroupAtWork) -> None:
    """Kill the last node's worker, and nothing else."""
    os.kill(group.workers_of(len(group.nodes) - 1)[0], signal.SIGKILL)


def kill_node(group: GroupAtWork) -> None:
    """Kill the last node with all it runs."""
    for pid in [group.nodes[-1].pid, *descendants(group.nodes[-1].pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    group.nodes[-1].wait()
