"""The simulators of one worker as one: their worlds side by side, and what happens when one of them is lost.

The worlds are shared out over the worker's own simulators, its *homes*, once. A lost simulator takes the episodes of
its worlds with it, and nothing else: another simulator, if need be one of another worker, opens as many worlds in its
place, and they go home when their simulator answers again. So simulators may come and go while training runs.
"""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ada_sim.batch import TimeStep

CONNECT_PATIENCE_S = 240.0  # without any simulator
COMPLETE_PATIENCE_S = 15.0  # without some, at the start
LOOK_FOR_HOME_S = 5.0
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

    def timestep(self) -> TimeStep:
        """Return the present one."""
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
    """Return the homes of a worker's worlds: the simulators whose number is its rank modulo the world size.

    Where there are more workers than simulators, some workers share one.
    """
    return tuple(addresses[rank::world_size]) or (addresses[rank % len(addresses)],)


def other_simulators(addresses: Sequence[str], rank: int, world_size: int) -> tuple[str, ...]:
    """Return the other workers' simulators, in an order that differs between workers, so that no one gets all."""
    own = own_simulators(addresses, rank, world_size)
    begin = (rank + 1) % len(addresses)
    return tuple(address for address in [*addresses[begin:], *addresses[:begin]] if address not in own)


@dataclass
class _Part:
    """Some of the worlds, where they belong and where they are."""

    home: str
    worlds: slice
    address: str = ""
    connection: Connection | None = None

    @property
    def count(self) -> int:
        return int(self.worlds.stop - self.worlds.start)

    @property
    def is_away(self) -> bool:
        return self.address != self.home

    def close(self) -> None:
        if self.connection is None:
            return
        try:
            self.connection.close()
        except OSError as error:
            logger.info("simulator %s could not be left in order: %s", self.address, error)
        self.connection, self.address = None, ""


class SimulatorSet:
    """Worlds of several simulators, numbered one after the other; steps overlap."""

    def __init__(
        self,
        homes: Sequence[str],
        worlds: int,
        connect: Connect,
        others: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        at_most_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """Share `worlds` worlds over `homes`; nothing is connected yet.

        Args:
            others: simulators that may stand in for a lost one.
            at_most_s: asked before each further try; may shorten the time that we wait for any simulator.
        """
        self._connect, self._others = connect, tuple(others)
        self._clock, self._sleep, self._at_most_s = clock, sleep, at_most_s
        self._parts: list[_Part] = []
        self._joined: TimeStep | None = None
        self._renewed: list[_Part] = []
        self._search: _Search | None = None
        self._last_error = ""
        self.lost = 0  # simulators lost so far
        self.waited_s = 0.0  # for timesteps, so far
        begin = 0
        for number, home in enumerate(homes):
            if count := share(worlds, len(homes), number):
                self._parts.append(_Part(home, slice(begin, begin + count)))
            begin += count

    def open(self) -> None:
        """Open all worlds, fresh. Raises SimulatorsGoneError if no simulator answers for too long."""
        self.close()
        began, pause = self._clock(), FIRST_PAUSE_S
        while True:
            for part in self._parts:
                if part.connection is None:
                    self._try_to_open(part, [part.home])
            missing = [part for part in self._parts if part.connection is None]
            if not missing:
                break
            if self.lost or self._clock() - began > COMPLETE_PATIENCE_S:
                for part in missing:
                    self._stand_in(part)
                break
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        self._look_for_homes()

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Set the next episode of these worlds."""
        for part in self._parts:
            mine = (worlds >= part.worlds.start) & (worlds < part.worlds.stop)
            if mine.any():
                connection = _opened(part)
                connection.assign(worlds[mine] - part.worlds.start, tasks[mine], trials[mine], seeds[mine])

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance all worlds by one timestep.

        Worlds whose simulator is lost, or that go home, have not stepped: they are fresh and idle, and `renewed`
        names them. Raises SimulatorsGoneError if no simulator is left for too long.
        """
        self._renewed = []
        going_home = self._found_homes()
        asked = [part for part in self._parts if part.home not in going_home and self._ask(part, actions)]
        answers = {part.home: self._answer(part) for part in asked}
        return self._join(
            [answers.get(part.home) or self._renew(part, going_home.get(part.home)) for part in self._parts]
        )

    def renewed(self) -> np.ndarray:
        """Return the worlds, int64 [N], that the last step opened anew: their episodes and assignments are gone."""
        ranges = [np.arange(part.worlds.start, part.worlds.stop) for part in self._renewed]
        return np.concatenate([np.zeros(0, np.int64), *ranges])

    def close(self) -> None:
        """Let all worlds go."""
        if self._search is not None:
            self._search.close()
            self._search = None
        for part in self._parts:
            part.close()

    def _found_homes(self) -> dict[str, Connection]:
        """Return the homes that are back, opened, of worlds that are away."""
        found = self._search.found() if self._search is not None else {}
        away = {part.home for part in self._parts if part.is_away}
        for home in found.keys() - away:
            found.pop(home).close()
        return found

    def _ask(self, part: _Part, actions: np.ndarray) -> bool:
        try:
            _opened(part).send_step(actions[part.worlds])
        except OSError as error:
            self._lose(part, error)
            return False
        return True

    def _answer(self, part: _Part) -> TimeStep | None:
        began = self._clock()
        try:
            return _opened(part).receive()
        except OSError as error:
            self._lose(part, error)
            return None
        finally:
            self.waited_s += self._clock() - began

    def _lose(self, part: _Part, error: OSError) -> None:
        self.lost += 1
        logger.warning("the episodes of %d worlds are dropped: %s", part.count, error)
        part.close()

    def _renew(self, part: _Part, home: Connection | None) -> TimeStep:
        """Open a part's worlds anew, at home if that connection is given; returns their first timestep."""
        if home is not None:
            logger.info("%d worlds go home to simulator %s", part.count, part.home)
            part.close()
            part.address, part.connection = part.home, home
        else:
            self._stand_in(part)
        self._renewed.append(part)
        self._look_for_homes()
        return _opened(part).timestep()

    def _stand_in(self, part: _Part) -> None:
        """Open a part's worlds where they can be had, on whatever comes up first.

        Raises SimulatorsGoneError if there is none for too long.
        """
        began, pause = self._clock(), FIRST_PAUSE_S

        def is_over(_: object = None) -> bool:
            return self._clock() > began + min(CONNECT_PATIENCE_S, self._at_most_s())

        # Each of many that are gone costs seconds: patience may end among them.
        while not self._try_to_open(part, itertools.filterfalse(is_over, self._candidates(part))):
            if is_over():
                raise SimulatorsGoneError(
                    f"no simulator ({', '.join(self._candidates(part))}) served {part.count} worlds for "
                    f"{min(CONNECT_PATIENCE_S, self._at_most_s()):g} s: {self._last_error}"
                )
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _candidates(self, part: _Part) -> list[str]:
        """Return where a part may open, in order: our simulators that serve, others, our own that do not, its home."""
        serving = [one.home for one in self._parts if one.connection is not None and not one.is_away]
        loads = {home: sum(one.count for one in self._parts if one.address == home) for home in serving}
        silent = [one.home for one in self._parts if one is not part and one.home not in loads]
        others = [address for address in self._others if address not in loads and address not in silent]
        return [*sorted(loads, key=loads.__getitem__), *others, *silent, part.home]

    def _try_to_open(self, part: _Part, addresses: Iterable[str]) -> bool:
        for address in addresses:
            try:
                part.connection, part.address = self._connect(address, part.count), address
            except OSError as error:
                self._last_error = str(error)
                logger.info("simulator %s does not serve us: %s", address, error)
                continue
            if part.is_away:
                logger.warning("%s stands in for %s with %d worlds", address, part.home, part.count)
            return True
        return False

    def _look_for_homes(self) -> None:
        away = {part.home: part.count for part in self._parts if part.is_away}
        if self._search is None and away:
            self._search = _Search(self._connect)
        if self._search is not None:
            self._search.look_for(away)

    def _join(self, received: Sequence[TimeStep]) -> TimeStep:
        if len(received) == 1:
            return received[0]
        if self._joined is None:
            self._joined = _room(received)
        for part, timestep in zip(self._parts, received, strict=True):
            _copy(timestep, self._joined, part.worlds)
        return self._joined


class _Search:
    """A thread that opens worlds at homes that were lost, as soon as they answer again: nobody waits for it."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._wanted: dict[str, int] = {}  # worlds, by home
        self._found: dict[str, Connection] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="look-for-home")
        self._thread.start()

    def look_for(self, wanted: dict[str, int]) -> None:
        """Set for which homes to look, with how many worlds."""
        with self._lock:
            self._wanted = dict(wanted)

    def found(self) -> dict[str, Connection]:
        """Return what was found since the last call, opened, and look for it no more."""
        with self._lock:
            found, self._found = self._found, {}
            for home in found:
                self._wanted.pop(home, None)
        return found

    def close(self) -> None:
        """Stop looking, and let go of what nobody took."""
        self._over.set()
        for connection in self.found().values():
            connection.close()

    def _run(self) -> None:
        while not self._over.wait(LOOK_FOR_HOME_S):
            with self._lock:
                wanted = {home: count for home, count in self._wanted.items() if home not in self._found}
            for home, count in wanted.items():
                self._try(home, count)

    def _try(self, home: str, count: int) -> None:
        try:
            connection = self._connect(home, count)
        except OSError as error:
            logger.info("simulator %s is still gone: %s", home, error)
            return
        with self._lock:
            if not self._over.is_set() and self._wanted.get(home) == count:
                self._found[home] = connection
                return
        connection.close()


def _opened(part: _Part) -> Connection:
    if part.connection is None:
        raise RuntimeError(f"the worlds of simulator {part.home} are not open: call open first")
    return part.connection


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
