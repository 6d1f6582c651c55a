"""Where a group begins: its generation, and the checkpoint it goes on from.

The leader decides, the others are told, so all of them start from the same bytes: the newest snapshot that a worker of
the group before has left in its node's memory (elastic/memory.py), or the newest checkpoint.

With `--resume-uri` the first membership goes back to that checkpoint; the following ones go on from what has been
committed since. The rendezvous store remembers from which generation on that is so.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from ada_api.progress import StageProgress
from ada_curriculum.client import CurriculumClient
from ada_curriculum.manifest import CheckpointError, StoredCheckpoint, list_checkpoints, open_checkpoint
from ada_curriculum.store import ObjectStore, StoreError
from ada_trainer import checkpoint as checkpoints
from ada_trainer.elastic import predecessors
from ada_trainer.elastic.group import Group
from ada_trainer.elastic.memory import Kept, Mark
from ada_trainer.exits import ConfigurationError, RegroupError
from ada_trainer.settings import Settings
from ada_trainer.snapshot import Data

ROLLED_BACK_KEY = "rolled-back"

logger = logging.getLogger("ada_trainer.resuming")


@dataclass(frozen=True)
class Start:
    """What a membership begins with."""

    generation: int
    uri: str | None  # of the checkpoint to go on from; None: from nothing
    digest: str | None
    holder: int | None = None  # rank of the worker whose kept snapshot is gone on from, instead of the checkpoint
    mark: Mark | None = None  # of that snapshot
    kept_digest: str = ""
    loaded: checkpoints.Loaded | None = field(
        default=None, compare=False, repr=False
    )  # by the leader, of that checkpoint

    def to_bytes(self) -> bytes:
        """Return it as it is told to the others."""
        return json.dumps(asdict(replace(self, loaded=None))).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Start":
        """Return what was told."""
        fields = json.loads(data)
        return cls(**{**fields, "mark": Mark(**fields["mark"]) if fields["mark"] else None})


def agree_on_start(
    settings: Settings, group: Group, store: ObjectStore, client: CurriculumClient, kept: Kept | None = None
) -> Start:
    """Return where the group begins; the same for every worker. `kept` is this worker's snapshot, if it has one."""
    told = [json.loads(data) if data else None for data in group.gather(_tell(kept))]
    if not group.is_leader:
        return Start.from_bytes(group.share(b""))
    survivors = [None if one is None else (Mark(**one["mark"]), str(one["digest"])) for one in told]
    start = decide_start(settings, group, store, client, survivors)
    group.share(start.to_bytes())
    return start


def _tell(kept: Kept | None) -> bytes:
    return b"" if kept is None else json.dumps({"mark": asdict(kept.mark), "digest": kept.digest}).encode()


def decide_start(
    settings: Settings,
    group: Group,
    store: ObjectStore,
    client: CurriculumClient,
    survivors: Sequence[tuple[Mark, str] | None] = (),
) -> Start:
    """Register a new generation and choose what to go on from; for the leader.

    Args:
        survivors: mark and digest of the snapshot that each worker, by rank, has kept in memory.
    """
    stage = settings.stage.name
    marks = [None if one is None else one[0] for one in survivors]
    known = known_progress(client, stage)
    committed = list_or_trust_memory(store, stage, known, marks)
    generation = 1 + max([known.generation, *(one.manifest.generation for one in committed)])
    client.register(stage, generation, group.world_size)
    predecessors.announce(group, generation)
    since = rolled_back_at(settings, group, generation)
    holder = None if since is None else choose_holder(marks, committed, since)
    if holder is not None and (survivor := survivors[holder]) is not None:
        mark, digest = survivor
        logger.info(
            "generation %d of %d workers goes on from the memory of worker %d: generation %d, %d frames",
            *(generation, group.world_size, holder, mark.generation, mark.frames),
        )
        return Start(generation, mark.uri, mark.digest, holder, mark, digest)
    found = checkpoints.load_newest(store, stage, since or 0)
    if settings.resume is not None and (since is None or found is None):
        start = Start(generation, settings.resume.uri, settings.resume.digest)
    else:
        start = begin_from(generation, found)
    if start.uri is not None and start.digest is not None:
        client.restore(stage, generation, start.uri, start.digest)
    logger.info("generation %d of %d workers starts from %s", generation, group.world_size, start.uri or "nothing")
    return start


def begin_from(generation: int, loaded: checkpoints.Loaded | None) -> Start:
    """Return the start from a checkpoint that was read, or from nothing."""
    if loaded is None:
        return Start(generation, None, None)
    return Start(generation, loaded.checkpoint.uri, loaded.checkpoint.digest, loaded=loaded)


def choose_holder(marks: Sequence[Mark | None], committed: Sequence[StoredCheckpoint], since: int = 0) -> int | None:
    """Return the rank of the worker whose kept snapshot is newest; None if a commit is as new, or there is none.

    Args:
        marks: by rank.
        committed: oldest first.
        since: snapshots of older generations were rolled back.
    """
    ranks = [rank for rank, mark in enumerate(marks) if mark is not None and mark.generation >= since]
    newest = max(ranks, key=lambda rank: _order(marks[rank]), default=None)
    if newest is None:
        return None
    if committed:
        last = committed[-1].manifest
        if _order(marks[newest]) <= (last.generation, last.frames, last.updates):
            return None
    return newest


def _order(mark: Mark | None) -> tuple[int, int, int]:
    return (0, 0, 0) if mark is None else mark.order


def list_or_trust_memory(
    store: ObjectStore, stage: str, known: StageProgress, marks: Sequence[Mark | None]
) -> list[StoredCheckpoint]:
    """Return the committed checkpoints, oldest first.

    While the store fails, and a survivor's snapshot is of the newest generation that was ever registered and has at
    least the frames of the newest commit that was announced, the store has nothing newer: the group need not wait.
    """
    try:
        return list_checkpoints(store, stage)
    except StoreError as error:
        announced = known.checkpoint.frames if known.checkpoint is not None else 0
        if not any(mark and mark.generation == known.generation and mark.frames >= announced for mark in marks):
            raise
        logger.warning("going on from memory alone: %s", error)
        return []


def receive_kept(group: Group, start: Start, kept: Kept | None) -> Data:
    """Return the state that the group goes on from; from the holder's memory where this worker has not the same."""
    assert start.holder is not None, "the group starts from a checkpoint"
    state: Data | None = kept.state if kept is not None and kept.digest == start.kept_digest else None
    (lacking,) = group.total(int(state is None))
    if lacking:
        state = group.broadcast(state or b"", start.holder)
        if hashlib.sha256(state).hexdigest() != start.kept_digest:
            raise RegroupError(f"the snapshot of worker {start.holder} arrived damaged")
    assert state is not None
    return state


def known_progress(client: CurriculumClient, stage: str) -> StageProgress:
    """Return what the curriculum service knows of a stage."""
    found = (one for one in client.progress().stages if one.stage == stage)
    return next(found, StageProgress(stage=stage))


def rolled_back_at(settings: Settings, group: Group, generation: int) -> int | None:
    """Return the generation from which on commits follow the roll-back; None if it is still to be done.

    Without a roll-back every commit counts: 0.
    """
    if settings.resume is None:
        return 0
    if group.rendezvous is None:
        return None
    if group.rendezvous.check([ROLLED_BACK_KEY]):
        return int(group.rendezvous.get(ROLLED_BACK_KEY).decode())
    group.rendezvous.set(ROLLED_BACK_KEY, str(generation))
    return None


def read_start(settings: Settings, group: Group, start: Start) -> checkpoints.Restored | None:
    """Return the checkpoint to go on from, to every worker. Raises ConfigurationError if a pinned one is not there."""
    if start.uri is None:
        return None
    try:
        store, checkpoint = open_checkpoint(start.uri, start.digest)
        share = partial(group.broadcast, source=0)
        return checkpoints.read(store, checkpoint, group.rank, group.world_size, share, start.loaded)
    except CheckpointError as error:
        if settings.resume is not None and start.uri == settings.resume.uri:
            raise ConfigurationError(f"--resume-uri can't be used: {error}") from error
        raise
