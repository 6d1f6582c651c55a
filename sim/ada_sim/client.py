"""Worlds on a simulator server, used as if they were here."""

import socket
import time
from typing import Literal

import numpy as np

from ada_sim.batch import TimeStep
from ada_sim.channel import Channel
from ada_sim.constants import ACTION_SIZES
from ada_sim.messages import (
    WORLD_FIELDS,
    Assignment,
    Reason,
    TimestepReader,
    opening,
    read_refusal,
    request,
    sharing,
)
from ada_sim.shared import OfferedMemory, is_near
from ada_sim.wire import MAX_ARRAYS, ROW, Kind, WireError, decode

MAX_ANSWER_BYTES = 1 << 30
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5

Transport = Literal["auto", "tcp", "shared"]


class SimulatorLost(ConnectionError):  # noqa: N818
    """The server, or the way to it, is gone, and the episodes with it; opening again starts fresh worlds."""


class SimulatorRefused(SimulatorLost):
    """The server is there and won't serve us: wrong token, older generation, too many worlds or clients."""


class SimulatorClient:
    """One group of worlds on one server."""

    def __init__(
        self,
        address: str,
        token: str,
        generation: int,
        *,
        patience_s: float = 2.0,
        answer_s: float = 120.0,
        transport: Transport = "auto",
    ) -> None:
        """Note where the server is; `open` connects.

        Args:
            address: host:port.
            generation: of the training group; a server that has seen a newer one refuses us.
            patience_s: how long `open` goes on trying to connect.
            answer_s: silence after which the server counts as lost.
            transport: `tcp`; `shared` memory, or `open` fails; `auto`: shared memory if the server is on this host.
        """
        host, mark, port = address.rpartition(":")
        if not (mark and host and port.isdigit()):
            raise ValueError(f"simulator address {address!r}, must be host:port")
        self.address = address
        self._place = (host, int(port))
        self._token, self._generation = token, generation
        self._patience_s, self._answer_s = patience_s, answer_s
        self._transport = transport
        self.transport: Transport = "tcp"  # in use
        self._channel: Channel | None = None
        self._reader: TimestepReader | None = None
        self._worlds = 0
        self._pending: dict[int, tuple[int, int, int]] = {}  # task, trials and seed, by world
        self._waiting = False

    def open(self, num_worlds: int) -> TimeStep:
        """Connect and make idle worlds; returns their first timestep.

        Raises:
            SimulatorLost: the server can't be reached, or breaks off.
            SimulatorRefused: it refuses.
        """
        self.close()
        self.transport = "tcp"
        self._worlds, self._reader, self._pending = num_worlds, None, {}
        self._channel = Channel(self._connect(), MAX_ANSWER_BYTES)
        self._channel.set_timeout(self._answer_s)
        try:
            self._channel.send(opening(self._generation, self._token, num_worlds))
        except OSError as error:
            raise self._lost(error) from error
        self._waiting = True
        timestep = self.receive()
        if self._transport == "shared" or (self._transport == "auto" and is_near(self._channel.socket)):
            self._share(self._channel, timestep)
        return timestep

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Set the episode that each of these worlds starts next; it travels with the next step.

        Args:
            worlds: int64 [N]; tasks: uint64 [N]; trials: int64 [N]; seeds: uint64 [N].

        Raises:
            ValueError: lengths differ or a world does not exist. What else is wrong, the next step says.
        """
        self._check_worlds(worlds)
        for name, values in (("tasks", tasks), ("trials", trials), ("seeds", seeds)):
            if np.shape(values) != np.shape(worlds):
                raise ValueError(f"{name} has shape {np.shape(values)}, must be {np.shape(worlds)} like worlds")
        for world, task, k, seed in zip(worlds, tasks, trials, seeds, strict=True):
            self._pending[int(world)] = (int(task), int(k), int(seed))

    def reset(self, worlds: np.ndarray) -> TimeStep:
        """End the present episode of these worlds (int64 [N]) now and start the assigned one; returns the timestep."""
        self._check_worlds(worlds)
        self._send(Kind.RESET, np.asarray(worlds, np.int64))
        return self.receive()

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance every world by one timestep; actions are int8 [B, P, 6]."""
        self.send_step(actions)
        return self.receive()

    def send_step(self, actions: np.ndarray) -> None:
        """Ask for the next timestep; `receive` waits for it.

        Raises:
            ValueError: wrong shape or dtype; nothing was sent.
            SimulatorLost: the server is gone.
        """
        if self._reader is None:
            raise RuntimeError(f"no worlds are open on simulator {self.address}: call open first")
        shape = (self._worlds, self._reader.players, len(ACTION_SIZES))
        if not isinstance(actions, np.ndarray) or actions.dtype != np.int8 or actions.shape != shape:
            given = f"{getattr(actions, 'dtype', type(actions).__name__)} {np.shape(actions)}"
            raise ValueError(f"actions are {given}, must be int8 {shape}")
        self._send(Kind.STEP, actions)

    def receive(self) -> TimeStep:
        """Wait for the answer to what was sent. The arrays are overwritten by the next one.

        Raises:
            ValueError: the server found an argument out of range; no world has changed.
            SimulatorLost: the server is gone, silent, or speaks another language.
        """
        channel = self._opened()
        if not self._waiting:
            raise RuntimeError("nothing was asked: call send_step before receive")
        try:
            head, body = channel.receive()
            self._waiting = False
            if head.kind is Kind.REFUSAL:
                reason, message = read_refusal(decode(head, body))
                if reason is Reason.INVALID:
                    raise ValueError(f"simulator {self.address}: {message}")
                self.close()
                raise SimulatorRefused(f"simulator {self.address} refused us: {message}")
            if head.kind is not Kind.TIMESTEP or head.generation != self._generation:
                raise WireError(f"answer is a {head.kind.name} of generation {head.generation}")
            if self._reader is None:
                self._reader = TimestepReader(head, body, self._worlds)
                return self._reader.timestep
            return self._reader.read(head, body, lent=True)  # channel and shared memory both keep two answers
        except SimulatorRefused:
            raise
        except (OSError, WireError) as error:
            raise self._lost(error) from error

    def timestep(self) -> TimeStep:
        """Return the present timestep without stepping."""
        if self._reader is None:
            raise RuntimeError(f"no worlds are open on simulator {self.address}: call open first")
        return self._reader.timestep

    def close(self) -> None:
        """Let the worlds go. May be called at any time, and twice."""
        if self._channel is not None:
            self._channel.close()
        self._channel, self._waiting = None, False

    def _share(self, channel: Channel, timestep: TimeStep) -> None:
        """Offer the server memory for its answers; without it the socket carries them."""
        arrays = [*timestep.observation.values(), *(getattr(timestep, name) for name in WORLD_FIELDS)]
        body = MAX_ARRAYS * ROW.size + sum(array.nbytes for array in arrays) + 8 * self._worlds
        try:
            with OfferedMemory(body) as offered:
                channel.share(incoming=offered.memory())
                channel.send(sharing(self._generation, offered.offer))
                self._waiting = True
                self.receive()
        except (ValueError, OSError) as error:
            if isinstance(error, SimulatorLost):
                raise
            channel.share()
            if self._transport == "shared":
                self.close()
                raise SimulatorRefused(f"no memory is shared with simulator {self.address}: {error}") from error
            return
        self.transport = "shared"

    def _send(self, kind: Kind, content: np.ndarray) -> None:
        channel = self._opened()
        if self._waiting:
            raise RuntimeError("an answer is under way: call receive first")
        try:
            channel.send(request(self._generation, kind, content, self._take_pending()))
        except OSError as error:
            raise self._lost(error) from error
        self._waiting = True

    def _take_pending(self) -> Assignment | None:
        if not self._pending:
            return None
        tasks, trials, seeds = zip(*self._pending.values(), strict=True)
        assignment = Assignment(
            np.array(list(self._pending), np.int64),
            np.array(tasks, np.uint64),
            np.array(trials, np.int64),
            np.array(seeds, np.uint64),
        )
        self._pending = {}
        return assignment

    def _opened(self) -> Channel:
        if self._channel is None:
            raise SimulatorLost(f"simulator {self.address} is not connected: call open")
        return self._channel

    def _check_worlds(self, worlds: np.ndarray) -> None:
        chosen = np.asarray(worlds)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise ValueError(f"worlds are {chosen.dtype} {chosen.shape}, must be integers [N]")
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self._worlds):
            raise ValueError(f"worlds holds {chosen.min()} to {chosen.max()}, must be 0 to {self._worlds - 1}")

    def _lost(self, error: Exception) -> SimulatorLost:
        self.close()
        silent = f"did not answer for {self._answer_s:g} s" if isinstance(error, TimeoutError) else str(error)
        return SimulatorLost(f"simulator {self.address} is lost: {silent}")

    def _connect(self) -> socket.socket:
        """Return a connection; tries again for a while, because a server may just be starting."""
        until, pause = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while True:
            try:
                return socket.create_connection(self._place, timeout=max(self._patience_s, LONGEST_PAUSE_S))
            except OSError as error:
                if time.monotonic() + pause > until:
                    raise SimulatorLost(
                        f"simulator {self.address} can't be reached within {self._patience_s:g} s: {error}"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
