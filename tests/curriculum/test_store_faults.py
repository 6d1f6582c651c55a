"""A real MinIO behind a proxy that breaks things: a checkpoint is committed or absent, and the next one works."""

import contextlib
import hashlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from minio import time as sdk_time

from ada_curriculum import s3
from ada_curriculum.manifest import (
    CheckpointError,
    Manifest,
    StoredCheckpoint,
    checkpoint_prefix,
    list_checkpoints,
    newest_whole,
    read_object,
    verify,
    write_checkpoint,
)
from ada_curriculum.retention import delete_checkpoint
from ada_curriculum.store import ObjectExistsError, ObjectStore, StoreError, get, open_store

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.curriculum.conftest import running_minio, small_disk

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
    assert isinstance(store, s3.S3Store) and store._service.conditions.supported is False
    with pytest.raises(ObjectExistsError):
        store.put_new("checkpoints/teacher/000000000000010-1/manifest.json", b"another")
    straight = open_store(uris[1])
    straight.put_new("x", b"x")
    assert isinstance(straight, s3.S3Store) and straight._service.conditions.supported is True


@pytest.mark.parametrize("cuts", [1, 2])
def test_a_download_that_breaks_off_goes_on_where_it_was(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy, cuts: int
) -> None:
    through = open_store(uris[0])
    large = os.urandom(3 << 20)
    through.put("large", large)
    proxy.drop()
    proxy.fault.download_limit, proxy.fault.download_cuts = 1 << 20, cuts
    room = memoryview(bytearray(len(large)))
    digest = hashlib.sha256()
    for piece in through.chunks("large", room):
        digest.update(piece)
    assert room == large and digest.digest() == hashlib.sha256(large).digest()
    assert proxy.fault.download_cuts == 0
    proxy.drop()
    proxy.fault.download_cuts = 1 << 30
    with pytest.raises(StoreError, match="large"):
        list(through.chunks("large"))


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_clock_that_is_wrong_is_a_clear_error(
    uris: tuple[str, str], monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    store = open_store(uris[1])
    commit(store, 10)
    right = sdk_time.utcnow
    monkeypatch.setattr(sdk_time, "utcnow", lambda: right() + timedelta(minutes=minutes))
    with pytest.raises(StoreError, match=r"RequestTimeTooSkewed.*clock is [+-](1199|1200|1201) s off the store's"):
        store.put("key", b"x")
    with pytest.raises(StoreError, match="RequestTimeTooSkewed"):
        commit(store, 20)
    monkeypatch.setattr(sdk_time, "utcnow", right)
    assert newest_frames(store) == 10
    commit(store, 30)
    assert newest_frames(store) == 30


@pytest.mark.parametrize("kind", ["minio", "directory"])
def test_a_full_disk_fails_the_commit_and_room_mends_it(tmp_path: Path, credentials: None, kind: str) -> None:
    with small_disk(tmp_path / "disk", 96) as disk, ExitStack() as servers:
        where = disk / "store"
        uri = where.as_uri()
        if kind == "minio":
            uri = f"s3://ada/full?endpoint={servers.enter_context(running_minio(where))}"
        store = open_store(uri)
        commit(store, 10)
        filler = disk / "filler"
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        with pytest.raises(StoreError):
            commit(store, 20)
        assert newest_frames(store) == 10
        filler.unlink()
        works_within(60.0, lambda: commit(store, 30))
        assert newest_frames(store) == 30
        assert not [left for left in where.rglob("*") if left.parent.name == ".put"], (
            "nothing half is left in a directory"
        )


def works_within(limit_s: float, attempt: Callable[[], object]) -> None:
    """Try until it works; MinIO looks at the room on its disk from time to time only."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            attempt()
            return
        except (StoreError, CheckpointError):
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_credentials_that_were_revoked_are_a_clear_error(
    uris: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADA_STORE_SECRET_KEY", "not any more")
    with pytest.raises(StoreError, match=r"SignatureDoesNotMatch.*not or no longer good"):
        commit(open_store(uris[1]), 10)


def test_credentials_that_are_revoked_in_mid_commit_leave_the_earlier_one(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy
) -> None:
    through, straight = (open_store(uri) for uri in uris)
    commit(through, 10)

    def revoke(number: int) -> None:
        proxy.fault.strip = b"authorization" if number >= begun + 3 else b""

    begun = proxy.requests
    proxy.fault.before_request = revoke
    with pytest.raises(StoreError, match="AccessDenied"):
        commit(through, 20)
    proxy.fault = faulty_proxy.Fault()
    assert newest_frames(straight) == 10
    commit(through, 30)
    assert newest_frames(straight) == 30


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


@pytest.mark.parametrize("point", range(12))
def test_a_writer_killed_before_any_request_of_a_commit_leaves_it_whole_or_absent(
    uris: tuple[str, str], proxy: faulty_proxy.FaultyProxy, point: int
) -> None:
    straight = open_store(uris[1])
    commit(straight, 10)
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), uris[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        killed = threading.Event()

        def kill(number: int) -> None:
            if number > point and not killed.is_set():
                killed.set()
                os.kill(child, signal.SIGKILL)

        writer.stdin.write("20\n")
        writer.stdin.flush()
        said = writer.stdout.readline().split()
        child = int(said[2])
        proxy.fault.before_request = kill
        words = {tuple(line.split()[:2]) for line in iter(writer.stdout.readline, "killed 0 0\n")}
        writer.stdin.close()
    done = [10, *(int(frames) for word, frames in words if word == "done")]
    begun = [20, *(int(frames) for word, frames in words if word == "begun")]
    assert killed.is_set()
    assert max(done) <= newest_frames(straight) <= max(begun)


@pytest.mark.timeout(7200 if LONG else 300)
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
        commit_s = 0.0  # as long as the first one takes here
        for kill in range(1001 if LONG else 9):
            writer.stdin.write(f"{1000 * (kill + 1)}\n")
            writer.stdin.flush()
            said = [writer.stdout.readline().split()]
            if kill == 0:
                begun = time.monotonic()
                said.append(writer.stdout.readline().split())
                commit_s = time.monotonic() - begun
            time.sleep(rng.uniform(0, 1.5 * commit_s))
            os.kill(int(said[0][2]), signal.SIGKILL)
            while said[-1][0] != "killed":
                said.append(writer.stdout.readline().split())
            under_way.add(max(int(frames) for word, frames, _ in said if word == "begun"))
            done = max([newest, *(int(frames) for word, frames, _ in said if word == "done")])
            newest = newest_frames(straight)
            assert newest in {done, *under_way}, f"{done} was done, {under_way} were under way, {newest} is there"
            assert newest >= done, f"{done} was said to be done, {newest} is the newest that is there"
            for older in list_checkpoints(straight, "teacher")[:-1]:
                delete_checkpoint(straight, older)
        writer.stdin.close()
    print(f"{kill + 1} kills; the newest of {len(under_way)} commits under way that became whole: {newest}")
