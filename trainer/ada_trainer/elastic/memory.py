"""Snapshots that outlive their worker: each worker has two slots of memory that its agent holds, and writes by turns.

A worker that lost its group is ended; its agent is not. So the next worker finds the newest snapshot whose digest is
right, and the group goes on from the newest one that any survivor has. A write that was interrupted spoils one slot,
the other still holds the snapshot before it. The memory is the kernel's (memfd): it is gone when the agent is.
"""

import hashlib
import json
import logging
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ada_trainer.captures import Capture
from ada_trainer.snapshot import Data

SLOTS_VARIABLE = "ADA_SNAPSHOT_SLOTS"
MAGIC = b"ADASNAP1"
HEAD = struct.Struct("<8sQQ32s")  # magic, bytes of the mark, bytes of the state, sha256 of both
MAX_MARK_BYTES = 1 << 16
LARGEST_SHARE = 0.05  # of the time that may go into snapshots

logger = logging.getLogger("ada_trainer.memory")


@dataclass(frozen=True)
class Mark:
    """What a kept snapshot is of."""

    run: str  # rendezvous id
    stage: str
    generation: int
    frames: int
    updates: int
    committed_frames: int  # when the last commit was begun; 0 without one
    committed_at: float  # seconds since 1970, of that commit or of the group's beginning
    uri: str | None = None  # of the checkpoint that the work began from
    digest: str | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort by this, newest last."""
        return (self.generation, self.frames, self.updates)


@dataclass(frozen=True)
class Kept:
    """A whole snapshot that was found in memory."""

    mark: Mark
    state: bytes  # packed

    @property
    def digest(self) -> str:
        """Return the hexadecimal sha256 of the state: the same for all workers of a group."""
        return hashlib.sha256(self.state).hexdigest()


def make_slots(workers: int) -> str:
    """Return the value of SLOTS_VARIABLE for as many workers; called by the agent, whose memory it is."""
    owner = os.getpid()
    slots = [
        [f"/proc/{owner}/fd/{os.memfd_create(f'ada-snapshot-{worker}-{side}')}" for side in "ab"]
        for worker in range(workers)
    ]
    return json.dumps(slots)


def own_slots(environment: Mapping[str, str], local_rank: int) -> tuple[Path, ...]:
    """Return the paths of a worker's slots; none if no agent made any."""
    if (value := environment.get(SLOTS_VARIABLE)) is None:
        return ()
    return tuple(Path(path) for path in json.loads(value)[local_rank])


def write_slot(path: Path, mark: Mark, state: Data) -> None:
    """Replace what a slot holds. Raises OSError, and then it holds nothing."""
    about = json.dumps(asdict(mark)).encode()
    digest = hashlib.sha256(about)
    digest.update(state)
    with path.open("r+b", buffering=0) as file:
        file.write(bytes(HEAD.size))  # what was there is no snapshot any more
        file.truncate(HEAD.size + len(about) + len(state))
        for piece in (about, state):
            _write_all(file.fileno(), piece)
        os.pwrite(file.fileno(), HEAD.pack(MAGIC, len(about), len(state), digest.digest()), 0)


def _write_all(handle: int, data: Data) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def read_slot(path: Path) -> Kept | None:
    """Return what a slot holds; None if it is empty, half written or damaged."""
    try:
        data = path.read_bytes()
        magic, about, state, digest = HEAD.unpack_from(data)
        body = memoryview(data)[HEAD.size :]
        if magic != MAGIC or about > MAX_MARK_BYTES or len(body) != about + state:
            return None
        if hashlib.sha256(body).digest() != digest:
            return None
        return Kept(Mark(**json.loads(bytes(body[:about]))), bytes(body[about:]))
    except (OSError, struct.error, ValueError, TypeError) as error:
        logger.info("slot %s holds no snapshot: %s", path, error)
        return None


def newest_kept(slots: Sequence[Path], run: str, stage: str) -> Kept | None:
    """Return the newest whole snapshot of this run and stage in these slots."""
    found = [kept for path in slots if (kept := read_slot(path)) is not None]
    fitting = [kept for kept in found if (kept.mark.run, kept.mark.stage) == (run, stage)]
    return max(fitting, key=lambda kept: kept.mark.order, default=None)


class Keeper:
    """Writes a worker's snapshots in the background, as many as cost little time."""

    def __init__(self, slots: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        """Write into these slots by turns; without any, nothing is kept."""
        self._slots, self._clock = tuple(slots), clock
        self._thread = ThreadPoolExecutor(1, "snapshot")
        self._running: Future[None] | None = None
        self._turn = 0
        self._next_at = 0.0

    @property
    def is_used(self) -> bool:
        """Return whether there is anywhere to keep snapshots."""
        return bool(self._slots)

    def offer(self, mark: Mark, capture: Callable[[], Capture]) -> bool:
        """Keep a snapshot now if the last one is written and snapshots took less than their share; return whether."""
        now = self._clock()
        if not self._slots or now < self._next_at or (self._running is not None and not self._running.done()):
            return False
        state = capture()
        self._next_at = now + (self._clock() - now) / LARGEST_SHARE
        self._running = self._thread.submit(self._write, mark, state)
        return True

    def close(self) -> None:
        """Finish the write under way."""
        self._thread.shutdown()

    def _write(self, mark: Mark, state: Capture) -> None:
        path = self._slots[self._turn]
        self._turn = (self._turn + 1) % len(self._slots)
        try:
            write_slot(path, mark, state.data())
        except OSError as error:
            logger.warning("no snapshot was kept in memory: %s", error)
        finally:
            state.release()
