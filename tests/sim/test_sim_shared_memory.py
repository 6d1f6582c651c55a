"""Memory that simulator server and client share: chosen where it can be, checked like the wire, gone with its users."""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim, TimeStep
from ada_sim.client import SimulatorClient, SimulatorLost, SimulatorRefused
from ada_sim.constants import ACTION_SIZES
from ada_sim.health import HealthPage
from ada_sim.messages import TimestepReader, TimestepWriter
from ada_sim.observation import specification
from ada_sim.server import SimulatorServer
from ada_sim.shared import NONCE_BYTES, NotSharedError, OfferedMemory, accept
from ada_sim.wire import HEADER, Head, Kind, WireError

LONG = bool(os.environ.get("ADA_TEST_LONG"))
ENVIRONMENT = Environment(observation="pixels")


class CountedWorlds:
    """Worlds whose pixels are all the number of the step."""

    def __init__(self, count: int) -> None:
        self.players = 1
        self.specification = specification(ENVIRONMENT)
        observation = {field.name: np.zeros((count, 1, *field.shape), field.dtype) for field in self.specification}
        flags = [np.zeros(count, bool) for _ in range(3)]
        self._timestep = TimeStep(observation, np.zeros((count, 1), np.float32), np.full(count, -1, np.int16), *flags)

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Episodes make no difference here."""

    def reset(self, worlds: np.ndarray, pixels: np.ndarray | None = None) -> None:
        self._draw(0, pixels)

    def step(self, actions: np.ndarray, pixels: np.ndarray | None = None) -> TimeStep:
        if (actions < 0).any():
            raise ValueError("actions must not be negative")
        self._draw(1, pixels)
        return self._timestep

    def _draw(self, more: int, pixels: np.ndarray | None) -> None:
        before = self._timestep.observation["pixels"]
        self.drawn_in_place = pixels is not None
        self._timestep.observation["pixels"] = np.add(before, more, out=before if pixels is None else pixels)

    def timestep(self) -> TimeStep:
        return self._timestep


def rest(worlds: int) -> np.ndarray:
    return np.ones((worlds, 1, len(ACTION_SIZES)), np.int8)


@pytest.fixture
def address() -> Iterator[str]:
    server = SimulatorServer(CountedWorlds, "t", HealthPage())
    yield f"127.0.0.1:{server.listen('127.0.0.1', 0)}"
    server.stop()


@pytest.fixture
def connect(address: str) -> Iterator[Callable[..., SimulatorClient]]:
    with contextlib.ExitStack() as closing:

        def make(**options: object) -> SimulatorClient:
            client = SimulatorClient(address, "t", 1, **options)  # type: ignore[arg-type]
            closing.callback(client.close)
            return client

        yield make


def test_on_one_host_memory_is_shared_unless_tcp_is_asked_for(connect: Callable[..., SimulatorClient]) -> None:
    for asked, used in (("auto", "shared"), ("shared", "shared"), ("tcp", "tcp")):
        client = connect(transport=asked)
        client.open(4)
        assert client.transport == used
        assert (client.step(rest(4)).observation["pixels"] == 1).all()


@pytest.mark.parametrize("transport", ["shared", "tcp"])
def test_what_was_received_stays_as_it_is_until_the_next_receive(
    connect: Callable[..., SimulatorClient], transport: str
) -> None:
    client = connect(transport=transport)
    client.open(8)
    for number in range(1, 20):
        pixels = client.step(rest(8)).observation["pixels"]
        client.send_step(rest(8))
        time.sleep(0.002)  # the server has answered by now, as a rule
        assert (pixels == 2 * number - 1).all()
        client.receive()
        assert (pixels == 2 * number - 1).all(), "what comes next lies elsewhere"


def test_refusals_and_resets_leave_what_was_received_as_it_is(connect: Callable[..., SimulatorClient]) -> None:
    client = connect(transport="shared")
    client.open(8)
    for number in range(1, 6):
        pixels = client.step(rest(8)).observation["pixels"]
        for request in (lambda: client.send_step(-rest(8)), lambda: client._send(Kind.RESET, np.arange(3))):
            request()
            time.sleep(0.002)
            assert (pixels == number).all()
            try:
                client.receive()
            except ValueError as error:
                assert "negative" in str(error)
            assert (client.timestep().observation["pixels"] == number).all()


def test_pictures_are_drawn_where_the_client_reads_them() -> None:
    made: list[CountedWorlds] = []

    def make(count: int) -> CountedWorlds:
        made.append(CountedWorlds(count))
        return made[-1]

    server = SimulatorServer(make, "t", HealthPage())
    client = SimulatorClient(f"127.0.0.1:{server.listen('127.0.0.1', 0)}", "t", 1)
    try:
        client.open(4)
        for number in range(1, 5):
            seen = client.step(rest(4)).observation["pixels"]
            drawn = made[0].timestep().observation["pixels"]
            assert made[0].drawn_in_place and (seen == number).all()
            drawn[0, 0, 0, 0, 0] = 200  # the server's array and the client's are the same memory
            assert seen[0, 0, 0, 0, 0] == 200
            drawn[0, 0, 0, 0, 0] = number
    finally:
        client.close()
        server.stop()


def test_a_server_elsewhere_answers_over_the_socket(
    connect: Callable[..., SimulatorClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)  # a process id that means nothing to the server
    client = connect()
    client.open(4)
    assert client.transport == "tcp"
    assert (client.step(rest(4)).observation["pixels"] == 1).all()
    with pytest.raises(SimulatorRefused, match="no memory is shared"):
        connect(transport="shared").open(4)


def file_of(path: Path, size: int) -> int:
    path.write_bytes(bytes(size))
    return os.open(path, os.O_RDWR)


def test_what_is_not_the_clients_memory_is_not_touched(tmp_path: Path) -> None:
    with OfferedMemory(1000) as offered:
        offer = offered.offer
        accept(offer)
        size = mmap.PAGESIZE + 2 * offer.area
        handles = [file_of(tmp_path / "file", size), os.open("/dev/zero", os.O_RDWR), os.memfd_create("plain")]
        os.ftruncate(handles[2], size)
        os.mkfifo(tmp_path / "pipe")
        handles.append(os.open(tmp_path / "pipe", os.O_RDWR))
        try:
            for wrong in (
                replace(offer, nonce=bytes(NONCE_BYTES)),
                replace(offer, area=offer.area * 2),
                replace(offer, area=offer.area + 1),
                replace(offer, area=-mmap.PAGESIZE),
                replace(offer, area=1 << 40),
                replace(offer, process=-1),
                replace(offer, process=2**62),
                replace(offer, handle=9999),
                *(replace(offer, handle=handle) for handle in handles),
            ):
                with pytest.raises(NotSharedError):
                    accept(wrong)
        finally:
            for handle in handles:
                os.close(handle)
        assert (tmp_path / "file").read_bytes() == bytes(size)


def test_shared_memory_can_not_shrink_under_the_other_side() -> None:
    with OfferedMemory(1000) as offered, pytest.raises(PermissionError):
        os.ftruncate(offered.offer.handle, 0)


def test_what_is_too_long_for_the_memory_is_not_put_there() -> None:
    with OfferedMemory(100) as offered:
        memory = offered.memory()
        assert memory.put([memoryview(bytes(offered.area + 1))]) is None
        assert memory.put([memoryview(b"ab"), memoryview(b"c")]) is not None


@pytest.mark.timeout(7200 if LONG else 300)
def test_mutated_frames_in_shared_memory_are_read_or_refused_and_nothing_else() -> None:
    frames = 1_000_000 if LONG else 5_000
    worlds = CountedWorlds(2)
    writer = TimestepWriter(worlds.specification, 1)
    parts = writer.frame(worlds.timestep())
    body = bytearray(b"".join(bytes(part) for part in parts)[HEADER.size :])
    arrays = HEADER.unpack(parts[0][: HEADER.size])[5]
    head = Head(Kind.TIMESTEP, len(body), arrays, 1, place=1)
    reader = TimestepReader(head, memoryview(body), 2)
    rng = np.random.default_rng(7)
    refused, interesting = 0, arrays * 52 + 200  # the table, and the flags and rows behind it
    for _ in range(frames):
        places = rng.integers(0, interesting if rng.random() < 0.8 else len(body), rng.integers(1, 5))
        kept = [(place, body[place]) for place in places.tolist()]
        for place, _ in kept:
            body[place] = rng.integers(256)
        try:
            reader.read(head, memoryview(body), lent=True)
        except WireError as error:
            refused += 1
            assert str(error)
        for place, value in reversed(kept):
            body[place] = value
    assert frames // 4 < refused < frames
    reader.read(head, memoryview(body))


def test_real_worlds_drawn_into_shared_memory_are_those_drawn_here_bit_for_bit() -> None:
    environment = Environment(observation="pixels", trials={"min": 1, "max": 2}, trial_seconds=[1])  # type: ignore[arg-type]
    server = SimulatorServer(lambda count: BatchSim(count, environment), "t", HealthPage())
    client = SimulatorClient(f"127.0.0.1:{server.listen('127.0.0.1', 0)}", "t", 1, transport="shared")
    here = BatchSim(6, environment)
    rng, lit = np.random.default_rng(4), 0
    try:
        client.open(6)
        for number in range(30):
            if number % 10 == 0:
                chosen = np.arange(number // 10 % 2, 6, 2)
                tasks, seeds = (rng.integers(0, 1000, len(chosen)).astype(np.uint64) for _ in range(2))
                trials = rng.integers(1, 3, len(chosen))
                for worlds in (here, client):
                    worlds.assign(chosen, tasks, trials, seeds)
            actions = rng.integers(0, ACTION_SIZES, (6, 1, 6)).astype(np.int8)
            if number % 7 == 3:  # refused: nothing changes, and nothing is drawn anywhere
                with pytest.raises(ValueError, match="must be 0 to"):
                    client.step(actions + 100)
            expected, found = here.step(actions), client.step(actions)
            if number % 5 == 2:
                here.reset(np.array([1, 4]))
                expected, found = here.timestep(), client.reset(np.array([1, 4]))
            for name, array in expected.observation.items():
                assert np.array_equal(found.observation[name], array), f"{name} of timestep {number}"
            lit += bool(expected.observation["pixels"].any())
        assert lit > 10, "there was something to see"
    finally:
        client.close()
        server.stop()


SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_sim_shared_memory import CountedWorlds
from ada_sim.health import HealthPage
from ada_sim.server import SimulatorServer
print(SimulatorServer(CountedWorlds, "t", HealthPage()).listen("127.0.0.1", 0), flush=True)
time.sleep(600)
"""
CLIENT = """
import sys
import numpy as np
from ada_sim.client import SimulatorClient
client = SimulatorClient(sys.argv[2], "t", 1)
client.open(16)
print(client.transport, flush=True)
while True:
    client.step(np.ones((16, 1, 6), np.int8))
"""


def start(code: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def maps_frames(process: int | str) -> bool:
    return "ada-frames" in Path(f"/proc/{process}/maps").read_text()


def test_kill_9_of_either_side_leaves_no_memory_behind() -> None:
    server, port = start(SERVER)
    try:
        killed, transport = start(CLIENT, f"127.0.0.1:{port}")
        try:
            assert transport == "shared" and maps_frames(server.pid)
        finally:
            kill(killed)
        give_up = time.monotonic() + 60
        while maps_frames(server.pid):
            assert time.monotonic() < give_up, "the server still holds the memory of a client that is gone"
            time.sleep(0.02)

        client = SimulatorClient(f"127.0.0.1:{port}", "t", 1, patience_s=0.1)
        client.open(16)
        assert client.transport == "shared" and maps_frames("self")
    finally:
        kill(server)
    with pytest.raises(SimulatorLost):
        for _ in range(3):
            client.step(rest(16))
    del client
    assert not maps_frames("self")
