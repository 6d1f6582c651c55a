"""Where a stage stands, kept in the object store, and its restoration when the service starts."""

import json
import logging
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from ada_api.progress import CommittedCheckpoint
from ada_curriculum.manifest import (
    CURRICULUM,
    CheckpointError,
    StoredCheckpoint,
    check_sizes,
    list_checkpoints,
    read_object,
)
from ada_curriculum.record import StageRecord, Standing
from ada_curriculum.store import ObjectMissingError, ObjectStore, get

logger = logging.getLogger(__name__)

MAX_STANDING_BYTES = 1 << 20
_STANDING = TypeAdapter(Standing)


def write_standing(store: ObjectStore, stage: str, standing: Standing) -> None:
    """Make a standing durable."""
    document = asdict(standing) | {"evaluation": [score.model_dump() for score in standing.evaluation]}
    store.put(f"curriculum/{stage}.json", json.dumps(document).encode())


def read_standing(store: ObjectStore, stage: str) -> Standing | None:
    """Return the standing of a stage, None if it has none or one that makes no sense."""
    try:
        return _STANDING.validate_json(get(store, f"curriculum/{stage}.json", MAX_STANDING_BYTES))
    except ObjectMissingError:
        return None
    except ValidationError as error:
        logger.warning("curriculum/%s.json in %s makes no sense and is passed over: %s", stage, store.uri, error)
        return None


def load_checkpoint(store: ObjectStore, checkpoint: StoredCheckpoint, record: StageRecord, now: float) -> None:
    """Make a record what it was at a checkpoint. Raises CheckpointError or SnapshotError if that can't be."""
    record.load(read_object(store, checkpoint, CURRICULUM), now)
    record.checkpoint = committed(checkpoint)
    record.known = True


def committed(checkpoint: StoredCheckpoint) -> CommittedCheckpoint:
    """Return what the operator is told of a checkpoint."""
    manifest = checkpoint.manifest
    return CommittedCheckpoint(uri=checkpoint.uri, digest=checkpoint.digest, frames=manifest.frames, time=manifest.time)


def restore_stage(store: ObjectStore, record: StageRecord, now: float) -> None:
    """Restore a stage from its standing and its newest whole checkpoint, if there are any.

    Raises SnapshotError if a whole snapshot belongs to other settings, StoreError if the store fails.
    """
    standing = read_standing(store, record.name)
    if standing is not None:
        record.standing = standing
        record.registered = standing.generation  # its group may well be alive
        record.known = True
    for checkpoint in reversed(list_checkpoints(store, record.name)):
        try:
            check_sizes(store, checkpoint.prefix, checkpoint.manifest)
            load_checkpoint(store, checkpoint, record, now)
        except CheckpointError as error:
            logger.warning("stage %s: passing over checkpoint %s: %s", record.name, checkpoint.prefix, error)
            continue
        record.standing.generation = max(record.standing.generation, checkpoint.manifest.generation)
        record.last_progress = checkpoint.manifest.time
        logger.info("stage %s: restored from %s, %d frames", record.name, checkpoint.uri, record.frames)
        return
