"""`python -m ada_trainer train`: one worker of a training group, from joining it to leaving it.

    join the group -> register, find where to begin -> restore
    -> [collect -> update -> report -> advance -> agree -> maybe commit] until the stage has its frames
    -> commit -> finish

Every worker collects, learns and reports; the leader (rank 0) speaks for the group. Decisions that change what happens
next (commit, stop) are taken together, once an iteration, so no worker waits for one that left.
"""

import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from ada_curriculum.client import CurriculumClient, CurriculumError, GenerationOver
from ada_curriculum.manifest import CheckpointError, Lineage, StoredCheckpoint
from ada_curriculum.record import snapshot_score
from ada_curriculum.store import ObjectStore, StoreError, open_store
from ada_trainer import resuming, run_record
from ada_trainer.captures import Capture, Captures
from ada_trainer.checkpoint import Committer, Restored, Snapshot, history_bytes
from ada_trainer.elastic import group as groups
from ada_trainer.elastic import memory, predecessors
from ada_trainer.elastic.group import Group
from ada_trainer.elastic.verdict import leave_verdict
from ada_trainer.elastic.watchdog import Watchdog
from ada_trainer.exits import (
    EXIT_CONFIGURATION,
    EXIT_DONE,
    EXIT_REGROUP,
    EXIT_STOPPED,
    EXIT_TROUBLE,
    ConfigurationError,
    RegroupError,
)
from ada_trainer.metrics import METRICS_DIRECTORY_VARIABLE, WorkerMetrics, numbers, resident_bytes
from ada_trainer.settings import Settings, parse, read_settings
from ada_trainer.simulators import Connect, SimulatorsGoneError
from ada_trainer.snapshot import Data, pack, unpack
from ada_trainer.stopwatch import Stopwatch
from ada_trainer.work import Figures, Work, connect_simulator

CURRICULUM_PATIENCE_S = 180.0
LEAVING_PATIENCE_S = 20.0  # for curriculum and simulators, once we were told to stop: they may be gone for good
NOT_COMMITTED = -1
RETRY_COMMIT_S = 30.0  # after one that failed
LAST_COMMIT_S = 60.0  # for the store to answer once we were told to stop

EXPECTED = (
    ConfigurationError,
    RegroupError,
    CurriculumError,
    CheckpointError,
    StoreError,
    SimulatorsGoneError,
    OSError,
)

logger = logging.getLogger("ada_trainer.loop")


class Ending(Enum):
    """How a worker's part ends."""

    TRAINED = EXIT_DONE
    STOPPED = EXIT_STOPPED  # this worker was told to stop, or the whole stage was
    RELEASED = EXIT_REGROUP  # another member was told to stop; the rest meets again


@dataclass(frozen=True)
class Counts:
    """How far the stage is, over all workers and memberships."""

    frames: int = 0
    updates: int = 0
    skipped_updates: int = 0


@dataclass(frozen=True)
class Wishes:
    """What was asked of the group in this iteration, known to all workers alike."""

    signals: int  # workers that were told to stop
    commit: bool
    stop: bool  # the stage is to stop


def main(arguments: Sequence[str]) -> int:
    """Run one worker; ends the process with its exit code."""
    # Threads of torch's collectives may still wait for peers that are gone; nothing is left to be done for them.
    os._exit(work(arguments))


def work(arguments: Sequence[str]) -> int:
    """Be one worker; returns its exit code, once everything is said."""
    options = parse("train", arguments)
    rank = os.environ.get("RANK", "0")
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname)s worker {rank} %(name)s: %(message)s")
    told = threading.Event()
    try:
        code, message = run(read_settings(options), told), ""
    except EXPECTED as error:
        code, message = exit_code(error, told), f"{type(error).__name__}: {error}"
        logger.error("%s", message)
    except Exception as error:  # a fault of ours: the agent starts the worker anew, a few times
        code, message = EXIT_TROUBLE, f"{type(error).__name__}: {error}"
        logger.exception("worker fails")
    if message:
        leave_verdict(message)
    logging.shutdown()
    sys.stderr.flush()
    return code


def exit_code(error: Exception, told: threading.Event) -> int:
    """Return how a worker ends that met an error."""
    match error:
        case ConfigurationError():
            return EXIT_CONFIGURATION
        case RegroupError() | GenerationOver():
            return EXIT_STOPPED if told.is_set() else EXIT_REGROUP
    return EXIT_TROUBLE


def once_told(told: threading.Event) -> Callable[[], float]:
    """Return what says how long others may be waited for.

    With the experiment, everything that a worker needs is deleted at once, and its pod holds its devices until it ends.
    """
    return lambda: LEAVING_PATIENCE_S if told.is_set() else math.inf


def run(settings: Settings, told: threading.Event) -> int:
    """Join the group, train, and return the exit code."""
    patience_s = float(settings.experiment.spec.failure_policy.stall_seconds)
    group = groups.join(settings.rendezvous_address, settings.rendezvous_id, os.environ)
    slots = memory.own_slots(os.environ, group.local_rank)
    kept = memory.newest_kept(slots, settings.rendezvous_id, settings.stage.name)
    watchdog = None
    if group.membership is not None:
        watchdog = Watchdog(group.membership, group.rank, group.world_size, patience_s)
        watchdog.start()
        groups.connect(group, patience_s)
        newest = group.greatest(kept.mark.generation if kept is not None else 0)
        if group.is_leader:
            predecessors.wait_until_gone(group, newest, patience_s)
    # Until here a signal simply ends the process: nothing is to be committed, and waiting for peers can't be ended.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: told.set())
    client = CurriculumClient(
        settings.curriculum_address, settings.token, CURRICULUM_PATIENCE_S, at_most_s=once_told(told)
    )
    store = open_store(settings.store_uri)
    start = resuming.agree_on_start(settings, group, store, client, kept)
    if group.is_leader:
        record_run(settings, store, start.generation)
    worker = Worker(settings, group, store, client, start, told, watchdog, slots=slots)
    try:
        if start.mark is not None:
            worker.adopt(start.mark, resuming.receive_kept(group, start, kept))
        else:
            worker.restore(resuming.read_start(settings, group, start))
        ending = worker.train()
    finally:
        if watchdog is not None:
            watchdog.stop()  # peers that leave now are no loss, and a commit under way is not cut off
        worker.close()
    if watchdog is not None and ending is not Ending.RELEASED:
        watchdog.leave()
    return ending.value


def record_run(settings: Settings, store: ObjectStore, generation: int) -> None:
    """Write down where this membership's numbers will come from; a store that is down does not stop it."""
    record = run_record.capture(settings.experiment, settings.stage.name)
    name = f"run/{settings.stage.name}-{generation}.json"
    try:
        store.put(name, json.dumps({**record, "config_digest": settings.config_digest}, indent=1).encode())
    except StoreError as error:
        logger.warning("no run record of generation %d: %s", generation, error)


class Worker:
    """One member of the group at work."""

    def __init__(
        self,
        settings: Settings,
        group: Group,
        store: ObjectStore,
        client: CurriculumClient,
        start: resuming.Start,
        told: threading.Event,
        watchdog: Watchdog | None = None,
        connect: Connect | None = None,
        slots: Sequence[Path] = (),
    ) -> None:
        """Prepare; `connect` reaches simulator servers unless something else is given.

        Args:
            slots: memory of the agent, for snapshots that outlive this worker.
        """
        self.settings, self.group, self.client = settings, group, client
        self.stage = settings.stage.name
        self.generation = start.generation
        self.name = f"{settings.rendezvous_id}/{group.rank}"
        self.told = told
        self.watchdog = watchdog
        connect = connect or connect_simulator(settings.token, start.generation)
        self.work = Work(settings, group, client, start.generation, self.name, connect, once_told(told))
        self.counts = Counts()
        resumed = Lineage(uri=start.uri, digest=start.digest) if start.uri and start.digest else None
        self.committer = Committer(store, settings, start.generation, resumed, self._announce)
        self.restored_frames = self.committed_frames = 0
        self.last_commit = time.monotonic()
        self.start, self.keeper = start, memory.Keeper(slots)
        self.captures, self._has_room = Captures(group.device), False
        self.metrics = WorkerMetrics(settings.name, self.stage, group.rank)
        directory = os.environ.get(METRICS_DIRECTORY_VARIABLE)
        self.metrics_directory = Path(directory) if directory else None

    def restore(self, restored: Restored | None) -> None:
        """Take over a checkpoint; without one the stage begins."""
        if restored is None:
            self.work.begin(0)
            return
        manifest = restored.checkpoint.manifest
        learner = dict(restored.learner)
        self.counts = Counts(**learner.pop("counts"))
        self.restored_frames = self.committed_frames = manifest.frames
        self.metrics.checkpoint_time = manifest.time if self.group.is_leader else None  # who hears of the next ones
        self.metrics.gauges["checkpoint_frames"] = manifest.frames
        self.work.load(learner, restored.collector, self.counts.frames)

    def adopt(self, mark: memory.Mark, state: Data) -> None:
        """Go on from a snapshot that a member of the group before had in memory: as new as its last update."""
        learner = unpack(state)
        self.counts = Counts(**learner.pop("counts"))
        self.restored_frames = NOT_COMMITTED
        self.committed_frames = mark.committed_frames
        age_s = max(0.0, time.time() - mark.committed_at)
        self.last_commit -= min(age_s, self.settings.experiment.spec.checkpoint.interval_seconds)
        self.work.load(learner, None, self.counts.frames)

    def train(self) -> Ending:
        """Go through the schedule until the stage has its frames or the group is to stop."""
        self.metrics.training_since = time.time() if self.group.is_leader else None
        while self.counts.frames < self.settings.stage.frames:
            self._step_begins()
            seconds = Stopwatch()

            # One unroll in every world, then one round of updates, both by all workers.
            experience = self.work.collect()
            seconds.lap("collect")
            figures = self.work.update(experience, self.counts.frames)
            seconds.lap("update")
            self._count(figures.frames, figures.updates, figures.skipped_updates)
            self._keep()

            # Episodes that ended go back to the curriculum; then all workers learn what is wanted of them.
            self.client.report(self.stage, self.generation, self.name, figures.results)
            wishes = self._agree(figures.losses)
            seconds.lap("report")

            stopping = wishes.stop or wishes.signals > 0
            if stopping or wishes.commit:
                self._commit(wait=stopping)
            seconds.lap("commit")
            self._publish(figures, seconds)
            if stopping:
                return Ending.STOPPED if wishes.stop or self.told.is_set() else Ending.RELEASED
        self._finish()
        return Ending.TRAINED

    def close(self) -> None:
        """Let go of simulators, service and threads."""
        self.committer.close()
        self.keeper.close()
        self.work.close()
        self.client.close()

    def _count(self, frames: int, updates: int, skipped_updates: int) -> None:
        """Add an iteration; frames are this worker's own, updates are the group's already."""
        (frames,) = self.group.total(frames)
        self.counts = Counts(
            self.counts.frames + frames, self.counts.updates + updates, self.counts.skipped_updates + skipped_updates
        )

    def _state(self) -> dict[str, Any]:
        return {**self.work.learner_state(), "counts": vars(self.counts)}

    def capture(self) -> Capture:
        """Return the learner's state as it is now, to be released by the caller."""
        return self.captures.take((self.counts.frames, self.counts.updates), self._state())

    def _keep(self) -> None:
        """Keep a snapshot in memory, if it is time; before the first one, make room for it and for a commit's."""
        if not self._has_room:
            self._has_room = True
            self.captures.prepare(self._state(), self.keeper.is_used + self.group.is_leader)
        self.keeper.offer(self._mark(), self.capture)

    def _mark(self) -> memory.Mark:
        """Return what a snapshot taken now is of."""
        return memory.Mark(
            run=self.settings.rendezvous_id,
            stage=self.stage,
            generation=self.generation,
            frames=self.counts.frames,
            updates=self.counts.updates,
            committed_frames=self.committed_frames,
            committed_at=time.time() - (time.monotonic() - self.last_commit),
            uri=self.start.uri,
            digest=self.start.digest,
        )

    def _agree(self, losses: dict[str, float]) -> Wishes:
        """Tell the curriculum service how far the group is, and let all workers know what is wanted."""
        commit = stop = False
        if self.group.is_leader:
            counts = self.counts
            asked = self.client.advance(
                self.stage, self.generation, counts.frames, counts.updates, counts.skipped_updates, losses
            )
            stop = asked.stop
            commit = asked.commit or (self._commit_is_due() and not self.committer.is_busy)
        signals, commits, stops = self.group.total(int(self.told.is_set()), int(commit), int(stop))
        return Wishes(signals, commits > 0, stops > 0)

    def _commit_is_due(self) -> bool:
        rule = self.settings.experiment.spec.checkpoint
        if (failed := self.committer.failed_at) is not None and time.monotonic() - failed >= RETRY_COMMIT_S:
            return True
        if time.monotonic() - self.last_commit >= rule.interval_seconds:
            return True
        return rule.interval_frames is not None and (self.counts.frames - self.committed_frames >= rule.interval_frames)

    def _commit(self, wait: bool) -> None:
        """Take a snapshot together and commit it; in the background unless somebody waits for it."""
        collectors = self.group.gather(pack(self.work.collector_state()))
        if self.group.is_leader:
            curriculum = self.client.snapshot(self.stage)
            snapshot = Snapshot(
                frames=self.counts.frames,
                updates=self.counts.updates,
                learner=self.capture(),
                collectors=tuple(collectors),
                curriculum=curriculum,
                history=history_bytes(self.client.history(self.stage)),
                score=snapshot_score(curriculum),
            )
            if wait:
                self.committer.commit_now(snapshot, self._store_patience_s(), self._step_begins)
            else:
                self.committer.begin(snapshot)
        # Nobody leases or reports before the curriculum's snapshot is taken, nor leaves before the commit stands.
        self.group.barrier()
        self.committed_frames = self.counts.frames
        self.last_commit = time.monotonic()

    def _store_patience_s(self) -> float:
        """Return how long a commit that is waited for may wait: peers wait too, and a pod's grace period is short."""
        stall_s = self.settings.experiment.spec.failure_policy.stall_seconds
        return min(LAST_COMMIT_S, stall_s / 2) if self.told.is_set() else stall_s / 2

    def _step_begins(self) -> None:
        if self.watchdog is not None:
            self.watchdog.step()

    def _announce(self, checkpoint: StoredCheckpoint) -> None:
        """Tell of a commit. It stands whether or not the service can be told: a restart finds it in the store."""
        frames = checkpoint.manifest.frames
        try:
            self.client.commit(self.stage, self.generation, checkpoint.uri, checkpoint.digest, frames)
        except CurriculumError as error:
            logger.warning("could not announce %s: %s", checkpoint.uri, error)
        self.metrics.checkpoint_time = checkpoint.manifest.time
        self.metrics.gauges["checkpoint_frames"] = frames

    def _finish(self) -> None:
        """Commit the last state and tell that the stage is trained."""
        self._step_begins()
        if self.counts.frames > self.restored_frames:  # else the checkpoint we began from is the last state
            self._commit(wait=True)
        if self.group.is_leader:
            self.client.finish(self.stage, self.generation, "trained")
        self.group.barrier()

    def _publish(self, figures: Figures, seconds: Stopwatch) -> None:
        if self.metrics_directory is None:
            return
        metrics, total = self.metrics, sum(seconds.parts.values())
        metrics.counters = {
            **vars(self.counts),
            **self.work.totals(),
            "commits": self.committer.commits,
            "store_errors": self.committer.errors,
        }
        metrics.gauges |= {
            "world_size": self.group.world_size,
            "generation": self.generation,
            "frames_per_second": figures.frames * self.group.world_size / total if total > 0 else 0.0,
            "goodput_ratio": (seconds.parts["collect"] + seconds.parts["update"]) / total if total > 0 else 0.0,
            "checkpoint_duration_seconds": self.committer.duration_s,
            "resident_bytes": resident_bytes(),
            **device_memory(self.group.device),
            "learning_rate": figures.losses.get("learningRate", 0.0),
        }
        metrics.losses = numbers(figures.losses)
        metrics.spend(seconds.parts)
        metrics.write(self.metrics_directory, self.group.local_rank)


def device_memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that tensors had on a device of its own; nothing for the CPU."""
    return {"device_bytes": float(torch.cuda.max_memory_allocated(device))} if device.type == "cuda" else {}
