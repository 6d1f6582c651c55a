"""A worker's simulators: one of them is lost, the others go on, and worlds go home when theirs is back."""

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ada_curriculum.types import Lease
from ada_sim.client import SimulatorClient, SimulatorLost
from ada_sim.observation import specification
from ada_sim.tasks.source import TaskSource
from ada_trainer import simulators
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.rollout import Collector
from ada_trainer.simulators import SimulatorSet, SimulatorsGoneError, other_simulators, own_simulators

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

ENVIRONMENT = parts.tiny_experiment().spec.environment
REST = np.array([1, 1, 2, 1, 0, 1], np.int8)


class Landscape:
    """Simulators in this process that can be lost and come back."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.open: list[tuple[str, int]] = []

    def connect(self, address: str, worlds: int) -> "Reached":
        if address in self.gone:
            raise SimulatorLost(f"{address} is gone")
        self.open.append((address, worlds))
        return Reached(self, address, worlds)


class Reached(parts.LocalSimulator):  # type: ignore[misc, name-defined]
    """A connection that breaks when its simulator is lost."""

    def __init__(self, landscape: Landscape, address: str, worlds: int) -> None:
        super().__init__(worlds, ENVIRONMENT)
        self._landscape, self._address = landscape, address

    def receive(self) -> object:
        if self._address in self._landscape.gone:
            raise ConnectionResetError(f"{self._address} is gone")
        return super().receive()

    def close(self) -> None:
        super().close()
        self._landscape.open.remove((self._address, self.worlds))


def actions(worlds: int) -> np.ndarray:
    return np.tile(REST, (worlds, 1, 1))


def start_episodes(ours: SimulatorSet, worlds: np.ndarray) -> None:
    ours.assign(worlds, worlds.astype(np.uint64), np.full(len(worlds), 2), worlds.astype(np.uint64))


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators, "LOOK_FOR_HOME_S", 0.02)


def test_worlds_of_a_lost_simulator_are_opened_elsewhere_and_go_home(quickly: None) -> None:
    landscape = Landscape()
    ours = SimulatorSet(("a", "b"), 5, landscape.connect, others=("c",))
    ours.open()
    assert landscape.open == [("a", 3), ("b", 2)]
    start_episodes(ours, np.arange(5))
    assert ours.step(actions(5)).active.all()

    landscape.gone = {"a"}
    timestep = ours.step(actions(5))
    assert ours.renewed().tolist() == [0, 1, 2]
    assert timestep.active.tolist() == [False] * 3 + [True] * 2, "the other simulator's episodes go on"
    assert sorted(landscape.open) == [("b", 2), ("b", 3)]
    start_episodes(ours, np.arange(3))
    assert ours.step(actions(5)).active.all()
    assert ours.renewed().size == 0

    landscape.gone = {"b"}
    assert not ours.step(actions(5)).active.any(), "both parts were on b"
    assert ours.renewed().tolist() == [0, 1, 2, 3, 4]
    assert sorted(landscape.open)[-2:] == [("c", 2), ("c", 3)] or ("a", 3) in landscape.open

    landscape.gone = set()
    give_up = time.monotonic() + 60
    while not (("a", 3) in landscape.open and ("b", 2) in landscape.open):
        ours.step(actions(5))
        assert time.monotonic() < give_up, landscape.open
    while len(landscape.open) > 2:  # the search may have found a home once more
        ours.step(actions(5))
        assert time.monotonic() < give_up, landscape.open
    assert ours.lost == 3
    ours.close()
    assert landscape.open == []


def test_a_simulator_that_is_missing_at_the_start_is_waited_for_and_then_replaced() -> None:
    landscape, now = Landscape(), itertools.count(0, 5)
    pauses: list[float] = []
    landscape.gone = {"b"}
    ours = SimulatorSet(("a", "b"), 2, landscape.connect, clock=lambda: float(next(now)), sleep=pauses.append)
    ours.open()
    assert pauses and landscape.open == [("a", 1), ("a", 1)]
    ours.close()


def test_while_none_of_our_simulators_is_there_whichever_comes_first_is_taken() -> None:
    landscape, now = Landscape(), itertools.count(0, 5)
    landscape.gone = {"a", "b"}
    pauses: list[float] = []

    def sleep(pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 8:  # long after the first was given up for the time being
            landscape.gone = {"a"}

    ours = SimulatorSet(("a", "b"), 2, landscape.connect, clock=lambda: float(next(now)), sleep=sleep)
    ours.open()
    assert landscape.open == [("b", 1), ("b", 1)]
    ours.close()


def test_without_any_simulator_the_worker_gives_up_and_says_where_it_looked() -> None:
    landscape, now = Landscape(), itertools.count(0, 20)
    landscape.gone = {"a", "c"}
    ours = SimulatorSet(("a",), 2, landscape.connect, ("c",), lambda: float(next(now)), lambda _: None)
    with pytest.raises(SimulatorsGoneError, match="c, a"):
        ours.open()
    ours.close()


def test_a_worker_that_is_told_to_stop_meanwhile_waits_less_for_a_simulator() -> None:
    landscape, pauses = Landscape(), list[float]()
    landscape.gone = {"a"}
    ours = SimulatorSet(
        ("a",), 2, landscape.connect, (), lambda: 20.0 + len(pauses), pauses.append, lambda: 0.0 if pauses[2:] else 99.0
    )
    ours.lost = 1  # no longer at the start, where some may take longer
    with pytest.raises(SimulatorsGoneError, match="for 0 s"):
        ours.open()
    assert len(pauses) == 3
    ours.close()


def test_more_workers_than_simulators_share_them_and_stand_ins_are_spread() -> None:
    addresses = ("a", "b", "c")
    assert [own_simulators(addresses, rank, 4) for rank in range(4)] == [("a",), ("b",), ("c",), ("a",)]
    assert [other_simulators(addresses, rank, 3) for rank in range(3)] == [("b", "c"), ("c", "a"), ("a", "b")]
    assert other_simulators(addresses, 0, 1) == ()


class Servers:
    """Simulator servers as processes, each on a loopback address of its own."""

    def __init__(self, directory: Path) -> None:
        self.experiment = directory / "experiment.json"
        self.experiment.write_text(parts.tiny_experiment().model_dump_json(by_alias=True))
        number = os.getpid() % 60000
        self.net = f"127.{194 + number // 250 % 40}.{number % 250}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> str:
        host = f"{self.net}.{10 + ord(name) - ord('a')}"
        command = [sys.executable, "-m", "ada_sim", "serve", "--experiment", str(self.experiment), "--host", host]
        self.processes[name] = subprocess.Popen(command, env={**os.environ, "ADA_TOKEN": "secret"})
        return f"{host}:7003"

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    made = Servers(tmp_path)
    yield made
    made.close()


def connect(address: str, worlds: int) -> SimulatorClient:
    client = SimulatorClient(address, "secret", 1)
    client.open(worlds)
    return client


def leases_of(source: TaskSource) -> Callable[[int], list[Lease]]:
    numbers, rng = itertools.count(), np.random.default_rng(1)

    def lease(count: int) -> list[Lease]:
        tasks = [source.draw(rng, held_out=False) for _ in range(count)]
        return [Lease(str(next(numbers)), task, 2, number, True, "agent") for number, task in enumerate(tasks)]

    return lease


@pytest.mark.timeout(300)
def test_kill_9_of_one_of_two_simulators_leaves_the_others_episodes_alone(servers: Servers, quickly: None) -> None:
    addresses = [servers.start(name) for name in "ab"]
    ours = SimulatorSet(addresses, 4, connect)
    ours.open()
    algorithm = parts.tiny_experiment().spec.stages[0].algorithm.model_copy(update={"unroll": 5})
    model = parts.tiny_experiment().spec.stages[0].model
    network = AgentNetwork(model, specification(ENVIRONMENT), tuple(ENVIRONMENT.action_groups))
    collector = Collector(
        ours, 4, 1, network, algorithm, leases_of(TaskSource(ENVIRONMENT)), seed=1, renewed=ours.renewed
    )
    collector.collect()
    before = [lease.id for lease in collector._episodes.running if lease is not None]
    assert len(before) == 4

    killed = servers.processes["a"]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    finished: set[str] = set()
    frames = 0
    for _ in range(6):
        collected = collector.collect()
        frames += collected.timesteps
        finished |= {result.lease for result in collected.results}
    assert ours.lost == 1
    assert set(before[2:]) <= finished, "the episodes of the simulator that is left went on to their ends"
    assert not set(before[:2]) & finished, "those of the lost one were dropped"
    assert frames >= 6 * 5 * 4 - 2 * 2, "and its worlds stood still for a step or two alone"

    servers.start("a")
    give_up = time.monotonic() + 120
    while any(part.is_away for part in ours._parts):
        collector.collect()
        assert time.monotonic() < give_up, "the worlds did not go home"
    assert collector.collect().timesteps > 0
    ours.close()


@pytest.mark.timeout(300)
def test_simulators_are_added_and_removed_while_worlds_run(
    servers: Servers, quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulators, "COMPLETE_PATIENCE_S", 0.2)
    addresses = [f"{servers.net}.10:7003", servers.start("b")]  # a is yet to come
    ours = SimulatorSet(addresses, 4, connect)
    ours.open()
    assert [part.address for part in ours._parts] == [addresses[1]] * 2
    leases = itertools.count()

    def play_until(done: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + 120
        while not done():
            idle = np.flatnonzero(~ours.step(actions(4)).active)
            numbers = np.array([next(leases) for _ in idle], np.uint64)
            ours.assign(idle, numbers, np.ones(len(idle), np.int64), numbers)
            assert time.monotonic() < give_up, f"{what}: {[part.address for part in ours._parts]}"

    try:
        play_until(lambda: next(leases) > 8, "worlds start on the simulator that is there")
        servers.start("a")
        play_until(lambda: not any(part.is_away for part in ours._parts), "half go to the simulator that was added")
        assert ours.lost == 0, "nothing was lost on the way"
        servers.processes["b"].send_signal(signal.SIGTERM)
        assert servers.processes["b"].wait(60) == 75
        play_until(lambda: ours._parts[1].address == addresses[0], "all go to the one that is left")
        assert ours.lost == 1
        last = next(leases)
        play_until(lambda: next(leases) > last + 8, "and their episodes start there")
    finally:
        ours.close()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
