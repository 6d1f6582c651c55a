"""Training on real stores: it moves from one to another, and goes on while its store is away."""

import contextlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ada_curriculum.manifest import list_checkpoints, newest_whole
from ada_curriculum.store import open_store
from ada_trainer import checkpoints_cli, loop
from ada_trainer.loop import Ending, Worker
from ada_trainer.snapshot import pack

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.curriculum.conftest import ACCESS_KEY, SECRET_KEY, free_port, running_minio, running_versitygw

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

LONG = bool(os.environ.get("ADA_TEST_LONG"))
AWAY_S = 600.0 if LONG else 5.0  # at least, and until a commit has failed


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("ADA_STORE_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("ADA_STORE_SECRET_KEY", SECRET_KEY)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[str]]:
    """Yield a place in a directory, in MinIO, and in an S3 server of another kind."""
    for name in ("minio", "second"):
        (tmp_path / name).mkdir()
    with running_minio(tmp_path / "minio") as minio, running_versitygw(tmp_path / "second") as second:
        yield [(tmp_path / "here").as_uri(), *(f"s3://ada/moved?endpoint={endpoint}" for endpoint in (minio, second))]


def on_store(run: "parts.Run", uri: str) -> str:
    """Have a run use a store from now on; returns the URI of its experiment there."""
    store = open_store(uri).child("default/tiny")
    run.settings = parts.settings_of(run.settings.experiment, Path("/nowhere"), store_uri=store.uri)
    run.store = store
    return store.uri


def learned(worker: Worker) -> bytes:
    return pack(worker.work.learner_state())


def test_a_run_that_moves_from_store_to_store_learns_the_same_bytes(
    tmp_path: Path, stores: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = parts.tiny_experiment(frames=600)
    moving = parts.Run(tmp_path, experiment)
    before = None
    for number, uri in enumerate(stores):
        here = on_store(moving, uri)
        if before is not None:
            prefix = newest_whole(open_store(before), "teacher").prefix  # type: ignore[union-attr]
            assert checkpoints_cli.main(["copy", "--store", before, "--prefix", prefix, "--to", here]) == 0
            assert checkpoints_cli.main(["verify", "--store", here]) == 0, capsys.readouterr().out
        before = here
        moving.curriculum.stop_at = 200 * (number + 1)
        _, moved = moving.train()
        assert moved.counts.frames == 200 * (number + 1)
    assert newest_whole(moving.store, "teacher").manifest.frames == 600  # type: ignore[union-attr]

    # The episodes in flight are dropped in both: that is what a restart costs, and all it costs.
    staying = parts.Run(tmp_path / "staying", experiment)
    worker = staying.start()
    for frames in (200, 400):
        staying.curriculum.stop_at = frames
        assert worker.train() is Ending.STOPPED
        random = worker.work.collector_state()
        worker.work.begin(frames)
        assert worker.work._collector is not None
        worker.work._collector.load_state_dict(random)
    staying.curriculum.stop_at = 1 << 60
    assert worker.train() is Ending.TRAINED
    worker.close()
    assert learned(moved) == learned(worker)
    assert moving.curriculum.results == staying.curriculum.results != []


@pytest.mark.timeout(1800 if LONG else 300)
def test_training_goes_on_while_the_store_is_away_and_commits_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With ADA_TEST_LONG=1 the store is away for ten minutes, and nothing is hurried."""
    if not LONG:
        monkeypatch.setattr(loop, "RETRY_COMMIT_S", 1.0)
    (folder := tmp_path / "minio").mkdir()
    port = free_port()
    experiment = parts.tiny_experiment(frames=10**9)
    rule = experiment.spec.checkpoint.model_copy(update={"interval_seconds": 1})
    run = parts.Run(
        tmp_path, experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"checkpoint": rule})})
    )
    run.curriculum.report = lambda *_: None  # ten minutes of results would be kept
    on_store(run, f"s3://ada/away?endpoint=http://127.0.0.1:{port}")
    ended: list[Ending] = []
    with running_minio(folder, port):
        worker = run.start()
        training = threading.Thread(target=lambda: ended.append(worker.train()))
        training.start()
        until(lambda: worker.committer.commits >= 2, 280.0)
    committed, errors, frames = worker.committed_frames, worker.committer.errors, worker.counts.frames
    gone_at = time.monotonic()
    slowest_s = 0.0
    while time.monotonic() < gone_at + AWAY_S or worker.committer.errors == errors:
        begin = time.monotonic()
        until(lambda before=frames: worker.counts.frames > before, 120.0)
        slowest_s = max(slowest_s, time.monotonic() - begin)
        frames = worker.counts.frames
    until(lambda: "commit failed" in caplog.text and "training goes on" in caplog.text, 10.0)
    with running_minio(folder, port):
        until(lambda: any(one.manifest.frames > frames for one in list_checkpoints(run.store, "teacher")), 120.0)
        run.told.set()
        training.join()
        worker.close()
        assert ended == [Ending.STOPPED]
        newest = newest_whole(run.store, "teacher")
        assert newest is not None and newest.manifest.frames == worker.counts.frames > committed
    print(f"away {AWAY_S:.0f} s: {worker.committer.errors} attempts failed, no iteration took over {slowest_s:.1f} s")


def until(holds: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
