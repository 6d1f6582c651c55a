"""A checkpoint is committed or absent, whatever happened while it was written."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ada_api.operations import Retention
from ada_curriculum.manifest import (
    CheckpointError,
    Lineage,
    Manifest,
    StoredCheckpoint,
    checkpoint_prefix,
    copy_checkpoint,
    fetch_object,
    list_checkpoints,
    newest_whole,
    open_checkpoint,
    prefix_within,
    read_checkpoint,
    read_object,
    verify,
    write_checkpoint,
)
from ada_curriculum.retention import choose_superfluous, clean_abandoned, delete_checkpoint, dependencies
from ada_curriculum.store import Data, DirectoryStore, ObjectInfo, StoreError

OBJECTS: dict[str, bytes | Path] = {
    "agent.json": b"{}",
    "shard-0.safetensors": b"0" * 100,
    "shard-1.safetensors": b"1" * 50,
}


def manifest(
    frames: int,
    attempt: int = 1,
    generation: int = 1,
    teacher: Lineage | None = None,
    score: float | None = None,
) -> Manifest:
    return Manifest(
        experiment="default/x",
        stage="teacher",
        frames=frames,
        updates=frames // 10,
        attempt=attempt,
        generation=generation,
        time=1.0,
        config_digest="sha256:" + "0" * 64,
        teacher=teacher,
        score=score,
    )


def commit(
    store: DirectoryStore, frames: int, attempt: int = 1, generation: int = 1, score: float | None = None
) -> StoredCheckpoint:
    prefix = checkpoint_prefix("teacher", frames, attempt)
    return write_checkpoint(store, prefix, OBJECTS, manifest(frames, attempt, generation, score=score))


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


class FailingStore(DirectoryStore):
    """Fails at the n-th put, as a store does that is lost meanwhile."""

    def __init__(self, directory: Path, fail_at: int) -> None:
        super().__init__(directory)
        self.left = fail_at

    def put(self, key: str, data: Data | Path, sha256: str | None = None) -> None:
        self.count()
        super().put(key, data, sha256)

    def put_new(self, key: str, data: bytes) -> None:
        self.count()
        super().put_new(key, data)

    def count(self) -> None:
        if self.left == 0:
            raise StoreError("lost")
        self.left -= 1


def test_a_committed_checkpoint_reads_back_by_uri_and_digest(store: DirectoryStore, tmp_path: Path) -> None:
    written = commit(store, 100)
    other, found = open_checkpoint(written.uri, written.digest)
    assert found.manifest == written.manifest
    assert read_object(other, found, "shard-0.safetensors") == b"0" * 100
    fetch_object(other, found, "shard-1.safetensors", tmp_path / "shard")
    assert (tmp_path / "shard").read_bytes() == b"1" * 50


def test_frames_have_fifteen_digits_so_that_names_sort(store: DirectoryStore) -> None:
    assert checkpoint_prefix("teacher", 1234, 2) == "checkpoints/teacher/000000000001234-2"


@pytest.mark.parametrize("puts", [0, 1, 2, 3])
def test_a_checkpoint_whose_upload_broke_off_does_not_exist(tmp_path: Path, puts: int) -> None:
    commit(DirectoryStore(tmp_path), 50)
    broken = FailingStore(tmp_path, puts)
    with pytest.raises(StoreError, match="lost"):
        commit(broken, 100)
    assert [one.manifest.frames for one in list_checkpoints(broken, "teacher")] == [50]


def test_a_prefix_in_use_is_refused(store: DirectoryStore) -> None:
    commit(store, 100)
    with pytest.raises(CheckpointError, match="in use"):
        commit(store, 100)


def test_another_digest_than_the_pinned_one_is_refused(store: DirectoryStore) -> None:
    written = commit(store, 100)
    with pytest.raises(CheckpointError, match="not the pinned"):
        read_checkpoint(store, written.prefix, "sha256:" + "f" * 64)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [damage, truncate, Path.unlink], ids=["bit-flip", "truncated", "removed"])
@pytest.mark.parametrize("name", ["shard-0.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_newest_whole_one(
    store: DirectoryStore, harm: Callable[[Path], None], name: str
) -> None:
    commit(store, 100)
    newest = commit(store, 200)
    harm(store.directory / newest.prefix / name)
    found = newest_whole(store, "teacher")
    assert found is not None and found.manifest.frames == 100


def test_nothing_whole_is_none(store: DirectoryStore) -> None:
    assert newest_whole(store, "teacher") is None
    only = commit(store, 100)
    damage(store.directory / only.prefix / "shard-0.safetensors")
    assert newest_whole(store, "teacher") is None


def test_the_work_of_a_later_generation_is_newer_even_with_fewer_frames(store: DirectoryStore) -> None:
    commit(store, 300, attempt=1, generation=1)
    commit(store, 200, attempt=2, generation=2)
    found = newest_whole(store, "teacher")
    assert found is not None and found.manifest.frames == 200


def test_reading_a_damaged_object_raises_and_leaves_no_file(store: DirectoryStore, tmp_path: Path) -> None:
    written = commit(store, 100)
    damage(store.directory / written.prefix / "shard-0.safetensors")
    for attempt in (
        lambda: verify(store, written),
        lambda: read_object(store, written, "shard-0.safetensors"),
        lambda: fetch_object(store, written, "shard-0.safetensors", tmp_path / "shard"),
    ):
        with pytest.raises(CheckpointError, match="damaged"):
            attempt()
    assert not (tmp_path / "shard").exists()


def test_a_copy_has_the_same_digest(store: DirectoryStore, tmp_path: Path) -> None:
    written = commit(store, 100)
    (tmp_path / "passing").mkdir()
    target = DirectoryStore(tmp_path / "target")
    uri = copy_checkpoint(store, written, target, tmp_path / "passing")
    other, copied = open_checkpoint(uri, written.digest)
    verify(other, copied)


def test_a_checkpoint_uri_outside_the_store_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    written = commit(store, 100)
    assert prefix_within(store, written.uri) == written.prefix
    for uri in (f"file://{tmp_path}/elsewhere/x", written.uri + "?endpoint=http://x", f"{store.uri}/../x", store.uri):
        with pytest.raises(CheckpointError):
            prefix_within(store, uri)


def kept(checkpoints: list[StoredCheckpoint], **arguments: object) -> list[int]:
    depended = arguments.pop("depended_on", ())
    retention = Retention.model_validate(arguments)
    superfluous = choose_superfluous(checkpoints, retention, depended)  # type: ignore[arg-type]
    return [one.manifest.frames for one in checkpoints if one not in superfluous]


def test_retention_keeps_what_its_rules_name(store: DirectoryStore) -> None:
    checkpoints = [commit(store, frames) for frames in (100, 200, 300, 400, 500)]
    assert kept(checkpoints, last=2) == [400, 500]
    assert kept(checkpoints, last=1, every=200) == [100, 200, 400, 500]
    assert kept(checkpoints, last=1, depended_on=(checkpoints[2].digest,)) == [300, 500]
    assert kept(checkpoints, last=9) == [100, 200, 300, 400, 500]


def test_retention_keeps_the_best_score_and_the_newest_of_equals(store: DirectoryStore) -> None:
    scores = {100: None, 200: 0.7, 300: 0.7, 400: 0.1, 500: 0.3}
    checkpoints = [commit(store, frames, score=score) for frames, score in scores.items()]
    assert kept(checkpoints, last=1) == [300, 500]
    assert kept(checkpoints, last=1, best=False) == [500]
    assert kept(checkpoints[:1] + checkpoints[4:], last=1) == [500], "the last one is the best one"


def test_a_manifest_of_before_there_were_scores_is_read(store: DirectoryStore) -> None:
    old = manifest(100).model_dump_json(indent=1, exclude={"score"}).encode()
    store.put("checkpoints/teacher/000000000000100-1/manifest.json", old)
    (found,) = list_checkpoints(store, "teacher")
    assert found.manifest.score is None


def test_a_teacher_is_depended_on(store: DirectoryStore) -> None:
    teacher = commit(store, 100)
    lineage = Lineage(uri=teacher.uri, digest=teacher.digest)
    student = StoredCheckpoint("p", "u", "sha256:0", manifest(5, teacher=lineage))
    assert dependencies([teacher, student]) == {teacher.digest}


class WatchedStore(DirectoryStore):
    """Remembers the order of deletions."""

    deleted: list[str]

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.deleted.append(key)
            super().delete([key])


def test_a_deleted_checkpoint_loses_its_manifest_first(tmp_path: Path) -> None:
    store = WatchedStore(tmp_path)
    store.deleted = []
    checkpoint = commit(store, 100)
    prefix = checkpoint.prefix
    delete_checkpoint(store, checkpoint)
    assert store.deleted[0].endswith("manifest.json") and set(store.deleted) == {
        f"{prefix}/{name}" for name in (*OBJECTS, "manifest.json")
    }
    assert store.list("") == []


class AgedStore(DirectoryStore):
    """Objects that were last written at time 1000."""

    def list(self, prefix: str, after: str = "", limit: int = 1000) -> list[ObjectInfo]:
        return [ObjectInfo(info.key, info.size, 1000.0) for info in super().list(prefix, after, limit)]


def test_only_uploads_that_stood_still_are_cleaned(tmp_path: Path) -> None:
    store = AgedStore(tmp_path)
    whole = commit(store, 100)
    store.put(checkpoint_prefix("teacher", 200, 1) + "/shard-0.safetensors", b"x")
    assert clean_abandoned(store, "teacher", now=1500.0, after_s=600.0) == []
    assert clean_abandoned(store, "teacher", now=1700.0, after_s=600.0) == [checkpoint_prefix("teacher", 200, 1)]
    assert [info.key.rpartition("/")[0] for info in store.list("")] == [whole.prefix] * 4
