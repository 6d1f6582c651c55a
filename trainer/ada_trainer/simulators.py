"""The simulators of one worker as one: their worlds side by side, and what happens when one of them is lost.

A lost simulator takes its episodes with it. The worker then opens its worlds anew on those that are left, so its other
episodes are dropped too, and tries the lost one again later: slower, but never stopped while one is there.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ada_sim.batch import TimeStep

CONNECT_PATIENCE_S = 240.0  # without any simulator
COMPLETE_PATIENCE_S = 15.0  # without some, at the start
RETRY_LOST_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0

logger = logging.getLogger("ada_trainer.simulators")


class Connection(Protocol):
    """Worlds on one simulator: `ada_sim.client.SimulatorClient`, opened."""

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Set the next episode of these worlds."""

    def send_step(self, actions: np.ndarray) -> None:
        """Ask for the next timestep."""

    def receive(self) -> TimeStep:
        """Wait for it."""
        ...

    def close(self) -> None:
        """Let the worlds go."""


Connect = Callable[[str, int], Connection]  # address, number of worlds; raises a connection error


class SimulatorsGoneError(Exception):
    """No simulator could be reached for as long as we were willing to wait."""


def share(total: int, parts: int, part: int) -> int:
    """Return how many of `total` things part number `part` of `parts` gets; sizes differ by one at most."""
    return total // parts + (part < total % parts)


def own_simulators(addresses: Sequence[str], rank: int, world_size: int) -> tuple[str, ...]:
    """Return the simulators of a worker: those whose number is its rank modulo the world size."""
    return tuple(addresses[rank::world_size])


@dataclass(frozen=True)
class _Part:
    address: str
    connection: Connection
    worlds: slice


class JoinedSimulators:
    """Worlds of several simulators, numbered one after the other; steps overlap."""

    def __init__(self, connections: Sequence[tuple[str, Connection, int]]) -> None:
        """Join connections, each with its address and number of worlds."""
        self._parts: list[_Part] = []
        begin = 0
        for address, connection, worlds in connections:
            self._parts.append(_Part(address, connection, slice(begin, begin + worlds)))
            begin += worlds
        self._joined: TimeStep | None = None

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Set the next episode of these worlds."""
        for part in self._parts:
            mine = (worlds >= part.worlds.start) & (worlds < part.worlds.stop)
            if mine.any():
                part.connection.assign(worlds[mine] - part.worlds.start, tasks[mine], trials[mine], seeds[mine])

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance all worlds by one timestep."""
        for part in self._parts:
            part.connection.send_step(actions[part.worlds])
        received = [part.connection.receive() for part in self._parts]
        if len(received) == 1:
            return received[0]
        if self._joined is None:
            self._joined = _room(received)
        for part, timestep in zip(self._parts, received, strict=True):
            _copy(timestep, self._joined, part.worlds)
        return self._joined

    def close(self) -> None:
        """Let all worlds go."""
        for part in self._parts:
            try:
                part.connection.close()
            except OSError as error:
                logger.info("simulator %s could not be left in order: %s", part.address, error)


def _room(parts: Sequence[TimeStep]) -> TimeStep:
    def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays)

    return TimeStep(
        observation={name: joined([one.observation[name] for one in parts]) for name in parts[0].observation},
        reward=joined([one.reward for one in parts]),
        trial_ended=joined([one.trial_ended for one in parts]),
        episode_ended=joined([one.episode_ended for one in parts]),
        episode_started=joined([one.episode_started for one in parts]),
        active=joined([one.active for one in parts]),
    )


def _copy(part: TimeStep, whole: TimeStep, worlds: slice) -> None:
    for name, field in part.observation.items():
        whole.observation[name][worlds] = field
    whole.reward[worlds] = part.reward
    whole.trial_ended[worlds] = part.trial_ended
    whole.episode_ended[worlds] = part.episode_ended
    whole.episode_started[worlds] = part.episode_started
    whole.active[worlds] = part.active


class SimulatorSet:
    """Which of a worker's simulators are there, and the opening of worlds on them."""

    def __init__(
        self,
        addresses: Sequence[str],
        worlds: int,
        connect: Connect,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open `worlds` worlds over `addresses` when asked to."""
        self._addresses, self._worlds, self._connect = tuple(addresses), worlds, connect
        self._clock, self._sleep = clock, sleep
        self._missing: set[str] = set()
        self._retry_at = float("inf")
        self._last_error = ""
        self.lost = 0  # simulators lost so far

    def open(self) -> JoinedSimulators:
        """Open all worlds on the simulators that answer. Raises SimulatorsGoneError if none does for too long."""
        began, pause = self._clock(), FIRST_PAUSE_S
        while True:
            connections = self._open_once()
            self._missing = set(self._addresses) - {address for address, _, _ in connections}
            waited = self._clock() - began
            if connections and (not self._missing or self.lost or waited > COMPLETE_PATIENCE_S):
                break
            JoinedSimulators(connections).close()
            if waited > CONNECT_PATIENCE_S:
                raise SimulatorsGoneError(
                    f"none of the simulators {', '.join(self._addresses)} served us for {CONNECT_PATIENCE_S:g} s: "
                    f"{self._last_error}"
                )
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        self._retry_at = self._clock() + RETRY_LOST_S if self._missing else float("inf")
        if self._missing:
            logger.warning("going on without %s", ", ".join(sorted(self._missing)))
        return JoinedSimulators(connections)

    def lose(self, error: Exception) -> None:
        """Note that a simulator was lost."""
        self.lost += 1
        logger.warning("simulator lost, its episodes are dropped: %s", error)

    def is_back(self) -> bool:
        """Return whether a missing simulator answers again; asked for now and then only."""
        if self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + RETRY_LOST_S
        for address in sorted(self._missing):
            try:
                self._connect(address, 1).close()
            except OSError:
                continue
            return True
        return False

    def _open_once(self) -> list[tuple[str, Connection, int]]:
        """Open worlds on every simulator that answers, shared out so that the sum is right."""
        reachable = list(self._addresses)
        while reachable:
            opened: list[tuple[str, Connection, int]] = []
            for number, address in enumerate(reachable):
                worlds = share(self._worlds, len(reachable), number)
                try:
                    opened.append((address, self._connect(address, worlds), worlds))
                except OSError as error:
                    self._last_error = str(error)
                    logger.info("simulator %s does not serve us: %s", address, error)
                    break
            else:
                return opened
            JoinedSimulators(opened).close()
            reachable.remove(address)
        return []
