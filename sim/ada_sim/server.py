"""`python -m ada_sim serve --experiment FILE`: worlds for trainers, one group of worlds a connection.

    compile -> listen -> for each connection: open, then answer steps until it closes, breaks, or goes silent

Connections are threads: the compiled simulator and the sockets let others run meanwhile. A connection carries the
generation of its training group; the newest one seen owns the server, older ones are turned away.
"""

import argparse
import hmac
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ada_api.environment import Environment
from ada_api.validation import InvalidExperiment, load
from ada_sim.batch import BatchSim, TimeStep
from ada_sim.channel import Channel, ChannelClosed
from ada_sim.constants import ACTION_REST, ACTION_SIZES
from ada_sim.health import HealthPage
from ada_sim.messages import MAX_TOKEN_BYTES, Reason, TimestepWriter, read_assignment, read_offer, refusal
from ada_sim.observation import Field
from ada_sim.shared import NotSharedError, Offer, accept
from ada_sim.tasks.source import TaskSource
from ada_sim.wire import MAX_ARRAYS, ROW, Buffer, Head, Kind, WireError, decode, take

EXIT_TROUBLE, EXIT_USAGE, EXIT_STOPPED, EXIT_CONFIGURATION = 1, 2, 75, 78
PORT, HEALTH_PORT = 7003, 7103
MAX_CONNECTIONS = 256
STRANGERS = 32  # that may be told that we are full
OPEN_S = 10.0  # for a stranger to say who it is
IDLE_S = 1800.0  # between a client's requests: a checkpoint or a large update may take long
FAREWELL_S = 0.5
STOP_S = 1.0  # for connections to end once told to stop
TABLE_BYTES = MAX_ARRAYS * ROW.size

logger = logging.getLogger("ada_sim.server")


class Worlds(Protocol):
    """What the server needs of `BatchSim`."""

    players: int
    specification: tuple[Field, ...]

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Set the next episode of these worlds."""

    def reset(self, worlds: np.ndarray, pixels: np.ndarray | None = None) -> None:
        """Start it now; if `pixels` is given, what players see lies there from now on."""

    def step(self, actions: np.ndarray, pixels: np.ndarray | None = None) -> TimeStep:
        """Advance all worlds; if `pixels` is given, what players see lies there from now on."""
        ...

    def timestep(self) -> TimeStep:
        """Return the present timestep."""
        ...


class RefusedError(Exception):
    """A request that is well-formed and not granted."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """What clients may ask for."""

    worlds: int = 8192  # a connection
    connections: int = MAX_CONNECTIONS
    open_s: float = OPEN_S
    idle_s: float = IDLE_S


class SimulatorServer:
    """Listens, and serves each connection in a thread."""

    def __init__(
        self, make: Callable[[int], Worlds], token: str, page: HealthPage, limits: Limits | None = None
    ) -> None:
        """Serve worlds that `make(num_worlds)` makes, to clients that know the token."""
        self._make, self._token, self._page = make, token.encode(), page
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._open: dict[Channel, int] = {}  # generation of each connection; -1 before it said it
        self._threads: set[threading.Thread] = set()
        self._newest = -1
        self._stopping = False
        self._listener: socket.socket | None = None

    def listen(self, host: str, port: int) -> int:
        """Listen and accept in a thread of its own; returns the port. Raises OSError if it is taken."""
        self._listener = socket.create_server((host, port), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True, name="accept").start()
        return int(self._listener.getsockname()[1])

    def stop(self) -> None:
        """Stop listening and end all connections."""
        self._stopping = True
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
            self._listener.close()
        with self._lock:
            channels, threads = list(self._open), list(self._threads)
        for channel in channels:
            channel.stop_reading()
        until = time.monotonic() + STOP_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping:
            try:
                connection, address = listener.accept()
            except OSError as error:
                if self._stopping:
                    return
                logger.warning("a connection could not be accepted: %s", error)
                time.sleep(0.1)  # out of file descriptors: some will come back
                continue
            thread = threading.Thread(
                target=self._serve, args=(connection, str(address[0])), daemon=True, name="client"
            )
            self._threads.add(thread)
            thread.start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        """Serve one connection to its end; whatever it sends, the others are not touched."""
        channel = Channel(connection, TABLE_BYTES + MAX_TOKEN_BYTES + 8)
        channel.set_timeout(self._limits.open_s)
        try:
            self._talk(channel, peer)
        except ChannelClosed:
            pass
        except RefusedError as error:
            self._turn_away(channel, peer, error.reason, str(error))
        except WireError as error:
            self._turn_away(channel, peer, Reason.MALFORMED, f"malformed frame: {error}")
        except TimeoutError:
            self._turn_away(channel, peer, Reason.MALFORMED, "silent for too long")
        except OSError as error:
            logger.info("connection from %s broke: %s", peer, error)
        except Exception:
            logger.exception("trouble while serving %s", peer)
            self._turn_away(channel, peer, Reason.INTERNAL, "the simulator failed; its log says why")
        finally:
            with self._lock:
                self._open.pop(channel, None)
                self._page.connections.set(len(self._open))
                self._threads.discard(threading.current_thread())
            channel.close()

    def _talk(self, channel: Channel, peer: str) -> None:
        """Open worlds and answer requests until the connection ends, by an exception."""
        with self._lock:
            if len(self._open) >= self._limits.connections:
                raise RefusedError(Reason.BUSY, f"{len(self._open)} connections are open, at most that many may be")
            self._open[channel] = -1
            self._page.connections.set(len(self._open))
        head, body = channel.receive()
        count = self._checked_opening(head, decode(head, body))
        self._take_over(channel, head.generation)
        worlds = self._make(count)
        channel.limit = TABLE_BYTES + count * (worlds.players * len(ACTION_SIZES) + 40)
        channel.set_timeout(self._limits.idle_s)
        writer = TimestepWriter(worlds.specification, head.generation)
        logger.info("%s opened %d worlds, generation %d", peer, count, head.generation)
        with self._page.worlds.track(count):
            channel.send(writer.frame(worlds.timestep()))
            while True:
                self._answer(channel, worlds, writer, head.generation, count)

    def _checked_opening(self, head: Head, arrays: Mapping[str, np.ndarray]) -> int:
        """Return how many worlds an OPEN asks for, if it may have them."""
        if head.kind is not Kind.OPEN:
            raise WireError(f"the first frame is a {head.kind.name}, must be an OPEN")
        token = take(arrays, "token", np.uint8, (None,)).tobytes()
        if not hmac.compare_digest(token, self._token):
            raise RefusedError(Reason.TOKEN, "wrong token: is ADA_TOKEN the one of this experiment?")
        count = int(take(arrays, "worlds", np.int64, (1,))[0])
        if not 1 <= count <= self._limits.worlds:
            raise RefusedError(
                Reason.BUSY, f"{count} worlds asked for, must be 1 to {self._limits.worlds} a connection"
            )
        return count

    def _take_over(self, channel: Channel, generation: int) -> None:
        """Give the server to this generation: refuse it if a newer one is known, end the connections of older ones."""
        with self._lock:
            if generation < self._newest:
                raise RefusedError(
                    Reason.GENERATION, f"generation {generation} is over: generation {self._newest} has taken over"
                )
            self._newest = generation
            self._page.generation.set(generation)
            self._open[channel] = generation
            older = [other for other, known in self._open.items() if 0 <= known < generation]
        for other in older:
            other.stop_reading()

    def _answer(self, channel: Channel, worlds: Worlds, writer: TimestepWriter, generation: int, count: int) -> None:
        """Receive one request and answer it."""
        waits = time.perf_counter()
        try:
            head, body = channel.receive()
        except ChannelClosed:
            if generation < self._newest:
                message = f"generation {generation} is over: generation {self._newest} has taken over"
                raise RefusedError(Reason.GENERATION, message) from None
            raise
        began = time.perf_counter()
        self._page.idle_seconds.inc(began - waits)
        if head.generation != generation:
            raise WireError(f"generation {head.generation} on a connection of generation {generation}")
        arrays = decode(head, body)
        if head.kind is Kind.SHARE:
            self._share(channel, read_offer(arrays), writer.frame(worlds.timestep()), generation)
            return
        assignment = read_assignment(arrays)
        match head.kind:
            case Kind.STEP:
                content = take(arrays, "actions", np.int8, (count, worlds.players, len(ACTION_SIZES)))
            case Kind.RESET:
                content = take(arrays, "worlds", np.int64, (None,))
            case _:
                raise WireError(f"a {head.kind.name}, must be a STEP or a RESET")
        try:
            if assignment is not None:
                worlds.assign(assignment.worlds, assignment.tasks, assignment.trials, assignment.seeds)
            pixels = writer.pixels(channel.room())
            timestep = worlds.step(content, pixels) if head.kind is Kind.STEP else _reset(worlds, content, pixels)
        except ValueError as error:
            self._page.refuse(Reason.INVALID.name.lower())
            channel.send(refusal(generation, Reason.INVALID, str(error)), through_memory=False)
            return
        self._page.step_seconds.observe(time.perf_counter() - began)
        if head.kind is Kind.STEP:
            self._page.timesteps.inc(float(np.count_nonzero(timestep.active)))
        channel.send(writer.frame(timestep))

    def _share(self, channel: Channel, offer: Offer, present: list[Buffer], generation: int) -> None:
        """Answer from now on through the client's memory, if this host has it."""
        try:
            memory = accept(offer)
        except NotSharedError as error:
            logger.info("no memory is shared: %s", error)
            channel.send(refusal(generation, Reason.INVALID, str(error)), through_memory=False)
            return
        channel.share(outgoing=memory)
        channel.send(present)

    def _turn_away(self, channel: Channel, peer: str, reason: Reason, message: str) -> None:
        self._page.refuse(reason.name.lower())
        logger.warning("turned %s away: %s", peer, message)
        try:
            channel.set_timeout(FAREWELL_S)
            channel.send(refusal(0, reason, message), through_memory=False)
            channel.drain()
        except OSError as error:
            logger.info("%s did not wait to be told: %s", peer, error)


def _reset(worlds: Worlds, chosen: np.ndarray, pixels: np.ndarray | None) -> TimeStep:
    worlds.reset(chosen, pixels)
    return worlds.timestep()


def compile_simulator(environment: Environment) -> None:
    """Play one timestep of one task, so that everything is compiled before a trainer waits for it."""
    source = TaskSource(environment)
    worlds = BatchSim(1, environment, source)
    task = source.draw(np.random.default_rng(0), held_out=False)
    worlds.assign(np.array([0]), np.array([task], np.uint64), np.array([1]), np.array([0], np.uint64))
    worlds.step(np.full((1, worlds.players, len(ACTION_SIZES)), ACTION_REST, np.int8))
    worlds.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    token = os.environ.get("ADA_TOKEN")
    if not token:
        return _fail(EXIT_CONFIGURATION, "ADA_TOKEN must be set")
    try:
        experiment = load(options.experiment)
    except FileNotFoundError as error:
        return _fail(EXIT_USAGE, str(error))
    except (OSError, InvalidExperiment) as error:
        return _fail(EXIT_CONFIGURATION, str(error))
    environment, metadata = experiment.spec.environment, experiment.metadata
    page = HealthPage(f"{metadata.namespace}/{metadata.name}")
    server = SimulatorServer(
        lambda count: BatchSim(count, environment, threads=options.threads),
        token,
        page,
        Limits(worlds=options.max_worlds),
    )
    try:
        health_port = page.serve(options.host, options.health_port)
        failure: list[Exception] = []
        compiling = threading.Thread(target=_compile, args=(environment, failure), daemon=True, name="compile")
        compiling.start()
        while compiling.is_alive() and not stop.wait(0.05):
            pass
        if failure:
            return _fail(EXIT_CONFIGURATION, f"the experiment's environment can't be simulated: {failure[0]}")
        if not stop.is_set():
            port = server.listen(options.host, options.port)
            page.is_ready = True
            logger.info("serving on %s port %d, health and metrics on port %d", options.host, port, health_port)
            stop.wait()
    except OSError as error:
        return _fail(EXIT_TROUBLE, f"can't listen on {options.host}: {error}")
    server.stop()
    return EXIT_STOPPED


def _compile(environment: Environment, failure: list[Exception]) -> None:
    try:
        compile_simulator(environment)
    except Exception as error:
        failure.append(error)


def _fail(code: int, message: str) -> int:
    print(f"ada_sim serve: {message}", file=sys.stderr)  # noqa: T201
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ada_sim serve", description="Serve worlds to trainers.")
    parser.add_argument("--experiment", type=Path, required=True, metavar="FILE", help="JSON or YAML file")
    parser.add_argument("--host", default=os.environ.get("ADA_HOST") or "0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT, help="port of frames; 0 for any")
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT, help="port of health and metrics; 0 for any")
    parser.add_argument(
        "--max-worlds", type=int, default=Limits.worlds, metavar="N", help="worlds a connection may open"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads that share a connection's worlds")
    return parser
