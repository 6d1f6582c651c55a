"""Which checkpoints are kept, as a pure choice, and the deletion of the others and of abandoned uploads."""

from collections.abc import Collection, Sequence

from ada_api.operations import Retention
from ada_curriculum.manifest import MANIFEST, StoredCheckpoint, checkpoint_folders, stage_prefix
from ada_curriculum.store import ObjectStore, walk

ABANDONED_AFTER_S = 3600.0  # longer than any upload may pause


def choose_superfluous(
    checkpoints: Sequence[StoredCheckpoint],
    retention: Retention,
    depended_on: Collection[str] = (),
) -> list[StoredCheckpoint]:
    """Return the checkpoints that no rule keeps.

    Kept: the last N; the first of each interval of `every` frames; the best by score; and `depended_on`.

    Args:
        checkpoints: one stage's, oldest first.
        depended_on: digests that others name as teacher or as start.
    """
    kept = {checkpoint.digest for checkpoint in checkpoints[-retention.last :]} | set(depended_on)
    if retention.best and (best := best_by_score(checkpoints)) is not None:
        kept.add(best.digest)
    if retention.every is not None:
        intervals: dict[int, str] = {}
        for checkpoint in sorted(checkpoints, key=lambda one: one.manifest.frames):
            intervals.setdefault(checkpoint.manifest.frames // retention.every, checkpoint.digest)
        kept.update(intervals.values())
    return [checkpoint for checkpoint in checkpoints if checkpoint.digest not in kept]


def best_by_score(checkpoints: Sequence[StoredCheckpoint]) -> StoredCheckpoint | None:
    """Return the checkpoint of the highest score, the newest of equals; None if none has a score."""
    scored = [(one.manifest.score, one.age_order, one) for one in checkpoints if one.manifest.score is not None]
    return max(scored, key=lambda entry: entry[:2])[2] if scored else None


def dependencies(checkpoints: Sequence[StoredCheckpoint]) -> set[str]:
    """Return the digests that these checkpoints name as teacher."""
    return {one.manifest.teacher.digest for one in checkpoints if one.manifest.teacher is not None}


def delete_checkpoint(store: ObjectStore, checkpoint: StoredCheckpoint) -> None:
    """Delete a checkpoint: its manifest first, so that no half of it is ever taken for a whole."""
    prefix = f"{checkpoint.prefix}/"
    store.delete([prefix + MANIFEST])
    store.delete([info.key for info in walk(store, prefix)])


def find_abandoned(store: ObjectStore, stage: str, now: float, after_s: float = ABANDONED_AFTER_S) -> list[str]:
    """Return the prefixes of a stage that have no manifest and got no object for `after_s` seconds."""
    folders = checkpoint_folders(store, stage)
    touched: dict[str, float] = {}
    base = stage_prefix(stage)
    for info in walk(store, base):
        prefix = base + info.key.removeprefix(base).partition("/")[0]
        touched[prefix] = max(touched.get(prefix, 0.0), info.modified)
    return [prefix for prefix, names in folders.items() if MANIFEST not in names and touched[prefix] < now - after_s]


def clean_abandoned(store: ObjectStore, stage: str, now: float, after_s: float = ABANDONED_AFTER_S) -> list[str]:
    """Delete interrupted uploads of a stage; returns their prefixes."""
    prefixes = find_abandoned(store, stage, now, after_s)
    for prefix in prefixes:
        store.delete([info.key for info in walk(store, f"{prefix}/")])
    return prefixes
