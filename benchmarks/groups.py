"""Groups of real programs that benchmarks kill and resize: ours, and plain torchrun's."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.processes import start

from ada_api.progress import StageProgress
from ada_curriculum.client import CurriculumClient, CurriculumError
from ada_trainer.elastic.template import WORKER_NAME
from benchmarks.peer import SCRIPTS
from benchmarks.services import TOKEN


@dataclass(frozen=True)
class State:
    """How far a group is."""

    membership: int  # another one after the group came together anew
    workers: int
    updates: int


def descendants(pid: int) -> list[int]:
    """Return all processes that a process has started, and these, and so on."""
    children = [int(one) for task in Path(f"/proc/{pid}/task").glob("*/children") for one in task.read_text().split()]
    return [*children, *(further for child in children for further in descendants(child))]


class Programs:
    """Processes with logs in a folder, all gone at the end of the `with` block."""

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
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

    def __init__(self, folder: Path, experiment: Mapping[str, Any], nodes: int = 2) -> None:
        """Prepare the first stage of an experiment.

        Args:
            experiment: whose group has from 1 to `nodes` nodes, and as many simulators as the stage says.
        """
        super().__init__(folder)
        self.store_uri = (folder / "store").as_uri()
        self._file = folder / "experiment.json"
        self._file.write_text(json.dumps(experiment))
        stage = experiment["spec"]["stages"][0]
        self._stage, self._bounds = stage["name"], f"1:{nodes}"
        self._simulators = stage["simulators"]["replicas"]
        self._net = f"127.{32 + secrets.randbelow(32)}.{secrets.randbelow(250)}"
        self._client = CurriculumClient(f"{self._net}.1:7001", TOKEN, patience_s=1.0)
        self._known = StageProgress(stage=self._stage)
        self._environment = {
            "ADA_TOKEN": TOKEN,
            "ADA_CURRICULUM_ADDRESS": f"{self._net}.1:7001",
            "ADA_RENDEZVOUS_ADDRESS": f"{self._net}.2:7002",
            "ADA_SIMULATOR_ADDRESSES": f"{self._net}.1{{ordinal}}:7003",
            "ADA_SIMULATOR_COUNT": str(self._simulators),
            "ADA_STORE": self.store_uri,
            "OMP_NUM_THREADS": "1",
        }
        self._first_nodes = nodes

    def __enter__(self) -> "OurGroup":
        given = ("--experiment", str(self._file))
        self._program("rendezvous", 2, "ada_trainer", "rendezvous")
        self._program("curriculum", 1, "ada_curriculum", *given)
        for number in range(self._simulators):
            self._program(f"simulator-{number}", 10 + number, "ada_sim", "serve", *given)
        self.nodes = [self.launch(number) for number in range(self._first_nodes)]
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self.close()

    def launch(self, node: int) -> subprocess.Popen[bytes]:
        """Start a node of the group."""
        group = ("--stage", self._stage, "--nodes", self._bounds, "--rendezvous-id", "benchmark-1")
        return self._program(
            f"node-{node}", 20 + node, "ada_trainer", "launch", *group, "--experiment", str(self._file)
        )

    def _program(self, name: str, host: int, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *arguments]
        return self.start(name, command, {**self._environment, "ADA_HOST": f"{self._net}.{host}"})

    def progress(self) -> StageProgress:
        """Return what the curriculum service was told, as far as is known."""
        with suppress(CurriculumError):
            for stage in self._client.progress().stages:
                self._known = stage
        return self._known

    def state(self) -> State:
        """Return how far the group is."""
        known = self.progress()
        return State(known.generation, known.workers, known.updates)

    def workers_of(self, node: int) -> list[int]:
        """Return the processes of a node that train."""
        found = descendants(self.nodes[node].pid)
        return [pid for pid in found if Path(f"/proc/{pid}/comm").read_text() == f"{WORKER_NAME}\n"]


class TorchrunGroup(Programs):
    """Nodes of torchrun, one worker each, the group between one and all of them as ours."""

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        """Prepare as many nodes."""
        super().__init__(folder)
        self._first_nodes = nodes

    def __enter__(self) -> "TorchrunGroup":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        script = SCRIPTS / "torchrun_loop.py"
        for number in range(self._first_nodes):
            self._steps(number).touch()
            command = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                f"--nnodes=1:{self._first_nodes}",
                "--nproc-per-node=1",
            ]
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
