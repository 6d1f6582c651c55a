"""A group of two workers loses one by kill -9: how long until the next update, ours beside plain torchrun.

Real programs on loopback: rendezvous store, curriculum service, two simulator servers, two trainer nodes. torchrun runs
an all-reduce loop under its defaults, with the group between one and two nodes as ours.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.cluster.processes import start

from ada_curriculum.client import CurriculumClient, CurriculumError
from ada_trainer.elastic.template import WORKER_NAME
from benchmarks.peer import SCRIPTS
from benchmarks.row import Row, cost_row
from benchmarks.services import TOKEN
from benchmarks.timing import Effort, by_turns

START_S = 240.0  # for a group to train, on a busy machine
BOUND_S = 120.0  # after which we stop waiting for the next update
LIMIT_S = 30.0
SETTLE_S = 3.0  # for a commit, and for the rendezvous to be over
NODES = 2
EXPERIMENT = {
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
                "trainer": {"nodes": {"min": 1, "max": NODES}},
                "simulators": {"replicas": 2},
            }
        ],
        "checkpoint": {"intervalSeconds": 5},
    },
}


@dataclass(frozen=True)
class State:
    """How far a group is."""

    membership: int  # another one after the group came together anew
    workers: int
    updates: int


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


def rows(effort: Effort) -> Iterator[Row]:
    """Kill a worker, then a whole node, in ours and in torchrun's group by turns."""
    repeats = 1 if effort.small else 3
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as name:
        folder = Path(name)

        def after(make: Callable[[Path], OurGroup | TorchrunGroup], kill: Callable[[GroupAtWork], None]) -> float:
            with make(folder / secrets.token_hex(4)) as group:
                return seconds_to_next_update(group, kill)

        for what, kill, count in (
            ("a worker", kill_worker, repeats),
            ("a node, launcher and worker", kill_node, 1),
        ):
            groups = (OurGroup, TorchrunGroup) if effort.peers else (OurGroup,)
            found, *plain = by_turns([partial(after, group, kill) for group in groups], count)
            text = f"seconds from kill -9 of {what} to the next update, 2 workers, CPU"
            against = "plain torchrun, 1 to 2 nodes, default timeouts"
            if plain and plain[0] >= BOUND_S:
                against += f" (more than {BOUND_S:g} s: no longer waited for)"
            yield cost_row("elastic", text, found, plain[0] if plain else None, against)
            yield cost_row("elastic", text, found, LIMIT_S, "limit", 1)
            if effort.small:
                return


def seconds_to_next_update(group: GroupAtWork, kill: Callable[[GroupAtWork], None]) -> float:
    """Wait until both workers train, kill, and wait, bounded, for the first update of the group that meets anew."""
    give_up = time.monotonic() + START_S
    while not ((before := group.state()).workers == NODES and before.updates > 3):
        if time.monotonic() > give_up or any(node.poll() is not None for node in group.nodes):
            raise RuntimeError(f"two workers did not train within {START_S:g} s: {group.log()}")
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
    os.kill(group.workers_of(NODES - 1)[0], signal.SIGKILL)


def kill_node(group: GroupAtWork) -> None:
    """Kill the last node with all it runs."""
    for pid in [group.nodes[-1].pid, *descendants(group.nodes[-1].pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    group.nodes[-1].wait()


def descendants(pid: int) -> list[int]:
    """Return all processes that a process has started, and these, and so on."""
    children = [int(one) for task in Path(f"/proc/{pid}/task").glob("*/children") for one in task.read_text().split()]
    return [*children, *(further for child in children for further in descendants(child))]


class Programs:
    """Processes with logs in a folder, all gone at the end of the `with` block."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a program."""
        process = start(command, self.folder / f"{name}.log", {**os.environ, **environment})
        self._processes.append(process)
        return process

    def log(self) -> str:
        """Return what the programs said last."""
        return "\n".join(f"{path.name}: {path.read_text()[-500:]}" for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """Kill everything."""
        for process in self._processes:
            started = descendants(process.pid) if process.poll() is None else []
            process.kill()
            process.wait()
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class OurGroup(Programs):
    """Rendezvous store, curriculum service, simulators and trainer nodes on loopback addresses of their own."""

    def __enter__(self) -> "OurGroup":
        file = self.folder / "experiment.json"
        file.write_text(json.dumps(EXPERIMENT))
        net = f"127.{32 + secrets.randbelow(32)}.{secrets.randbelow(250)}"
        self._client = CurriculumClient(f"{net}.1:7001", TOKEN, patience_s=1.0)
        self._last = State(0, 0, 0)
        environment = {
            "ADA_TOKEN": TOKEN,
            "ADA_CURRICULUM_ADDRESS": f"{net}.1:7001",
            "ADA_RENDEZVOUS_ADDRESS": f"{net}.2:7002",
            "ADA_SIMULATOR_ADDRESSES": f"{net}.1{{ordinal}}:7003",
            "ADA_SIMULATOR_COUNT": "2",
            "ADA_STORE": (self.folder / "store").as_uri(),
            "OMP_NUM_THREADS": "1",
        }
        given = ("--experiment", str(file))
        programs = {
            "rendezvous": (2, ("ada_trainer", "rendezvous")),
            "curriculum": (1, ("ada_curriculum", *given)),
            **{f"simulator-{number}": (10 + number, ("ada_sim", "serve", *given)) for number in range(2)},
        }
        launch = ("ada_trainer", "launch", "--stage", "only", "--nodes", f"1:{NODES}", "--rendezvous-id", "benchmark-1")
        programs |= {f"node-{number}": (20 + number, (*launch, *given)) for number in range(NODES)}
        for name, (host, arguments) in programs.items():
            command = [sys.executable, "-m", *arguments]
            process = self.start(name, command, {**environment, "ADA_HOST": f"{net}.{host}"})
            if name.startswith("node-"):
                self.nodes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self.close()

    def state(self) -> State:
        """Return what the curriculum service was told."""
        with suppress(CurriculumError):
            for stage in self._client.progress().stages:
                self._last = State(stage.generation, stage.workers, stage.updates)
        return self._last

    def workers_of(self, node: int) -> list[int]:
        """Return the processes of a node that train."""
        found = descendants(self.nodes[node].pid)
        return [pid for pid in found if Path(f"/proc/{pid}/comm").read_text() == f"{WORKER_NAME}\n"]


class TorchrunGroup(Programs):
    """Two nodes of torchrun."""

    def __enter__(self) -> "TorchrunGroup":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        script = SCRIPTS / "torchrun_loop.py"
        for number in range(NODES):
            self._steps(number).touch()
            command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes=1:{NODES}", "--nproc-per-node=1"]
            command += [
                "--max-restarts=10",
                "--rdzv-backend=c10d",
                f"--rdzv-endpoint={endpoint}",
                "--rdzv-id=benchmark",
            ]
            command += ["--local-addr=127.0.0.1", str(script), str(self._steps(number))]
            self.nodes.append(self.start(f"node-{number}", command, {"OMP_NUM_THREADS": "1"}))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _steps(self, node: int) -> Path:
        return self.folder / f"steps-{node}"

    def state(self) -> State:
        """Return what the first node's worker left."""
        lines = self._steps(0).read_text().splitlines()
        if not lines:
            return State(0, 0, 0)
        worker, size = lines[-1].split()
        return State(int(worker), int(size), sum(line.split()[0] == worker for line in lines))

    def workers_of(self, node: int) -> list[int]:
        """Return the processes of a node that train."""
        return [int(self._steps(node).read_text().splitlines()[-1].split()[0])]
