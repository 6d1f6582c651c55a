"""Committing: whatever put is the last one that succeeds, the newest readable checkpoint is a whole one."""

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ada_api.operations import Retention
from ada_api.stages import CheckpointReference
from ada_curriculum.manifest import CheckpointError, Lineage, StoredCheckpoint, list_checkpoints
from ada_curriculum.store import PAGE_OBJECTS, Data, ObjectInfo, ObjectStore, StoreError, open_store
from ada_trainer import checkpoint as checkpoints
from ada_trainer.captures import Capture
from ada_trainer.checkpoint import AGENT, Committer, Snapshot, learner_name, prune, read, read_agent, write
from ada_trainer.snapshot import SnapshotError, pack, unpack

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

OBJECTS = 6  # learner, agent, curriculum, history, one collector, manifest


def snapshot(frames: int) -> Snapshot:
    learner = {"network": {"w": torch.full((3,), float(frames))}, "counts": {"frames": frames}}
    packed = Capture(pack(learner))
    return Snapshot(frames, frames // 10, packed, (pack({"generator": torch.arange(4)}),), b"c", b"[]")


def found_newest(store: ObjectStore) -> StoredCheckpoint | None:
    loaded = checkpoints.load_newest(store, "teacher")
    return loaded.checkpoint if loaded else None


class BreakingStore:
    """A store whose puts fail from a number on."""

    def __init__(self, inner: ObjectStore, puts: int) -> None:
        self.inner, self.puts = inner, puts

    @property
    def uri(self) -> str:
        return self.inner.uri

    def put(self, key: str, data: Data | Path, sha256: str | None = None) -> None:
        self.count()
        self.inner.put(key, data, sha256)

    def put_new(self, key: str, data: bytes) -> None:
        self.count()
        self.inner.put_new(key, data)

    def count(self) -> None:
        self.puts -= 1
        if self.puts < 0:
            raise StoreError("the store is full")

    def chunks(self, key: str, into: memoryview | None = None) -> Iterator[Data]:
        return self.inner.chunks(key, into)

    def head(self, key: str) -> ObjectInfo | None:
        return self.inner.head(key)

    def list(self, prefix: str, after: str = "", limit: int = PAGE_OBJECTS) -> list[ObjectInfo]:
        return self.inner.list(prefix, after, limit)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def child(self, prefix: str) -> ObjectStore:
        return self.inner.child(prefix)


@pytest.mark.parametrize("puts", range(OBJECTS))
def test_a_commit_interrupted_at_any_put_leaves_the_earlier_one_newest(tmp_path: Path, puts: int) -> None:
    settings = parts.settings_of(parts.tiny_experiment(), tmp_path)
    store = open_store(settings.store_uri)
    earlier = write(store, settings, 1, snapshot(40), None)
    with pytest.raises(StoreError):
        write(BreakingStore(store, puts), settings, 1, snapshot(80), None)
    assert found_newest(store) == earlier
    later = write(store, settings, 2, snapshot(80), None)
    assert found_newest(store) == later


def test_a_whole_commit_is_what_was_snapshot(tmp_path: Path) -> None:
    settings = parts.settings_of(parts.tiny_experiment(), tmp_path)
    store = open_store(settings.store_uri)
    lineage = Lineage(uri="file:///elsewhere", digest="sha256:" + "0" * 64)
    written = write(BreakingStore(store, OBJECTS), settings, 3, snapshot(40), lineage)
    restored = read(store, written)
    assert restored.learner["counts"] == {"frames": 40}
    assert torch.equal(restored.learner["network"]["w"], torch.full((3,), 40.0))
    assert restored.collector is not None and torch.equal(restored.collector["generator"], torch.arange(4))
    assert read(store, written, world_size=2).collector is None, "other groups have other random states"
    other = read(store, written, rank=1, world_size=2, share=lambda _: snapshot(40).learner.data())
    assert torch.equal(other.learner["network"]["w"], torch.full((3,), 40.0)), "the leader read it for all"
    with pytest.raises(CheckpointError, match="arrived damaged"):
        read(store, written, rank=1, world_size=2, share=lambda _: snapshot(41).learner.data())
    manifest = written.manifest
    assert (manifest.generation, manifest.attempt, manifest.resumed_from) == (3, 3, lineage)
    assert manifest.config_digest == settings.config_digest


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    settings = parts.settings_of(parts.tiny_experiment(), tmp_path)
    store = open_store(settings.store_uri)
    earlier = write(store, settings, 1, snapshot(40), None)
    later = write(store, settings, 1, snapshot(80), None)
    store.put(f"{later.prefix}/{learner_name(0)}", snapshot(81).learner.data())
    assert found_newest(store) == earlier
    with pytest.raises(CheckpointError):
        read(store, later)


def test_an_agent_is_read_by_its_pinned_digest_only(tmp_path: Path) -> None:
    settings = parts.settings_of(parts.tiny_experiment(), tmp_path)
    store = open_store(settings.store_uri)
    written = write(store, settings, 1, snapshot(40), None)
    record, parameters = read_agent(CheckpointReference(uri=written.uri, digest=written.digest))
    assert record.model == settings.stage.model
    assert record.action_groups == ("move", "turn")
    assert list(parameters) == ["w"]
    with pytest.raises(CheckpointError, match="not the pinned"):
        read_agent(CheckpointReference(uri=written.uri, digest="sha256:" + "1" * 64))
    store.put(f"{written.prefix}/{AGENT}", b"{}")
    with pytest.raises(CheckpointError, match="damaged"):
        read_agent(CheckpointReference(uri=written.uri, digest=written.digest))


def test_a_failed_background_commit_does_not_stop_training_and_the_next_one_stands(tmp_path: Path) -> None:
    settings = parts.settings_of(parts.tiny_experiment(), tmp_path)
    store = BreakingStore(open_store(settings.store_uri), 2)
    announced: list[int] = []
    committer = Committer(store, settings, 1, None, lambda one: announced.append(one.manifest.frames))
    committer.begin(snapshot(40))
    committer.collect()
    assert announced == [] and committer.last is None
    store.puts = 100
    committer.begin(snapshot(80))
    committer.close()
    assert announced == [80]


def test_committing_the_same_frames_again_commits_once(tmp_path: Path) -> None:
    settings = parts.settings_of(parts.tiny_experiment(), tmp_path)
    store = open_store(settings.store_uri)
    announced: list[Any] = []
    committer = Committer(store, settings, 1, None, announced.append)
    committer.begin(snapshot(40))
    assert committer.commit_now(snapshot(40)).manifest.frames == 40
    committer.close()
    assert len(announced) == 1


def test_retention_keeps_the_last_ones_and_what_was_resumed_from(tmp_path: Path) -> None:
    experiment = parts.tiny_experiment()
    rule = experiment.spec.checkpoint.model_copy(update={"retention": Retention(last=1)})
    experiment = experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"checkpoint": rule})})
    settings = parts.settings_of(experiment, tmp_path)
    store = open_store(settings.store_uri)
    written = [write(store, settings, 1, snapshot(frames), None) for frames in (10, 20, 30)]
    pinned = CheckpointReference(uri=written[0].uri, digest=written[0].digest)
    prune(store, parts.settings_of(experiment, tmp_path, resume=pinned))
    assert [one.manifest.frames for one in list_checkpoints(store, "teacher")] == [10, 30]


def test_a_snapshot_keeps_types_and_is_independent_of_the_model() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    state = {"state": {0: {"step": torch.tensor(3.0)}}, "lr": 1e-3, "betas": (0.9, 0.999), "list": [1, None, True, "x"]}
    data = pack({"w": weight, **state, "nan": float("nan"), "none": {}})
    with torch.no_grad():
        weight.zero_()
    back = unpack(data)
    assert torch.equal(back["w"], torch.ones(2, 2))
    assert back["state"][0]["step"].item() == 3.0
    assert (back["lr"], back["betas"], back["list"], back["none"]) == (1e-3, (0.9, 0.999), [1, None, True, "x"], {})
    assert back["nan"] != back["nan"]


def test_what_can_not_be_stored_is_named() -> None:
    with pytest.raises(SnapshotError, match="/optimizer/hook is a function"):
        pack({"optimizer": {"hook": snapshot}})
    with pytest.raises(SnapshotError):
        unpack(b"nonsense")
