"""Checkpoints of a training group: what they hold, how one is committed, found again, and read.

learner-NNNNN.safetensors      networks (the one that acts under `network`), optimiser, counters: a shard each
collector-RRRRR.safetensors    random state of rank R's collector
agent.json                     model, observation and action groups: enough to build the network
curriculum.safetensors         the curriculum service's own snapshot
history.json                   the stage's learning curve
manifest.json                  last; without it the rest does not exist
"""

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from ada_api.environment import ActionGroup, Environment
from ada_api.stages import AgentModel, CheckpointReference, Muesli, Stage
from ada_curriculum.manifest import (
    CURRICULUM,
    HISTORY,
    MANIFEST,
    CheckpointError,
    CheckpointObject,
    Lineage,
    Manifest,
    StoredCheckpoint,
    check_sizes,
    checkpoint_prefix,
    describe,
    list_checkpoints,
    open_checkpoint,
    read_checkpoint,
    read_object,
    read_objects,
    write_checkpoint,
)
from ada_curriculum.retention import choose_superfluous, clean_abandoned, delete_checkpoint, dependencies
from ada_curriculum.store import ObjectStore, StoreError, walk
from ada_trainer.captures import Capture
from ada_trainer.settings import Settings
from ada_trainer.snapshot import Data, SnapshotError, memory_of, shard_offsets, shards, unpack

AGENT = "agent.json"
PARAMETERS = "network"  # of the learner's snapshot
RETRY_S = 5.0

_LEARNER = re.compile(r"learner-\d{5}\.safetensors")

logger = logging.getLogger("ada_trainer.checkpoint")


class AgentRecord(BaseModel):
    """What of a checkpoint is needed to build its network: `agent.json`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: AgentModel
    environment: Environment
    action_groups: tuple[ActionGroup, ...]
    muesli: Muesli | None = None  # if the network has Muesli's model


def agent_record(stage: Stage, environment: Environment) -> AgentRecord:
    """Return what the network of a stage is."""
    return AgentRecord(
        model=stage.model,
        environment=environment,
        action_groups=tuple(environment.action_groups),
        muesli=stage.algorithm.muesli if stage.algorithm.name == "muesli" else None,
    )


@dataclass(frozen=True)
class Snapshot:
    """Everything that makes the next update the same, in memory and independent of the learner."""

    frames: int
    updates: int
    learner: Capture  # released once the commit stands or is given up
    collectors: tuple[bytes, ...]  # packed, by rank
    curriculum: bytes  # as the service gave it
    history: bytes  # JSON
    score: float | None = None  # of recent training episodes, as retention compares checkpoints


@dataclass(frozen=True)
class Loaded:
    """A checkpoint of which every object was verified, and the learner's packed state."""

    checkpoint: StoredCheckpoint
    learner: Data


@dataclass(frozen=True)
class Restored:
    """What a worker goes on from."""

    checkpoint: StoredCheckpoint
    learner: dict[Any, Any]
    collector: dict[Any, Any] | None  # of the reading worker's rank, if a group of the same size wrote it


def collector_name(rank: int) -> str:
    """Return the object name of a rank's collector."""
    return f"collector-{rank:05d}.safetensors"


def learner_name(shard: int) -> str:
    """Return the object name of a shard of the learner's state."""
    return f"learner-{shard:05d}.safetensors"


def learner_entries(checkpoint: StoredCheckpoint) -> list[CheckpointObject]:
    """Return the entries of the learner's shards, in order. Raises CheckpointError if there is none."""
    entries = sorted(
        (one for one in checkpoint.manifest.objects if _LEARNER.fullmatch(one.name)), key=lambda one: one.name
    )
    if not entries:
        raise CheckpointError(f"checkpoint {checkpoint.uri} holds no learner")
    return entries


def write(
    store: ObjectStore, settings: Settings, generation: int, snapshot: Snapshot, resumed_from: Lineage | None
) -> StoredCheckpoint:
    """Commit a snapshot. Raises CheckpointError or StoreError; then it is absent for readers.

    Args:
        store: of the experiment's prefix.
        generation: also the attempt in the name: no two memberships write the same prefix.
    """
    record = agent_record(settings.stage, settings.experiment.spec.environment)
    objects: dict[str, Data | Path] = {
        AGENT: record.model_dump_json().encode(),
        CURRICULUM: snapshot.curriculum,
        HISTORY: snapshot.history,
    }
    objects |= {learner_name(number): shard for number, shard in enumerate(shards(snapshot.learner.data()))}
    objects |= {collector_name(rank): data for rank, data in enumerate(snapshot.collectors)}
    manifest = Manifest(
        experiment=settings.name,
        stage=settings.stage.name,
        frames=snapshot.frames,
        updates=snapshot.updates,
        attempt=generation,
        generation=generation,
        time=time.time(),
        config_digest=settings.config_digest,
        teacher=lineage(settings.teacher),
        resumed_from=resumed_from,
        score=snapshot.score,
        versions={"ada-operator": metadata.version("ada-operator"), "torch": torch.__version__},
    )
    prefix = checkpoint_prefix(settings.stage.name, snapshot.frames, generation)
    if (done := finish_or_clear(store, prefix, manifest)) is not None:
        return done
    return write_checkpoint(store, prefix, objects, manifest)


def finish_or_clear(store: ObjectStore, prefix: str, manifest: Manifest) -> StoredCheckpoint | None:
    """Deal with what an earlier attempt at this commit left: return it if it stands after all, else delete it.

    Nobody else writes here: the prefix carries the generation, and a generation has one leader.
    """
    left = [info.key for info in walk(store, f"{prefix}/")]
    if f"{prefix}/{MANIFEST}" not in left:
        store.delete(left)
        return None
    found = read_checkpoint(store, prefix)
    if (found.manifest.updates, found.manifest.config_digest) != (manifest.updates, manifest.config_digest):
        raise CheckpointError(f"checkpoint {prefix} in {store.uri} is already committed, and is another")
    check_sizes(store, prefix, found.manifest)
    return found


def lineage(reference: CheckpointReference | None) -> Lineage | None:
    """Return a pinned checkpoint as a manifest names it."""
    return None if reference is None else Lineage(uri=reference.uri, digest=reference.digest)


def load_newest(store: ObjectStore, stage: str, since_generation: int = 0) -> Loaded | None:
    """Load the newest checkpoint of a stage that verifies; None if there is none from `since_generation` on."""
    for checkpoint in reversed(list_checkpoints(store, stage)):
        if checkpoint.manifest.generation < since_generation:
            return None
        try:
            check_sizes(store, checkpoint.prefix, checkpoint.manifest)
            return load(store, checkpoint)
        except CheckpointError as error:
            logger.warning("passing over a checkpoint: %s", error)
    return None


def load(store: ObjectStore, checkpoint: StoredCheckpoint) -> Loaded:
    """Read a checkpoint once: all of it is verified, the learner's state kept. Raises CheckpointError."""
    places: dict[str, memoryview | None] = dict.fromkeys(entry.name for entry in checkpoint.manifest.objects)
    learner = _room(checkpoint, places)
    read_objects(store, checkpoint, places)
    return Loaded(checkpoint, learner)


def _room(checkpoint: StoredCheckpoint, places: dict[str, memoryview | None]) -> memoryview:
    """Make room for the learner's state, and name in `places` where each shard of it belongs."""
    entries = learner_entries(checkpoint)
    offsets, size = shard_offsets([entry.size for entry in entries])
    room = memory_of(torch.empty(size, dtype=torch.uint8))
    for entry, offset in zip(entries, offsets, strict=True):
        places[entry.name] = room[offset : offset + entry.size]
    return room


def read(
    store: ObjectStore,
    checkpoint: StoredCheckpoint,
    rank: int = 0,
    world_size: int = 1,
    share: Callable[[Data], Data] = lambda data: data,
    loaded: Loaded | None = None,
) -> Restored:
    """Read the learner and this worker's collector, verified. Raises CheckpointError.

    Args:
        share: returns to all workers what the leader gives: the learner is large, and read from the store once.
        loaded: what the leader has read already.
    """
    writers = sum(entry.name.startswith("collector-") for entry in checkpoint.manifest.objects)
    try:
        own: Data = b""
        if rank == 0:
            own = (
                loaded.learner
                if loaded is not None and loaded.checkpoint == checkpoint
                else _read_learner(store, checkpoint)
            )
        learner = share(own)
        if rank != 0:
            _check_learner(checkpoint, learner)
        collector = read_object(store, checkpoint, collector_name(rank)) if writers == world_size else None
        return Restored(checkpoint, unpack(learner), None if collector is None else unpack(collector))
    except SnapshotError as error:
        raise CheckpointError(f"checkpoint {checkpoint.uri}: {error}") from error


def _read_learner(store: ObjectStore, checkpoint: StoredCheckpoint) -> memoryview:
    places: dict[str, memoryview | None] = {}
    learner = _room(checkpoint, places)
    read_objects(store, checkpoint, places)
    return learner


def _check_learner(checkpoint: StoredCheckpoint, learner: Data) -> None:
    """Raise CheckpointError unless what the leader sent is what the manifest says."""
    found = [describe(learner_name(number), shard) for number, shard in enumerate(shards(learner))]
    if found != learner_entries(checkpoint):
        raise CheckpointError(f"the learner of checkpoint {checkpoint.uri} arrived damaged from the leader")


def read_agent(reference: CheckpointReference) -> tuple[AgentRecord, dict[str, torch.Tensor]]:
    """Return what a pinned checkpoint's network is and its parameters. Raises CheckpointError or StoreError."""
    store, checkpoint = open_checkpoint(reference.uri, reference.digest)
    try:
        record = AgentRecord.model_validate_json(read_object(store, checkpoint, AGENT))
        parameters = unpack(_read_learner(store, checkpoint))[PARAMETERS]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {reference.uri} holds no agent: {error}") from error
    return record, parameters


class Committer:
    """Commits in the background, one at a time; then announces the commit and deletes what no rule keeps."""

    def __init__(
        self,
        store: ObjectStore,
        settings: Settings,
        generation: int,
        resumed_from: Lineage | None,
        announce: Callable[[StoredCheckpoint], None],
    ) -> None:
        """Commit to `store`, the experiment's prefix."""
        self._store = store
        self._settings = settings
        self._generation = generation
        self._resumed_from = resumed_from
        self._announce = announce
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._running: Future[StoredCheckpoint | None] | None = None
        self.last: StoredCheckpoint | None = None
        self.duration_s = 0.0
        self.commits = self.errors = 0
        self.failed_at: float | None = None  # monotonic time of a commit that failed, until the next is begun

    @property
    def is_busy(self) -> bool:
        """Return whether a commit is under way."""
        return self._running is not None and not self._running.done()

    def begin(self, snapshot: Snapshot) -> None:
        """Start a commit, after the one under way."""
        self.collect()
        self.failed_at = None
        self._running = self._thread.submit(self._commit_and_release, snapshot)

    def collect(self) -> None:
        """Wait for the commit under way."""
        running, self._running = self._running, None
        if running is not None:
            self.last = running.result() or self.last

    def commit_now(
        self,
        snapshot: Snapshot,
        patience_s: float = 0.0,
        alive: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> StoredCheckpoint:
        """Commit and wait; while the store fails, try again. Raises CheckpointError, or StoreError when patience ends.

        Args:
            alive: called before each attempt.
        """
        self.collect()
        give_up = time.monotonic() + patience_s
        try:
            while self.last is None or self.last.manifest.frames != snapshot.frames:
                alive()
                try:
                    self.last = self._thread.submit(self._commit, snapshot).result()
                except StoreError as error:
                    if time.monotonic() + RETRY_S > give_up:
                        raise
                    logger.warning("waiting for the store to commit %d frames: %s", snapshot.frames, error)
                    sleep(RETRY_S)
            return self.last
        finally:
            snapshot.learner.release()

    def close(self) -> None:
        """Wait for the commit under way and end the thread."""
        self.collect()
        self._thread.shutdown()

    def _commit_and_release(self, snapshot: Snapshot) -> StoredCheckpoint | None:
        """Commit; a commit that failed is only logged: the next is due soon, and training goes on."""
        try:
            return self._commit(snapshot)
        except (CheckpointError, StoreError) as error:
            logger.error("commit failed, training goes on and it is tried again: %s", error)
            return None
        finally:
            snapshot.learner.release()

    def _commit(self, snapshot: Snapshot) -> StoredCheckpoint:
        began = time.monotonic()
        try:
            checkpoint = write(self._store, self._settings, self._generation, snapshot, self._resumed_from)
        except (CheckpointError, StoreError):
            self.errors += 1
            self.failed_at = time.monotonic()
            raise
        self.commits += 1
        self.duration_s = time.monotonic() - began
        logger.info("committed %s in %.2f s", checkpoint.uri, self.duration_s)
        self._announce(checkpoint)
        try:
            prune(self._store, self._settings, keep=[checkpoint.digest])
        except (StoreError, CheckpointError) as error:
            logger.warning("old checkpoints were not deleted: %s", error)
        return checkpoint


def prune(store: ObjectStore, settings: Settings, keep: Sequence[str] = ()) -> list[StoredCheckpoint]:
    """Delete the stage's checkpoints that no rule keeps, and abandoned uploads; returns the deleted."""
    spec, stage = settings.experiment.spec, settings.stage.name
    kept = set(keep) | {reference.digest for reference in (settings.resume, settings.teacher) if reference is not None}
    for other in spec.stages:
        if other.distillation is not None and other.distillation.teacher == stage:
            kept |= dependencies(list_checkpoints(store, other.name))
    superfluous = choose_superfluous(list_checkpoints(store, stage), spec.checkpoint.retention, depended_on=kept)
    for checkpoint in superfluous:
        delete_checkpoint(store, checkpoint)
    clean_abandoned(store, stage, time.time())
    return superfluous


def history_bytes(points: Sequence[dict[str, Any]]) -> bytes:
    """Return a learning curve as it is stored."""
    return json.dumps({"points": list(points)}).encode()
