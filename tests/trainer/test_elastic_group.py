"""Real agents, workers, simulators, curriculum and rendezvous store: nodes die, come back, are told to stop."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ada_api.progress import StageProgress
from ada_curriculum.client import CurriculumClient, CurriculumError
from ada_curriculum.store import open_store
from ada_trainer import checkpoint as checkpoints
from ada_trainer.elastic.template import WORKER_NAME

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

DEADLINE_S = 240.0  # for one condition, on a busy machine
RENDEZVOUS_ID = "tiny-teacher-1"
LONG = pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")
LAUNCH = ("launch", "--stage", "teacher", "--nodes", "1:2", "--rendezvous-id", RENDEZVOUS_ID)


class Machine:
    """Processes of one experiment, each on a loopback address of its own."""

    def __init__(self, directory: Path, frames: int, commit_every_s: int = 1) -> None:
        experiment = parts.tiny_experiment(frames)
        rule = experiment.spec.checkpoint.model_copy(update={"interval_seconds": commit_every_s})
        experiment = experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"checkpoint": rule})})
        self.directory = directory
        self.experiment = directory / "experiment.json"
        self.experiment.write_text(experiment.model_dump_json(by_alias=True))
        number = os.getpid() % 60000
        self.net = f"127.{64 + number // 250 % 128}.{number % 250}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "ADA_TOKEN": "secret",
            "ADA_CURRICULUM_ADDRESS": f"{self.net}.1:7001",
            "ADA_RENDEZVOUS_ADDRESS": f"{self.net}.2:7002",
            "ADA_SIMULATOR_ADDRESSES": f"{self.net}.1{{ordinal}}:7003",
            "ADA_SIMULATOR_COUNT": "2",
            "ADA_STORE": (directory / "store").as_uri(),
            "OMP_NUM_THREADS": "1",
        }
        self.store = open_store(self.environment["ADA_STORE"]).child("default/tiny")
        self.client = CurriculumClient(self.environment["ADA_CURRICULUM_ADDRESS"], "secret", patience_s=5.0)

    def start(self, name: str, host: int, module: str, *arguments: str) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        command = [sys.executable, "-m", module, *arguments]
        environment = {**self.environment, "ADA_HOST": f"{self.net}.{host}"}
        with log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def start_all(self) -> None:
        experiment = ("--experiment", str(self.experiment))
        self.start("rendezvous", 2, "ada_trainer", "rendezvous")
        self.start("curriculum", 1, "ada_curriculum", *experiment)
        for ordinal in range(2):
            self.start(f"simulator-{ordinal}", 10 + ordinal, "ada_sim", "serve", *experiment)
        for node in range(2):
            self.launch(node)

    def launch(self, node: int) -> None:
        self.start(f"node-{node}", 20 + node, "ada_trainer", *LAUNCH, "--experiment", str(self.experiment))

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


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(frames: int, commit_every_s: int = 1) -> Machine:
        machines.append(Machine(tmp_path, frames, commit_every_s))
        machines[-1].start_all()
        return machines[-1]

    yield make
    for one in machines:
        one.close()


def is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def committed_frames(machine: Machine) -> int:
    found = checkpoints.newest(machine.store, "teacher")
    return found.manifest.frames if found else 0


@pytest.mark.timeout(600)
def test_a_group_goes_on_after_a_worker_is_killed_and_ends_the_stage(machine: Callable[..., Machine]) -> None:
    here = machine(4_000, commit_every_s=3600)
    here.until("two workers train", lambda: here.progress().workers == 2 and here.progress().frames > 400)
    killed = here.worker_of(1)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    here.until("the group meets again", lambda: here.progress().generation >= 2)
    assert here.wait("node-0") == 0, here.logs()
    assert here.wait("node-1") == 0, here.logs()
    progress = here.progress()
    assert progress.phase == "trained"
    assert progress.workers == 2
    found = checkpoints.newest(here.store, "teacher")
    assert found is not None
    assert found.manifest.frames == progress.frames >= 4_000
    assert progress.checkpoint is not None and progress.checkpoint.digest == found.digest
    assert here.store.head("run/teacher-2.json") is not None, "each membership says where its numbers come from"
    log = (here.directory / "node-0.log").read_text() + (here.directory / "node-1.log").read_text()
    assert "goes on from the memory of worker" in log, "nothing was committed, and yet nothing is begun anew"


@pytest.mark.timeout(600)
def test_a_dead_node_is_left_behind_taken_back_and_all_stop_with_a_commit(machine: Callable[..., Machine]) -> None:
    here = machine(10**9)
    here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)
    orphan = here.worker_of(1)
    assert orphan is not None
    here.processes["node-1"].kill()
    here.processes["node-1"].wait()
    here.until("the dead agent's worker is gone too", lambda: is_gone(orphan))
    before = committed_frames(here)
    here.until("the other goes on alone", lambda: here.progress().workers == 1 and here.progress().frames > before)
    here.launch(1)
    here.until("the node is taken back", lambda: here.progress().workers == 2)
    generation, before = here.progress().generation, here.progress().frames
    here.until("both train", lambda: here.progress().frames > before)

    for node in range(2):
        here.processes[f"node-{node}"].send_signal(signal.SIGTERM)
    assert [here.wait(f"node-{node}") for node in range(2)] == [75, 75], here.logs()
    stopped_at = here.progress().frames
    assert committed_frames(here) == stopped_at

    here.launch(0)
    here.until("training goes on", lambda: here.progress().generation > generation)
    here.until("and moves", lambda: here.progress().frames > stopped_at)
    log = (here.directory / "node-0.log").read_text()
    assert f"{stopped_at:015d}" in log.rpartition("starts from")[2], log


def goes_on(here: Machine, generation: int, frames: int, workers: int = 2) -> None:
    def trains() -> bool:
        progress = here.progress()
        return progress.generation > generation and progress.frames > frames and progress.workers == workers

    here.until(f"{workers} workers go on after generation {generation}", trains)


@LONG
@pytest.mark.timeout(900)
def test_a_group_goes_through_a_hang_and_the_loss_of_all_its_workers(machine: Callable[..., Machine]) -> None:
    here = machine(10**9)
    here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)

    before = here.progress()
    stopped = here.worker_of(1)
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    goes_on(here, before.generation, before.frames)
    assert is_gone(stopped), "the worker that hung is not left behind"

    before, committed = here.progress(), committed_frames(here)
    for node in range(2):
        killed = here.worker_of(node)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
    here.until("a new generation", lambda: here.progress().generation > before.generation)
    assert here.progress().frames >= committed, "nothing committed is lost when all workers are"
    goes_on(here, before.generation, before.frames)


@LONG
@pytest.mark.timeout(900)
def test_a_group_meets_again_when_the_rendezvous_store_was_lost(machine: Callable[..., Machine]) -> None:
    here = machine(10**9)
    here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)
    before, committed = here.progress(), committed_frames(here)
    here.processes["rendezvous"].kill()
    here.processes["rendezvous"].wait()
    time.sleep(2)
    here.start("rendezvous", 2, "ada_trainer", "rendezvous")
    goes_on(here, before.generation, committed)


@LONG
@pytest.mark.timeout(1800)
def test_kills_one_after_the_other_lose_a_moment_at_most(machine: Callable[..., Machine]) -> None:
    here = machine(10**9, commit_every_s=3600)
    here.until("two workers train", lambda: here.progress().workers == 2 and here.progress().frames > 400)
    seconds: list[float] = []
    lost: list[int] = []
    for number in range(6):  # a node gives up after the fourth failure of its own
        before = here.progress()
        killed = here.worker_of(number % 2)
        assert killed is not None
        began = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        here.until("a new generation", lambda seen=before: here.progress().generation > seen.generation)
        here.until("an update", lambda seen=before: here.progress().updates > seen.updates)
        seconds.append(time.monotonic() - began)
        log = "".join((here.directory / f"node-{node}.log").read_text() for node in range(2))
        begun = [int(line.split()[-2]) for line in log.splitlines() if "goes on from the memory" in line]
        assert len(begun) == number + 1, "every membership began from memory"
        lost.append(max(0, before.frames - max(begun)))
        after = here.progress()
        here.until("some updates", lambda seen=after: here.progress().updates > seen.updates + 5)
    assert max(lost) <= 20 * 40, "no more is lost than a moment's updates: snapshots are taken for 5% of the time"
    print("seconds from kill -9 to the next update:", " ".join(f"{one:.1f}" for one in sorted(seconds)))
    print("frames lost:", " ".join(map(str, sorted(lost))), "at 40 an update")
