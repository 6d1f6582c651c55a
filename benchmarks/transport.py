"""Frames from a simulator server to a trainer: our wire beside gRPC's bidirectional streaming and bare sockets.

The server simulates nothing: each step stamps its number on the pictures (72 x 96) of 64 worlds, so that what is
measured is the way between the two processes, encoding and checks included. In shared memory the pictures lie where the
client reads them, since that is where the simulator draws them: nothing but their stamps is written.
`python -m benchmarks.transport ours|raw` runs one end.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from ada_api.environment import Environment
from ada_sim.batch import TimeStep
from ada_sim.client import SimulatorClient, Transport
from ada_sim.constants import ACTION_SIZES
from ada_sim.health import HealthPage
from ada_sim.observation import specification
from ada_sim.server import SimulatorServer
from benchmarks.peer import compare, peer_or_none
from benchmarks.row import Row, rate_row
from benchmarks.services import TOKEN
from benchmarks.timing import Effort, by_turns, rate_of

WORLDS = 64
PICTURE_BYTES = 72 * 96 * 3
ACTION_BYTES = len(ACTION_SIZES)
BATCHES = 4
SPACE = Environment(observation="pixels")


class Pictures:
    """Worlds that cost nothing: noise drawn beforehand, in which each step stamps its number on every picture."""

    def __init__(self, worlds: int) -> None:
        self.players, self.specification = 1, specification(SPACE)
        rng = np.random.default_rng(0)
        fields = {field.name: np.zeros((worlds, 1, *field.shape), field.dtype) for field in self.specification}
        first = TimeStep(
            fields,
            np.zeros((worlds, 1), np.float32),
            np.full(worlds, -1, np.int16),
            *(np.zeros(worlds, bool) for _ in range(2)),
            np.ones(worlds, bool),
        )
        self._noise = rng.integers(0, 256, (worlds, 1, 72, 96, 3), np.uint8)
        self._timestep = replace(first, observation=fields | {"pixels": self._noise.copy()})
        self._rooms: set[int] = set()
        self._steps = 0

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Do nothing."""

    def reset(self, worlds: np.ndarray, pixels: np.ndarray | None = None) -> None:
        """Do nothing."""

    def timestep(self) -> TimeStep:
        """Return the present one."""
        return self._timestep

    def step(self, actions: np.ndarray, pixels: np.ndarray | None = None) -> TimeStep:
        """Stamp the pictures, in `pixels` if given, as a simulator would draw them there."""
        if pixels is not None:
            if pixels.ctypes.data not in self._rooms:  # the first time: noise lies there from now on
                self._rooms.add(pixels.ctypes.data)
                pixels[:] = self._noise
            self._timestep.observation["pixels"] = pixels
        self._steps += 1
        self._timestep.observation["pixels"][:, 0, 0, 0] = stamp(self._steps)
        return self._timestep


def stamp(step: int) -> np.ndarray:
    """Return the first pixel of the pictures of a step."""
    return np.frombuffer(step.to_bytes(4, "little"), np.uint8, 3)


def rows(effort: Effort) -> Iterator[Row]:
    """Measure round trips of actions and pictures over TCP and through shared memory."""
    worlds = 4 if effort.small else WORLDS
    what = f"round trips/s, {worlds} worlds of 96x72 pictures"
    with running("ours") as address, running("raw") as raw_address, peer_or_none(effort, "grpc_stream.py") as peer:
        tcp, shared = (client_of(address, worlds, transport) for transport in ("tcp", "shared"))
        plain = bare_socket(raw_address, worlds)
        actions = np.zeros((worlds, 1, ACTION_BYTES), np.int8)
        for client, way, bar in ((tcp, "TCP", 1.5), (shared, "shared memory", 5.0)):
            work = stamped_steps(client, actions)
            ours, theirs = compare(partial(rate_of, work, 1, effort.seconds), peer, "round_trips", effort)
            yield rate_row("transport", f"{what}, {way}", ours, theirs, "gRPC bidirectional streaming, bytes", bar)
            rates = by_turns([partial(rate_of, one, 1, effort.seconds) for one in (work, plain)], effort.repeats)
            name = "a loop of sendall and recv_into on a TCP socket"
            yield rate_row("transport", f"{what}, {way}", *rates, name, 0.8 if client is tcp else None)
        tcp.close()
        shared.close()


def client_of(address: str, worlds: int, transport: Transport) -> SimulatorClient:
    """Return our client with its worlds open."""
    client = SimulatorClient(address, TOKEN, 1, transport=transport)
    client.open(worlds)
    if client.transport != transport:
        raise RuntimeError(f"frames travel by {client.transport}, not by {transport}")
    return client


def stamped_steps(client: SimulatorClient, actions: np.ndarray) -> Callable[[], None]:
    """Return one step that fails if the last picture is not this step's; the first is compared as a whole."""
    expected = Pictures(len(actions)).step(actions).observation["pixels"]
    first = client.step(actions).observation["pixels"].copy()
    number = int.from_bytes(first[-1, 0, 0, 0].tobytes(), "little")
    expected[:, 0, 0, 0] = stamp(number)
    if (first != expected).any():
        raise RuntimeError("pictures that are to be measured arrive changed")

    def step() -> None:
        nonlocal number
        number += 1
        pixel = client.step(actions).observation["pixels"][-1, 0, 0, 0]
        if int.from_bytes(pixel.tobytes(), "little") != number % (1 << 24):
            raise RuntimeError(f"a picture of step {number} has the stamp {pixel}")

    return step


def bare_socket(address: str, worlds: int) -> Callable[[], None]:
    """Return a round trip of the same bytes without any format."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    _quicken(connection)
    connection.sendall(worlds.to_bytes(4, "little"))
    question, answer = bytes(worlds * ACTION_BYTES), memoryview(bytearray(worlds * PICTURE_BYTES))

    def round_trip() -> None:
        connection.sendall(question)
        _fill(connection, answer)

    return round_trip


def serve_bare(connection: socket.socket) -> None:
    """Answer each batch of actions with pictures until the client is gone."""
    _quicken(connection)
    head = bytearray(4)
    _fill(connection, memoryview(head))
    worlds = int.from_bytes(head, "little")
    question = memoryview(bytearray(worlds * ACTION_BYTES))
    answers = [np.random.default_rng(0).bytes(worlds * PICTURE_BYTES) for _ in range(BATCHES)]
    turn = 0
    while _fill(connection, question):
        turn = (turn + 1) % BATCHES
        connection.sendall(answers[turn])


def _quicken(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, 1 << 21)


def _fill(connection: socket.socket, buffer: memoryview) -> bool:
    while buffer:
        count = connection.recv_into(buffer)
        if count == 0:
            return False
        buffer = buffer[count:]
    return True


@contextmanager
def running(end: str) -> Iterator[str]:
    """Run a server in a process of its own; yields its address."""
    command = [sys.executable, "-m", "benchmarks.transport", end]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def main(end: str) -> None:
    """Serve on a free port of loopback until standard input ends."""
    if end == "ours":
        port = SimulatorServer(Pictures, TOKEN, HealthPage()).listen("127.0.0.1", 0)
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        threading.Thread(target=lambda: serve_bare(listener.accept()[0]), daemon=True).start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
