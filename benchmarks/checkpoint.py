"""Checkpoints of 1 GB: how long the learner stands still, and how fast they travel to and from a real MinIO."""

import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import safetensors.numpy
import torch

from ada_api.experiment import AdaExperiment
from ada_curriculum.client import Advance
from ada_curriculum.manifest import Manifest, StoredCheckpoint, write_checkpoint
from ada_curriculum.store import ObjectStore, open_store
from ada_curriculum.types import Lease
from ada_sim.batch import BatchSim, TimeStep
from ada_trainer import checkpoint as checkpoints
from ada_trainer import resuming
from ada_trainer.elastic.group import Group
from ada_trainer.loop import Worker
from ada_trainer.settings import Settings, find_stage
from ada_trainer.snapshot import pack, shards
from benchmarks.peer import note
from benchmarks.row import Row, cost_row, rate_row
from benchmarks.services import ObjectServer, running_minio
from benchmarks.timing import Effort, by_turns, seconds_of

REPEATS = 3
BYTES, SMALL_BYTES = 1 << 30, 1 << 20
TENSORS = 256  # of the state that travels
LARGE_MODEL = {"preset": "75m"}  # with AdamW's two moments 0.9 GB in fp32
SMALL_MODEL = {"preset": "nano"}
EXPERIMENT = {
    "apiVersion": "ada.dev/v1alpha1",
    "kind": "AdaExperiment",
    "metadata": {"name": "benchmark"},
    "spec": {
        "environment": {"observation": "symbolic", "trialSeconds": [1]},
        "curriculum": {"method": "uniform"},
        "checkpoint": {"intervalSeconds": 86_400, "retention": {"last": 1}},
    },
}


def rows(effort: Effort) -> Iterator[Row]:
    """Measure stops, uploads and downloads."""
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as folder, running_minio(Path(folder)) as server:
        if server is None:
            note("no MinIO: `python tests/prepare.py` builds it; checkpoints go to a directory instead")
            uri = (Path(folder) / "store").as_uri()
        else:
            os.environ["ADA_STORE_ACCESS_KEY"], os.environ["ADA_STORE_SECRET_KEY"] = (
                server.access_key,
                server.secret_key,
            )
            uri = server.uri
        where = "a directory" if server is None else "MinIO"
        yield from stop_rows(effort, open_store(uri), where, Path(folder))
        yield from transfer_rows(effort, open_store(uri), where, server)


def stop_rows(effort: Effort, store: ObjectStore, where: str, folder: Path) -> Iterator[Row]:
    """Compare the time that a commit in the background stops the loop with one that is waited for."""
    worker = trained_worker(store, SMALL_MODEL if effort.small else LARGE_MODEL)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(worker.work.learner_state()))

    def stop(wait: bool) -> float:
        while worker.committer.is_busy:
            time.sleep(0.01)
        worker.counts = replace(worker.counts, frames=worker.counts.frames + 1)
        return seconds_of(lambda: worker._commit(wait=wait))

    def torch_save() -> float:
        path = folder / "state.pt"

        def save() -> None:
            with path.open("wb") as file:
                torch.save(worker.work.learner_state(), file)
                file.flush()
                os.fsync(file.fileno())

        return seconds_of(save)

    try:
        stop(False)
        repeats = 1 if effort.small else REPEATS
        stopped, waited, saved = by_turns([lambda: stop(False), lambda: stop(True), torch_save], repeats)
        worker.committer.collect()
        if worker.committer.errors:
            raise RuntimeError(f"{worker.committer.errors} commits that were measured failed")
    finally:
        worker.close()
    what = f"seconds that a commit stops the learner, {size / 1e9:.2g} GB"
    yield cost_row("checkpoint", what, stopped, waited, f"waiting for the commit in {where}", 10)
    yield cost_row("checkpoint", what, stopped, saved, "torch.save into a local file, with fsync")


def transfer_rows(effort: Effort, store: ObjectStore, where: str, server: ObjectServer | None) -> Iterator[Row]:
    """Compare upload and verified restore of a large state with the SDK's bare put and get of as many bytes."""
    size = SMALL_BYTES if effort.small else BYTES
    numbers = torch.frombuffer(bytearray(np.random.default_rng(0).bytes(size)), dtype=torch.float32)
    data = pack({"network": dict(enumerate(numbers.split(max(1, len(numbers) // TENSORS))))})
    size = len(data)
    held: list[StoredCheckpoint] = []

    def upload() -> float:
        prefix = f"checkpoints/raw/{len(held):015d}-1"
        manifest = Manifest(
            experiment="default/benchmark",
            stage="raw",
            frames=len(held),
            updates=0,
            attempt=1,
            generation=1,
            time=0.0,
            config_digest="sha256:0",
        )
        objects = {checkpoints.learner_name(number): shard for number, shard in enumerate(shards(data))}
        seconds = seconds_of(lambda: held.append(write_checkpoint(store, prefix, objects, manifest)))
        return size / 1e6 / seconds

    def download() -> float:
        found: list[checkpoints.Loaded] = []
        seconds = seconds_of(lambda: found.append(checkpoints.load(store, held[-1])))
        if found[0].learner != data:
            raise RuntimeError("what was uploaded came back changed")
        return size / 1e6 / seconds

    puts: list[Callable[[], float]] = [upload]
    gets: list[Callable[[], float]] = [download]
    if server is not None:
        client, bucket = server.client(), server.bucket

        def put() -> float:
            return size / 1e6 / seconds_of(lambda: client.put_object(bucket, "raw", io.BytesIO(data), size))

        def get() -> float:
            def whole() -> None:
                answer = client.get_object(bucket, "raw")
                if len(answer.read()) != size:
                    raise RuntimeError("the SDK's get returned another length")
                answer.close()
                answer.release_conn()

            return size / 1e6 / seconds_of(whole)

        puts, gets = [upload, put], [download, get]
    repeats = 1 if effort.small else REPEATS
    for what, measures, name, bar in (
        ("upload, digest and manifest included", puts, "put_object of the minio SDK", 0.9),
        ("restore, verified", gets, "get_object of the minio SDK", 0.8),
    ):
        ours, *theirs = by_turns(measures, repeats)
        full = f"MB/s of a checkpoint's {what}, {size / 1e9:.2g} GB, {where}"
        yield rate_row("checkpoint", full, ours, theirs[0] if theirs else None, name, bar)


def trained_worker(store: ObjectStore, model: dict[str, Any]) -> Worker:
    """Return a worker that has made one update, so that its optimiser has moments."""
    stage = {"name": "only", "frames": 10**9, "model": model, "algorithm": {"worlds": 2, "unroll": 2, "minibatches": 1}}
    document = {**EXPERIMENT, "spec": {**EXPERIMENT["spec"], "stages": [stage]}}  # type: ignore[dict-item]
    experiment = AdaExperiment.model_validate(document)
    store = store.child("default/benchmark")
    settings = Settings(
        experiment=experiment,
        stage=find_stage(experiment, "only"),
        min_nodes=1,
        max_nodes=1,
        rendezvous_id="benchmark",
        host="127.0.0.1",
        port=0,
        token="",
        curriculum_address="",
        rendezvous_address="",
        simulator_addresses=("here",),
        store_uri=store.uri,
        teacher=None,
        resume=None,
    )
    client: Any = NoCurriculum()
    start = resuming.Start(generation=1, uri=None, digest=None)
    with patch("torch.nn.init.orthogonal_", lambda weight, gain: torch.nn.init.normal_(weight, std=0.02)):  # quick
        worker = Worker(
            *(settings, Group(), store, client, start, threading.Event()),
            connect=lambda _, worlds: Here(worlds, experiment),
        )
    worker.restore(None)
    worker.work.update(worker.work.collect(), 0)
    return worker


def tensors_of(state: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor of a nested state."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from tensors_of(part)


class Here:
    """A simulator in this process, behind the face of a connection."""

    def __init__(self, worlds: int, experiment: AdaExperiment) -> None:
        self.worlds, self._sim = worlds, BatchSim(worlds, experiment.spec.environment)
        self.assign, self.timestep, self.close = self._sim.assign, self._sim.timestep, self._sim.close

    def send_step(self, actions: np.ndarray) -> None:
        """Take the actions."""
        self._actions = actions

    def receive(self) -> TimeStep:
        """Return the step's timestep."""
        return self._sim.step(self._actions)


class NoCurriculum:
    """Answers what a worker asks of the curriculum service, with next to nothing."""

    def lease(self, stage: str, generation: int, worker: str, count: int) -> list[Lease]:
        """Lend tasks 0, 1, 2, ..."""
        return [Lease(str(task), task, 1, task, True, "agent") for task in range(count)]

    def advance(self, *_: Any) -> Advance:
        """Want nothing."""
        return Advance(commit=False, stop=False)

    def snapshot(self, stage: str) -> bytes:
        """Return an empty curriculum."""
        return safetensors.numpy.save({"recent_returns": np.full((1, 2), np.nan)})

    def history(self, stage: str) -> list[dict[str, Any]]:
        """Return no points."""
        return []

    def commit(self, *_: Any) -> None:
        """Take note of a commit."""

    def report(self, *_: Any) -> None:
        """Take results."""

    def close(self) -> None:
        """Close nothing."""
