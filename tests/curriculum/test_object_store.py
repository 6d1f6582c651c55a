"""What every object store promises, whichever service is behind it."""

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from ada_curriculum.s3 import parse_address
from ada_curriculum.store import (
    DirectoryStore,
    ObjectExistsError,
    ObjectMissingError,
    ObjectStore,
    ObjectTooLargeError,
    StoreError,
    get,
    open_store,
    walk,
)


@pytest.fixture(params=["directory", "minio", "second"])
def store(request: pytest.FixtureRequest, tmp_path: Path, credentials: None) -> ObjectStore:
    if request.param == "directory":
        return open_store(f"file://{tmp_path}/my%20store")
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    prefix = f"{tmp_path.name}-{os.getpid()}-{time.monotonic_ns()}"
    return open_store(f"s3://ada/{prefix}?endpoint={endpoint}&region=us-east-1&path_style=true")


def test_an_object_reads_back_as_it_was_written(store: ObjectStore) -> None:
    store.put("a/b.bin", b"\x00\xffdata")
    assert get(store, "a/b.bin") == b"\x00\xffdata"


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    info = store.head("empty")
    assert get(store, "empty") == b"" and info is not None and info.size == 0


def test_a_large_file_is_put_and_read_in_pieces(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) * 20)
    store.put("large", source)
    pieces = list(store.chunks("large"))
    assert len(pieces) > 1
    assert b"".join(pieces) == source.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 20) + 7])
def test_an_object_is_read_into_the_memory_it_is_to_lie_in(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    store.put("key", memoryview(bytearray(data)), hashlib.sha256(data).hexdigest())
    room = bytearray(size + 3)
    pieces = [bytes(piece) for piece in store.chunks("key", memoryview(room))]
    assert b"".join(pieces) == data == room[:size]
    if size:
        with pytest.raises(ObjectTooLargeError):
            list(store.chunks("key", memoryview(bytearray(size - 1))))


def test_a_second_put_replaces_the_object(store: ObjectStore) -> None:
    store.put("key", b"first, longer")
    store.put("key", b"second")
    assert get(store, "key") == b"second"


def test_a_new_object_is_put_once_and_the_same_bytes_again_are_no_error(store: ObjectStore) -> None:
    store.put_new("a/new", b"first")
    store.put_new("a/new", b"first")
    with pytest.raises(ObjectExistsError, match="a/new"):
        store.put_new("a/new", b"second")
    assert get(store, "a/new") == b"first"


def test_of_many_writers_of_one_new_object_one_succeeds(store: ObjectStore) -> None:
    outcomes: list[int] = []
    gate = threading.Barrier(8)

    def write(number: int) -> None:
        gate.wait()
        try:
            store.put_new("contested", b"writer %d" % number)
        except ObjectExistsError:
            return
        outcomes.append(number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(outcomes) == 1
    assert get(store, "contested") == b"writer %d" % outcomes[0]


def test_reading_what_is_not_there_names_the_key(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissingError, match="no/such"):
        get(store, "no/such")
    assert store.head("no/such") is None


def test_a_folder_is_not_an_object(store: ObjectStore) -> None:
    store.put("folder/object", b"x")
    assert store.head("folder") is None
    with pytest.raises(ObjectMissingError):
        get(store, "folder")


def test_head_tells_size_and_time(store: ObjectStore) -> None:
    store.put("key", b"12345")
    info = store.head("key")
    assert info is not None and info.key == "key" and info.size == 5 and abs(info.modified - time.time()) < 120


def test_a_listing_is_in_order_of_key_bytes_and_pages(store: ObjectStore) -> None:
    keys = ["a-b", "a/b", "a/c/d", "a0", "b", "A"]
    for key in keys:
        store.put(key, b"x")
    assert [info.key for info in store.list("")] == sorted(keys)
    assert [info.key for info in store.list("", after="a-b", limit=2)] == ["a/b", "a/c/d"]
    assert [info.key for info in store.list("a/")] == ["a/b", "a/c/d"]
    assert [info.key for info in store.list("a")] == ["a-b", "a/b", "a/c/d", "a0"]
    assert store.list("nothing/") == []


def test_walking_visits_every_page(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        store.put(f"many/{number}", b"x")
    whole = type(store).list
    monkeypatch.setattr(type(store), "list", lambda self, prefix, after="", limit=2: whole(self, prefix, after, limit))
    assert [info.key for info in walk(store, "many/")] == [f"many/{number}" for number in range(7)]


def test_deleting_removes_and_forgives_what_is_gone(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    store.put("a/c", b"x")
    store.delete(["a/b", "a/missing"])
    assert [info.key for info in store.list("")] == ["a/c"]


def test_a_child_store_sees_its_keys_only_and_reopens_from_its_uri(store: ObjectStore) -> None:
    store.put("inside/key", b"x")
    store.put("outside", b"x")
    child = store.child("inside")
    assert [info.key for info in child.list("")] == ["key"]
    assert get(open_store(child.uri), "key") == b"x"


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "a\n", "é", "x" * 300])
def test_an_unsafe_key_is_refused(store: ObjectStore, key: str) -> None:
    for attempt in (lambda: store.put(key, b""), lambda: store.head(key), lambda: get(store, key)):
        with pytest.raises(StoreError, match="not allowed"):
            attempt()


def test_an_object_over_the_limit_is_not_read(store: ObjectStore) -> None:
    store.put("key", b"12345")
    with pytest.raises(StoreError, match="larger than 4 bytes"):
        get(store, "key", limit=4)


def test_readers_never_see_half_an_object_while_it_is_replaced(store: ObjectStore) -> None:
    versions = [bytes([value]) * 300_000 for value in range(4)]
    store.put("key", versions[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for version in versions:
                store.put("key", version)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(get(store, "key") in versions for _ in range(30))
    finally:
        stop.set()
        writer.join()


def test_a_failed_put_leaves_the_old_object_and_no_temporary_file(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.put("key", b"old")
    with pytest.raises(StoreError):
        store.put("key", tmp_path / "no-such-source")
    assert get(store, "key") == b"old"
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["key"]


def test_what_a_killed_writer_left_is_swept_after_a_day_and_never_listed(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("folder/key", b"x")
    for name, age_s in (("old", 90_000), ("new", 3600)):
        (tmp_path / ".put" / name).write_bytes(b"half")
        os.utime(tmp_path / ".put" / name, (time.time() - age_s,) * 2)
    DirectoryStore(tmp_path).child("folder").put("other", b"x")
    DirectoryStore(tmp_path).put("folder/other", b"x")
    assert [info.key for info in store.list("")] == ["folder/key", "folder/other"]
    assert [path.name for path in (tmp_path / ".put").iterdir()] == ["new"]


def test_a_symbolic_link_does_not_lead_out_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(StoreError, match="leads out"):
        get(DirectoryStore(tmp_path / "store"), "link/secret")


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("relative/path", id="no-scheme"),
        pytest.param("file://host/path", id="a-file-on-another-host"),
        pytest.param("ftp://host/path", id="unknown-scheme"),
        pytest.param("s3:///prefix", id="no-bucket"),
        pytest.param("s3://b/p?endpoint=ftp://x", id="endpoint-not-http"),
        pytest.param("s3://b/p?endpoint=https://u:p@x", id="credentials-in-the-endpoint"),
        pytest.param("s3://b/p?secret=1", id="unknown-parameter"),
        pytest.param("s3://b/p?path_style=maybe", id="path-style-not-boolean"),
    ],
)
def test_a_store_uri_that_makes_no_sense_is_refused(uri: str) -> None:
    with pytest.raises(StoreError):
        open_store(uri)


def test_an_s3_uri_is_read_and_written_the_same() -> None:
    uri = "s3://bucket/some/prefix?endpoint=https://minio.example:9000&region=eu-1&path_style=false"
    address = parse_address(uri)
    assert (address.bucket, address.prefix, address.region, address.path_style) == (
        "bucket",
        "some/prefix",
        "eu-1",
        False,
    )
    assert address.uri == uri


def test_s3_without_credentials_says_which_variables_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADA_STORE_ACCESS_KEY", raising=False)
    with pytest.raises(StoreError, match="ADA_STORE_ACCESS_KEY"):
        open_store("s3://bucket/prefix?endpoint=http://127.0.0.1:1")


@pytest.mark.parametrize("server", ["minio", "second"])
def test_other_bytes_than_were_digested_are_refused_by_the_service(
    request: pytest.FixtureRequest, server: str, credentials: None
) -> None:
    store = open_store(f"s3://ada/digests?endpoint={request.getfixturevalue(f'{server}_endpoint')}")
    with pytest.raises(StoreError, match="refused"):
        store.put("key", b"what arrives", hashlib.sha256(b"what was meant").hexdigest())
    assert store.head("key") is None


def test_wrong_credentials_are_refused_without_being_repeated(
    minio_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADA_STORE_ACCESS_KEY", "test-access-key")
    monkeypatch.setenv("ADA_STORE_SECRET_KEY", "not-the-secret")
    with pytest.raises(StoreError, match="SignatureDoesNotMatch") as caught:
        open_store(f"s3://ada/x?endpoint={minio_endpoint}").put("key", b"x")
    assert "not-the-secret" not in str(caught.value)
