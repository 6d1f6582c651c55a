"""A training group as real processes: rendezvous store, curriculum service, simulators, nodes; what tests do to it."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ada_api.operations import Retention
from ada_api.progress import StageProgress
from ada_curriculum.client import CurriculumClient, CurriculumError
from ada_curriculum.manifest import Manifest, list_checkpoints, newest_whole
from ada_curriculum.store import open_store
from ada_trainer.elastic.template import WORKER_NAME

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

DEADLINE_S = float(os.environ.get("ADA_TEST_PATIENCE_S", "240"))  # for one condition, on a busy machine
RENDEZVOUS_ID = "tiny-teacher-1"


class Machine:
    """Processes of one experiment, each on an address of its own: of loopback, or of a network that is given."""

    def __init__(
        self,
        directory: Path,
        frames: int,
        commit_every_s: int = 1,
        nodes: int = 2,
        net: str | None = None,
        within: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Write the experiment down; nothing is started yet.

        Args:
            net: first three numbers of the addresses.
            within: by name of a program, the command that starts it and takes its place.
        """
        experiment = parts.tiny_experiment(frames)
        kept = Retention(last=10_000)  # all: they tell whether two groups ever committed
        rule = experiment.spec.checkpoint.model_copy(update={"interval_seconds": commit_every_s, "retention": kept})
        experiment = experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"checkpoint": rule})})
        self.directory = directory
        self.experiment = directory / "experiment.json"
        self.experiment.write_text(experiment.model_dump_json(by_alias=True))
        number = os.getpid() % 60000
        self.net = net or f"127.{64 + number // 250 % 128}.{number % 250}"
        self.nodes = nodes
        self.simulators = max(2, nodes)
        self.within = within or {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "ADA_TOKEN": "secret",
            "ADA_CURRICULUM_ADDRESS": f"{self.net}.1:7001",
            "ADA_RENDEZVOUS_ADDRESS": f"{self.net}.2:7002",
            "ADA_SIMULATOR_ADDRESSES": f"{self.net}.1{{ordinal}}:7003",
            "ADA_SIMULATOR_COUNT": str(self.simulators),
            "ADA_STORE": (directory / "store").as_uri(),
            "OMP_NUM_THREADS": "1",
        }
        self.store = open_store(self.environment["ADA_STORE"]).child("default/tiny")
        self.client = CurriculumClient(self.environment["ADA_CURRICULUM_ADDRESS"], "secret", patience_s=5.0)

    def start(self, name: str, host: int, module: str, *arguments: str) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        command = [*self.within.get(name, ()), sys.executable, "-m", module, *arguments]
        environment = {**self.environment, "ADA_HOST": f"{self.net}.{host}"}
        with log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def start_all(self) -> None:
        experiment = ("--experiment", str(self.experiment))
        self.start("rendezvous", 2, "ada_trainer", "rendezvous")
        self.start("curriculum", 1, "ada_curriculum", *experiment)
        for ordinal in range(self.simulators):
            self.start(f"simulator-{ordinal}", 10 + ordinal, "ada_sim", "serve", *experiment)
        for node in range(self.nodes):
            self.launch(node)

    def launch(self, node: int) -> None:
        group = ("--stage", "teacher", "--nodes", f"1:{self.nodes}", "--rendezvous-id", RENDEZVOUS_ID)
        self.start(f"node-{node}", 20 + node, "ada_trainer", "launch", *group, "--experiment", str(self.experiment))

    def leader(self) -> int:
        """Return the node whose worker speaks for the group, as of the last meeting."""
        met = {node: self.log(node).rpartition(" met the others")[0][-40:] for node in range(self.nodes)}
        return next(node for node, line in met.items() if " node 0 of " in line)

    def log(self, node: int) -> str:
        return (self.directory / f"node-{node}.log").read_text()

    def worker_of(self, node: int) -> int | None:
        for child in children_of(self.processes[f"node-{node}"].pid):
            for pid in children_of(child):
                if Path(f"/proc/{pid}/comm").read_text() == f"{WORKER_NAME}\n":
                    return pid
        return None

    def progress(self) -> StageProgress:
        try:
            return next(iter(self.client.progress().stages), StageProgress(stage="teacher"))
        except CurriculumError:
            return StageProgress(stage="teacher")

    def until(self, claim: str, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up, f"not within {DEADLINE_S:g} s: {claim}\n{self.progress()}\n{self.logs()}"
            time.sleep(0.1)

    def wait(self, name: str) -> int:
        self.until(f"{name} ends", lambda: self.processes[name].poll() is not None)
        return self.processes[name].wait()

    def logs(self) -> str:
        tails = [f"== {path.name}\n{path.read_text()[-2500:]}" for path in sorted(self.directory.glob("*.log"))]
        return "\n".join(tails)

    def close(self) -> None:
        self.client.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.glob("*/children") for child in task.read_text().split()]


def is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def committed_frames(machine: Machine) -> int:
    found = newest_whole(machine.store, "teacher")
    return found.manifest.frames if found else 0


def commits(machine: Machine) -> list[Manifest]:
    """Return the manifests of what is committed, in the order in which they were."""
    return sorted((one.manifest for one in list_checkpoints(machine.store, "teacher")), key=lambda one: one.time)


def one_chain(machine: Machine) -> list[Manifest]:
    """Return all that was ever committed, having seen that no two groups committed by turns and no frame fell back."""
    made = commits(machine)
    order = [(one.generation, one.frames, one.updates) for one in made]
    assert order == sorted(set(order)), f"generations are not one after the other: {order}"
    frames = [one.frames for one in made]
    assert frames == sorted(set(frames)), f"committed frames were lost: {order}"
    generation = {one.digest: one.manifest.generation for one in list_checkpoints(machine.store, "teacher")}
    for one in made:
        began = 0 if one.resumed_from is None else generation[one.resumed_from.digest]
        assert began < one.generation, f"generation {one.generation} began from a commit of generation {began}"
    return made


def goes_on(here: Machine, generation: int, frames: int, workers: int = 2) -> None:
    def trains() -> bool:
        progress = here.progress()
        return progress.generation > generation and progress.frames > frames and progress.workers == workers

    here.until(f"{workers} workers go on after generation {generation}", trains)


@contextmanager
def running(machine: Machine) -> Iterator[Machine]:
    """Start everything; whatever comes, nothing is left of it."""
    try:
        machine.start_all()
        yield machine
    finally:
        machine.close()
