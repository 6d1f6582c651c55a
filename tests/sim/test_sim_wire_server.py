"""Worlds over a socket: the same bits as here, and clear ends for strangers, the superseded and the lost."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim, TimeStep
from ada_sim.channel import Channel
from ada_sim.client import SimulatorClient, SimulatorLost, SimulatorRefused
from ada_sim.constants import ACTION_REST, ACTION_SIZES
from ada_sim.health import HealthPage
from ada_sim.messages import WORLD_FIELDS, opening, request, sharing
from ada_sim.observation import specification
from ada_sim.server import Limits, SimulatorServer
from ada_sim.shared import OfferedMemory, SharedMemory
from ada_sim.wire import Kind, encode

TOKEN = "a token"
ENVIRONMENT = Environment(observation="symbolic")


class PlainWorlds:
    """Worlds without physics: reward is the sum of the actions, the goal is the task's number."""

    def __init__(self, count: int) -> None:
        self.players = 1
        self.specification = specification(ENVIRONMENT)
        self._goal = np.zeros(count, np.int64)
        observation = {field.name: np.zeros((count, 1, *field.shape), field.dtype) for field in self.specification}
        flags = [np.zeros(count, bool) for _ in range(3)]
        self._timestep = TimeStep(observation, np.zeros((count, 1), np.float32), np.full(count, -1, np.int16), *flags)
        self._next: dict[int, int] = {}

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        if (trials < 1).any():
            raise ValueError(f"trials holds {trials.min()}, must be at least 1")
        self._next |= {int(world): int(task) for world, task in zip(worlds, tasks, strict=True)}

    def reset(self, worlds: np.ndarray, pixels: np.ndarray | None = None) -> None:
        if (worlds > 1000).any():
            raise ZeroDivisionError("a fault of the simulator")
        for world in worlds:
            self._timestep.active[world] = self._timestep.episode_started[world] = world in self._next
            self._timestep.observation["goal"][world] = self._next.pop(int(world), 0)

    def step(self, actions: np.ndarray, pixels: np.ndarray | None = None) -> TimeStep:
        self._timestep.episode_started[:] = False
        self._timestep.reward[:] = actions.sum(axis=2)
        self.reset(np.array(sorted(self._next), np.int64))
        return self._timestep

    def timestep(self) -> TimeStep:
        return self._timestep


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A function that starts a server in this process and returns its address."""
    servers: list[SimulatorServer] = []

    def start(limits: Limits | None = None) -> str:
        server = SimulatorServer(PlainWorlds, TOKEN, HealthPage(), limits)
        servers.append(server)
        return f"127.0.0.1:{server.listen('127.0.0.1', 0)}"

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=["tcp", "auto"])
def clients(request: pytest.FixtureRequest) -> Iterator[Callable[..., SimulatorClient]]:
    """A function that makes a client, which is closed after the test; once over TCP, once with shared memory."""
    made: list[SimulatorClient] = []

    def make(address: str, generation: int = 1, token: str = TOKEN, **options: float) -> SimulatorClient:
        made.append(SimulatorClient(address, token, generation, transport=request.param, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def rest(worlds: int) -> np.ndarray:
    return np.tile(np.array(ACTION_REST, np.int8), (worlds, 1, 1))


def assign(client: SimulatorClient, worlds: list[int], task: int, trials: int = 1) -> None:
    count = len(worlds)
    client.assign(np.array(worlds), np.full(count, task, np.uint64), np.full(count, trials), np.zeros(count, np.uint64))


def test_assignments_travel_with_the_next_step(serve, clients):
    client = clients(serve())
    assert not client.open(3).active.any()
    assign(client, [1], task=4)
    timestep = client.step(rest(3))
    assert timestep.active.tolist() == timestep.episode_started.tolist() == [False, True, False]
    assert timestep.observation["goal"][:, 0, 0].tolist() == [0, 4, 0]
    assert not client.step(rest(3)).episode_started.any()
    assert client.timestep().observation["goal"][:, 0, 0].tolist() == [0, 4, 0]


def test_a_reset_starts_what_is_assigned_and_idles_the_rest(serve, clients):
    client = clients(serve())
    client.open(2)
    assign(client, [0, 1], task=5)
    client.step(rest(2))
    assign(client, [0], task=6)
    timestep = client.reset(np.array([0, 1]))
    assert timestep.active.tolist() == [True, False]
    assert timestep.observation["goal"][:, 0, 0].tolist() == [6, 0]


def test_two_groups_of_worlds_overlap(serve, clients):
    address = serve()
    groups = [clients(address), clients(address)]
    for client in groups:
        client.open(2)
    for number, client in enumerate(groups):
        client.send_step(np.full((2, 1, 6), number, np.int8))
    assert [client.receive().reward[0, 0] for client in groups] == [0.0, 6.0]


def test_the_arrays_are_the_client_s_own_and_stay_in_place(serve, clients):
    client = clients(serve())
    first = client.open(2)
    array = first.observation["goal"]
    assert client.step(rest(2)) is first
    assert first.observation["goal"] is array


def test_an_argument_out_of_range_is_an_error_and_the_connection_goes_on(serve, clients):
    client = clients(serve())
    client.open(2)
    assign(client, [0], task=1, trials=0)
    with pytest.raises(ValueError, match="trials holds 0, must be at least 1"):
        client.step(rest(2))
    assert client.step(rest(2)).reward.shape == (2, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda c: c.step(np.zeros((2, 1, 6), np.int64)), "must be int8", id="wrong-dtype"),
        pytest.param(lambda c: c.step(np.zeros((3, 1, 6), np.int8)), r"must be int8 \(2, 1, 6\)", id="wrong-shape"),
        pytest.param(lambda c: assign(c, [2], 1), "must be 0 to 1", id="world-that-is-not-there"),
        pytest.param(lambda c: c.reset(np.array([0.5])), "must be integers", id="half-a-world"),
    ],
)
def test_the_client_refuses_what_it_can_see_is_wrong(serve, clients, call, words):
    client = clients(serve())
    client.open(2)
    with pytest.raises(ValueError, match=words):
        call(client)
    client.step(rest(2))


def test_steps_out_of_order_are_refused(serve, clients):
    client = clients(serve())
    with pytest.raises(RuntimeError, match="call open first"):
        client.send_step(rest(2))
    client.open(2)
    with pytest.raises(RuntimeError, match="call send_step before receive"):
        client.receive()
    client.send_step(rest(2))
    with pytest.raises(RuntimeError, match="call receive first"):
        client.send_step(rest(2))


@pytest.mark.parametrize("token", ["another token", "", TOKEN + " ", "ä"])
def test_a_wrong_token_is_refused_with_a_hint(serve, clients, token):
    with pytest.raises(SimulatorRefused, match="wrong token: is ADA_TOKEN"):
        clients(serve(), token=token).open(1)


def test_an_older_generation_is_refused_and_a_newer_one_takes_over(serve, clients):
    address = serve()
    old, newer = clients(address, 3), clients(address, 4)
    old.open(1)
    newer.open(1)
    with pytest.raises(SimulatorLost):
        for _ in range(100):  # the first may still be on its way
            old.step(rest(1))
    with pytest.raises(SimulatorRefused, match="generation 3 is over: generation 4 has taken over"):
        old.open(1)
    assert clients(address, 4).open(1) is not None
    newer.step(rest(1))


def test_more_worlds_than_allowed_are_refused(serve, clients):
    with pytest.raises(SimulatorRefused, match="9 worlds asked for, must be 1 to 8"):
        clients(serve(Limits(worlds=8))).open(9)


def test_more_connections_than_allowed_are_refused(serve, clients):
    address = serve(Limits(connections=1))
    first = clients(address)
    first.open(1)
    with pytest.raises(SimulatorRefused, match="1 connections are open"):
        clients(address).open(1)
    first.step(rest(1))


def test_a_silent_client_is_let_go_and_told_so(serve, clients):
    client = clients(serve(Limits(idle_s=1.0)))
    client.open(1)
    client._waiting = True  # for the server's farewell
    with pytest.raises(SimulatorRefused, match="silent for too long"):
        client.receive()


def test_a_fault_of_the_simulator_ends_its_connection_alone(serve, clients):
    address = serve()
    bad, good = clients(address), clients(address)
    bad.open(2000)
    good.open(1)
    with pytest.raises(SimulatorRefused, match="its log says why"):
        bad.reset(np.array([1500]))
    good.step(rest(1))


def test_a_server_that_is_not_there_is_said_after_a_few_tries(clients):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(SimulatorLost, match=r"can't be reached within 0.2 s: .*refused"):
        clients(address, patience_s=0.2).open(1)


def test_a_server_that_never_answers_is_lost(clients):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = clients(f"127.0.0.1:{listener.getsockname()[1]}", answer_s=0.05)
        with pytest.raises(SimulatorLost, match=r"did not answer for 0.05 s"):
            client.open(1)


def test_a_server_that_speaks_another_language_is_lost(clients):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = clients(f"127.0.0.1:{listener.getsockname()[1]}")
        client._connect, connect = lambda: connected(connect()), client._connect

        def connected(own: socket.socket) -> socket.socket:
            there, _ = listener.accept()
            with there:
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                there.shutdown(socket.SHUT_WR)
                return own

        with pytest.raises(SimulatorLost, match=r"no simulator frame|reset|closed|Broken pipe"):
            client.open(1)


@pytest.mark.parametrize("address", ["somewhere", ":7003", "host:", "host:port"])
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(ValueError, match="must be host:port"):
        SimulatorClient(address, TOKEN, 1)


# --- garbage


def mutated(rng: np.random.Generator, frame: bytes) -> bytes:
    changed = bytearray(frame)
    for _ in range(rng.integers(1, 6)):
        changed[rng.integers(len(changed))] = rng.integers(256)
    return bytes(changed[: rng.integers(1, len(changed) + 1)] if rng.random() < 0.3 else changed)


@pytest.mark.timeout(7200 if os.environ.get("ADA_TEST_LONG") else 300)
def test_a_server_survives_thousands_of_mutated_frames_and_serves_the_next_client(serve, clients):
    rng = np.random.default_rng(2)
    dtypes = {"worlds": "i8", "tasks": "u8", "trials": "i8", "seeds": "u8"}
    assignment = {f"assign_{name}": np.zeros(1, dtype) for name, dtype in dtypes.items()}
    first = b"".join(bytes(part) for part in opening(1, TOKEN, 2))
    step = b"".join(bytes(part) for part in encode(Kind.STEP, 1, {"actions": rest(2), **assignment}))
    reset = b"".join(bytes(part) for part in request(1, Kind.RESET, np.zeros(1, np.int64), None))
    offered = OfferedMemory(10_000)
    share = b"".join(bytes(part) for part in sharing(1, offered.offer))
    kinds: Counter[int] = Counter()
    for number in range(100_000 if os.environ.get("ADA_TEST_LONG") else 3000):
        if number % 50 == 0:  # a mutation may have brought a generation that none can follow
            address = serve(Limits(worlds=64))
        frames = [first, step, reset, share]
        frames[number % 4] = mutated(rng, frames[number % 4])
        kinds.update(answers(address, b"".join(frames), offered.memory()))
    assert kinds[Kind.REFUSAL] > 500
    assert kinds[Kind.TIMESTEP] > 500
    client = clients(address, generation=2**64 - 1)
    client.open(2)
    assert client.step(rest(2)).reward[0, 0] == sum(ACTION_REST)


def answers(address: str, content: bytes, memory: SharedMemory) -> list[int]:
    """Send bytes and return the kinds of the frames that come back before the server closes the connection."""
    host, port = address.split(":")
    kinds = []
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        channel = Channel(connection, 1 << 20)
        channel.share(incoming=memory)
        try:
            channel.send([content])
            connection.shutdown(socket.SHUT_WR)
            while True:
                kinds.append(channel.receive()[0].kind)
        except ConnectionError:
            return kinds


# --- the program

FIND = """\
apiVersion: ada.dev/v1alpha1
kind: AdaExperiment
metadata: {name: wire}
spec:
  environment: {observation: symbolic, trials: {min: 1, max: 3}, trialSeconds: [1]}
  stages: [{name: only, frames: 1}]
"""


class Program:
    """`python -m ada_sim serve` as a process."""

    def __init__(self, folder: Path) -> None:
        path = folder / "experiment.yaml"
        path.write_text(FIND)
        self.log = folder / "log"
        command = [sys.executable, "-m", "ada_sim", "serve", "--experiment", str(path), "--host", "127.0.0.1"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--health-port", "0"],
                env={**os.environ, "ADA_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"},
                stderr=log,
            )

    def ports(self) -> tuple[int, int]:
        """Wait for it to be ready; returns the ports of frames, and of health and metrics."""
        pattern = re.compile(r"port (\d+), health and metrics on port (\d+)")
        while (found := pattern.search(self.log.read_text())) is None:
            try:
                code = self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"ended with {code}: {self.log.read_text()}")
        return int(found[1]), int(found[2])

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def program(tmp_path) -> Iterator[Program]:
    started = Program(tmp_path)
    yield started
    started.end()


def same(here: TimeStep, there: TimeStep) -> bool:
    pairs = [(getattr(here, name), getattr(there, name)) for name in WORLD_FIELDS]
    pairs += [(array, there.observation[name]) for name, array in here.observation.items()]
    return all(one.tobytes() == other.tobytes() and one.dtype == other.dtype for one, other in pairs)


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
        return str(response.read().decode())


def test_episodes_over_the_wire_equal_those_here_bit_for_bit_until_the_server_is_told_to_stop(program, clients):
    port, health_port = program.ports()
    client = clients(f"127.0.0.1:{port}")
    there = client.open(6)
    environment = Environment(observation="symbolic", trials={"min": 1, "max": 3}, trial_seconds=[1])
    worlds = BatchSim(6, environment)
    assert same(worlds.timestep(), there)
    rng = np.random.default_rng(3)
    ended = 0
    for number in range(80):
        if number % 10 == 0:
            chosen = np.arange(number // 10 % 2, 6, 2)
            tasks, seeds = (rng.integers(0, 1000, len(chosen)).astype(np.uint64) for _ in range(2))
            content = (chosen, tasks, rng.integers(1, 3, len(chosen)), seeds)
            worlds.assign(*content)
            client.assign(*content)
        actions = rng.integers(0, ACTION_SIZES, (6, 1, 6)).astype(np.int8)
        here, there = worlds.step(actions), client.step(actions)
        assert same(here, there), f"timestep {number}"
        ended += int(there.episode_ended.sum())
        if number == 40:
            worlds.reset(np.array([2, 3]))
            assert same(worlds.timestep(), client.reset(np.array([2, 3])))
    assert ended > 5
    assert client.transport == {"tcp": "tcp", "auto": "shared"}[client._transport]

    assert get(health_port, "/healthz") == "ok\n"
    page = re.sub(r'experiment="[a-z/-]+"', "", get(health_port, "/metrics"))
    assert "ada_simulator_worlds{} 6.0" in page
    assert "ada_simulator_connections{} 1.0" in page
    assert re.search(r"ada_simulator_timesteps_total\{\} [1-9]", page)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(health_port, "/other")

    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(60) == 75
    with pytest.raises(SimulatorLost):
        client.step(actions)


def test_a_killed_server_is_a_lost_simulator(program, clients):
    client = clients(f"127.0.0.1:{program.ports()[0]}", patience_s=0.1)
    client.open(2)
    client.step(rest(2))
    program.end()
    with pytest.raises(SimulatorLost):
        client.step(rest(2))
    with pytest.raises(SimulatorLost, match="can't be reached"):
        client.open(2)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ada_sim", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_configuration_that_can_not_work_ends_with_78_and_says_why(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(FIND.replace("symbolic", "pixel"))
    ended = run("serve", "--experiment", str(path), ADA_TOKEN=TOKEN)
    assert ended.returncode == 78
    assert "spec.environment.observation" in ended.stderr.splitlines()[-1]
    assert run("serve", "--experiment", str(path), ADA_TOKEN="").returncode == 78


def test_a_command_line_that_makes_no_sense_ends_with_2(tmp_path):
    assert run("serve").returncode == 2
    assert run("swim").returncode == 2
    assert run("serve", "--experiment", str(tmp_path / "nothing"), ADA_TOKEN=TOKEN).returncode == 2
