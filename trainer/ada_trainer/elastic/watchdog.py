"""Every worker beats in the store and watches its peers: torchrun notices who comes, not who falls silent.

A peer that is silent, or an own step that is far too old, ends this worker, so that its agent meets again with
whoever is left.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch._C._distributed_c10d import Store

from ada_trainer.elastic.verdict import leave_verdict
from ada_trainer.exits import EXIT_REGROUP, EXIT_TROUBLE

BEAT_S = 1.0
SILENCE_S = 10.0
WATCHED = 4
GONE = b"gone"  # the last beat of a worker that ends in order
STEPS_PATIENCE = 10.0  # a step may take this many times the longest one so far

logger = logging.getLogger("ada_trainer.watchdog")


def watched(rank: int, world_size: int) -> list[int]:
    """Return the peers that a worker listens to: the next few in a ring.

    So the store carries a few requests a second for each worker, however many there are. Who hears a silence ends; its
    agent asks the others' agents to meet, and so all of them notice.
    """
    return [(rank + step) % world_size for step in range(1, min(WATCHED, world_size - 1) + 1)]


def beat_of(store: Store, rank: int) -> bytes:
    """Return the newest beat of a worker in the store of its membership; nothing if it has not beaten yet."""
    return store.get(f"beat/{rank}") if store.check([f"beat/{rank}"]) else b""


@dataclass
class Listener:
    """When each peer was last heard; pure but for what it is told."""

    silence_s: float = SILENCE_S
    heard: dict[int, tuple[bytes, float]] = field(default_factory=dict)  # beat and time of its change, by rank

    def hear(self, rank: int, beat: bytes, now: float) -> None:
        """Take note of a peer's beat."""
        if rank not in self.heard or self.heard[rank][0] != beat:
            self.heard[rank] = (beat, now)

    def forgive(self, now: float) -> None:
        """Take all peers as heard just now."""
        for rank, (beat, _) in self.heard.items():
            self.heard[rank] = (beat, now)

    def silent(self, now: float) -> list[int]:
        """Return the peers that have not beaten for too long."""
        return [rank for rank, (_, moment) in sorted(self.heard.items()) if now - moment > self.silence_s]


@dataclass
class StepClock:
    """How old the present step is, and how old it may get."""

    patience_s: float
    began: float
    longest_s: float = 0.0

    def step(self, now: float) -> None:
        """Begin the next step."""
        self.longest_s = max(self.longest_s, now - self.began)
        self.began = now

    def overdue_s(self, now: float) -> float:
        """Return by how much the present step is too old; 0 or less if it is not."""
        return now - self.began - max(self.patience_s, STEPS_PATIENCE * self.longest_s)


class Watchdog:
    """A thread that beats and listens, and one that ends the process if it must."""

    def __init__(
        self,
        store: Store,
        rank: int,
        world_size: int,
        patience_s: float,
        silence_s: float = SILENCE_S,
        end: Callable[[int], None] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch `world_size` workers over a store of this membership; `end` must not return."""
        self._store = store.clone()  # a connection of its own: the other may be waiting for a key
        self._rank = rank
        self._peers = watched(rank, world_size)
        self._listener = Listener(silence_s)
        self._steps = StepClock(patience_s, clock())
        self._end = end
        self._clock = clock
        self._over = threading.Event()
        self._left = threading.Event()
        self._exchanged_at = clock()
        self._beats = threading.Thread(target=self._beat, daemon=True, name="beats")
        self._thread = threading.Thread(target=self._judge, daemon=True, name="watchdog")

    def start(self) -> None:
        """Begin to beat and to listen."""
        now = self._clock()
        for peer in self._peers:
            self._listener.hear(peer, b"", now)
        self._beats.start()
        self._thread.start()

    def step(self) -> None:
        """Tell that the main thread is alive and begins another step."""
        self._steps.step(self._clock())

    def stop(self) -> None:
        """Stop judging. Beats go on until the process ends: nobody takes over while it commits."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5 * BEAT_S)

    def leave(self) -> None:
        """Tell that this worker ends in order, with nothing left in its memory that is not committed."""
        self._left.set()
        if self._beats.is_alive():
            self._beats.join(timeout=5 * BEAT_S)

    def _beat(self) -> None:
        """Beat and listen until the store is lost. A store that can't be reached may keep this waiting for long."""
        beats, left = 0, False
        while not left:
            left = self._left.wait(BEAT_S)
            beats += 1
            try:
                if left:
                    self._store.set(f"beat/{self._rank}", GONE.decode())
                else:
                    self._exchange(beats)
            except RuntimeError as error:
                # The agent notices the loss too and stops the workers in order.
                logger.warning("rendezvous store lost, peers are no longer watched: %s", str(error).splitlines()[0])
                return

    def _exchange(self, beats: int) -> None:
        self._store.set(f"beat/{self._rank}", str(beats))
        now = self._clock()
        if now - self._exchanged_at > self._listener.silence_s / 2:
            self._listener.forgive(now)  # nobody could be heard; they need a moment too, to reach the store again
        for peer in self._peers:
            if beat := beat_of(self._store, peer):
                self._listener.hear(peer, beat, self._clock())
        self._exchanged_at = self._clock()

    def _judge(self) -> None:
        while not self._over.wait(BEAT_S):
            # As of the last time that anybody could be heard: who does not reach the store knows nothing of the others.
            if silent := self._listener.silent(self._exchanged_at):
                self._abort(f"workers {silent} were silent for {self._listener.silence_s:g} s", EXIT_REGROUP)
            if (overdue := self._steps.overdue_s(self._clock())) > 0:
                self._abort(f"a step is overdue by {overdue:.0f} s; this worker hangs", EXIT_TROUBLE)

    def _abort(self, reason: str, code: int) -> None:
        logger.error("%s; ending this worker", reason)
        leave_verdict(reason)
        self._end(code)
