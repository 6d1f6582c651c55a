"""A real MinIO behind a proxy that breaks things: a checkpoint is committed or absent, and the next one works."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ada_curriculum import s3
from ada_curriculum.manifest import (
    CheckpointError,
    Manifest,
    StoredCheckpoint,
    checkpoint_prefix,
    newest_whole,
    read_object,
    verify,
    write_checkpoint,
)
from ada_curriculum.store import ObjectExistsError, ObjectStore, StoreError, get, open_store

_spec = importlib.util.spec_from_file_location("faulty_proxy", Path(__file__).with_name("faulty_proxy.py"))
assert _spec is not None and _spec.loader is not None
faulty_proxy = importlib.util.module_from_spec(_spec)
sys.modules["faulty_proxy"] = faulty_proxy
_spec.loader.exec_module(faulty_proxy)

LONG = bool(os.environ.get("ADA_TEST_LONG"))
OBJECTS: dict[str, bytes | Path] = {f"shard-{number}": os.urandom(200_000) for number in range(4)}


@pytest.fixture
def proxy(minio_endpoint: str) -> Iterator[faulty_proxy.FaultyProxy]:
    between = faulty_proxy.FaultyProxy(minio_endpoint.removeprefix("http://"))
    yield between
    between.close()


@pytest.fixture
def uris(
    proxy: faulty_proxy.FaultyProxy, minio_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """Return the same place in the store, through the proxy and straight."""
    monkeypatch.setenv("ADA_STORE_ACCESS_KEY", "test-access-key")
    monkeypatch.setenv("ADA_STORE_SECRET_KEY", "test-secret-key")
    monkeypatch.setattr(s3, "READ_TIMEOUT_S", 2)
    monkeypatch.setattr(s3, "RETRIES", 2)
    prefix = f"{tmp_path.name}-{os.getpid()}-{time.monotonic_ns()}"
    endpoints = (f"http://127.0.0.1:{proxy.port}", minio_endpoint)
    through, straight = (f"s3://ada/{prefix}?endpoint={endpoint}&path_style=true" for endpoint in endpoints)
    return through, straight


def manifest(frames: int, generation: int = 1) -> Manifest:
    return Manifest(
        experiment="default/x",
        stage="teacher",
        frames=frames,
        updates=frames // 10,
        attempt=generation,
        generation=generation,
        time=1.0,
        config_digest="sha256:" + "0" * 64,
    )


def commit(store: ObjectStore, frames: int, generation: int = 1) -> StoredCheckpoint:
    return write_checkpoint(store, checkpoint_prefix("teacher", frames, generation), OBJECTS, manifest(frames))


def newest_frames(store: ObjectStore) -> int:
    found = newest_whole(store, "teacher")
    return found.manifest.frames if found else 0


def break_off(fault: faulty_proxy.Fault) -> None:
    fault.upload_limit, fault.cuts = 100_000, 1


def answer_503(fault: faulty_proxy.Fault) -> None:
    fault.status, fault.statuses = 503, 2


def answer_500(fault: faulty_proxy.Fault) -> None:
    fault.status, fault.statuses = 500, 2


def lose_answers(fault: faulty_proxy.Fault) -> None:
    fault.lost_answers = 2


def reset(fault: faulty_proxy.Fault) -> None:
    fault.refuse = 2


def slow(fault: faulty_proxy.Fault) -> None:
    fault.bytes_per_second = 2e6


@pytest.mark.parametrize("cause", [break_off, answer_503, answer_500, lose_answers, reset, slow])
def test_what_passes_by_itself_does_not_stop_a_commit(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy, cause: Callable[[faulty_proxy.Fault], None]
) -> None:
    cause(proxy.fault)
    written = commit(open_store(uris[0]), 10)
    straight = open_store(uris[1])
    found = newest_whole(straight, "teacher")
    assert found is not None and found.digest == written.digest
    assert read_object(straight, found, "shard-2") == OBJECTS["shard-2"]


@pytest.mark.parametrize("fault", ["down", "always-503", "silent"])
def test_what_does_not_pass_fails_the_commit_and_the_earlier_one_stands(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy, fault: str
) -> None:
    through, straight = (open_store(uri) for uri in uris)
    commit(through, 10)
    proxy.drop()
    match fault:
        case "down":
            proxy.fault.refuse = 1 << 30
        case "always-503":
            proxy.fault.status, proxy.fault.statuses = 503, 1 << 30
        case "silent":
            proxy.fault.silent = True
    with pytest.raises(StoreError):
        commit(through, 20)
    assert newest_frames(straight) == 10
    proxy.fault = faulty_proxy.Fault()
    proxy.drop()
    commit(through, 30)
    assert newest_frames(straight) == 30


@pytest.mark.parametrize("requests", range(12))
def test_a_store_lost_at_any_request_of_a_commit_leaves_it_whole_or_absent(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy, requests: int
) -> None:
    through, straight = (open_store(uri) for uri in uris)
    commit(through, 10)
    done = False

    def lose() -> None:
        until = proxy.requests + requests
        while proxy.requests < until and not done:
            time.sleep(0.0005)
        proxy.fault.refuse = 1 << 30
        proxy.drop()

    loser = threading.Thread(target=lose)
    loser.start()
    committed = 10
    try:
        commit(through, 20)
        committed = 20
    except (StoreError, CheckpointError):
        pass
    done = True
    loser.join()
    assert newest_frames(straight) in {committed, 20}, "what was said to be committed is, and nothing else half"


def test_a_bit_that_flipped_in_the_store_is_noticed(uris: tuple[str, str]) -> None:
    store = open_store(uris[1])
    commit(store, 10)
    damaged = commit(store, 20)
    data = bytearray(get(store, f"{damaged.prefix}/shard-3"))
    data[12345] ^= 0x10
    store.put(f"{damaged.prefix}/shard-3", bytes(data))
    with pytest.raises(CheckpointError, match="shard-3"):
        verify(store, damaged)
    assert newest_frames(store) == 10


def test_the_manifest_whose_answer_was_lost_is_ours_and_another_s_is_not(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy
) -> None:
    through = open_store(uris[0])
    through.put_new("warm/up", b"x")
    proxy.fault.lost_answers = 1
    through.put_new("a/manifest", b"ours")
    assert proxy.fault.lost_answers == 0
    with pytest.raises(ObjectExistsError):
        through.put_new("a/manifest", b"theirs")
    assert get(through, "a/manifest") == b"ours"


def test_two_leaders_with_one_prefix_commit_once(uris: tuple[str, str]) -> None:
    stores = [open_store(uris[1]) for _ in range(2)]
    for round_ in range(5):
        prefix = checkpoint_prefix("teacher", 100 + round_, 1)
        outcomes: list[str] = []

        def write(store: ObjectStore, updates: int, prefix: str = prefix, outcomes: list[str] = outcomes) -> None:
            try:
                written = write_checkpoint(
                    store, prefix, OBJECTS, manifest(100).model_copy(update={"updates": updates})
                )
            except CheckpointError:
                return
            outcomes.append(written.digest)

        writers = [threading.Thread(target=write, args=(store, number)) for number, store in enumerate(stores)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        found = newest_whole(stores[0], "teacher")
        if outcomes:
            assert found is not None and [found.digest] == outcomes


def test_a_store_without_conditional_puts_is_found_out_and_served_all_the_same(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy
) -> None:
    proxy.fault.strip = b"if-none-match"
    store = open_store(uris[0])
    commit(store, 10)
    assert isinstance(store, s3.S3Store) and store._conditions.supported is False
    with pytest.raises(ObjectExistsError):
        store.put_new("checkpoints/teacher/000000000000010-1/manifest.json", b"another")
    straight = open_store(uris[1])
    straight.put_new("x", b"x")
    assert isinstance(straight, s3.S3Store) and straight._conditions.supported is True


def test_credentials_that_were_revoked_are_a_clear_error(
    uris: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADA_STORE_SECRET_KEY", "not any more")
    with pytest.raises(StoreError, match="SignatureDoesNotMatch"):
        commit(open_store(uris[1]), 10)


WRITER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_store_faults import commit, open_store
for line in sys.stdin:
    if (pid := os.fork()) == 0:
        store = open_store(sys.argv[2])
        for frames in range(int(line), 1 << 30):
            print("begun", frames, os.getpid(), flush=True)
            commit(store, frames)
            print("done", frames, os.getpid(), flush=True)
    os.waitpid(pid, 0)
    print("killed", 0, 0, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_checkpoints_and_nothing_half(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy
) -> None:
    proxy.fault.bytes_per_second = 8e6
    straight = open_store(uris[1])
    rng = random.Random(4)
    newest = 0
    under_way: set[int] = set()  # at some kill: what the store had all of by then may still become whole
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), uris[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        for kill in range(1000 if LONG else 8):
            writer.stdin.write(f"{1000 * (kill + 1)}\n")
            writer.stdin.flush()
            said = [writer.stdout.readline().split()]
            time.sleep(rng.uniform(0, 0.8))
            os.kill(int(said[0][2]), signal.SIGKILL)
            while said[-1][0] != "killed":
                said.append(writer.stdout.readline().split())
            under_way.add(max(int(frames) for word, frames, _ in said if word == "begun"))
            done = max([newest, *(int(frames) for word, frames, _ in said if word == "done")])
            newest = newest_frames(straight)
            assert newest in {done, *under_way}, f"{done} was done, {under_way} were under way, {newest} is there"
            assert newest >= done, f"{done} was said to be done, {newest} is the newest that is there"
        writer.stdin.close()
    assert newest > 0
