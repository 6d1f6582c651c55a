"""The object store: a flat space of keys, each an object that is there as a whole or not at all.

`DirectoryStore` serves one machine, `S3Store` (s3.py) every S3-compatible service. What objects mean is not known here.
"""

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

CHUNK_BYTES = 1 << 20
PAGE_OBJECTS = 1000  # S3's own bound of one listing
MAX_KEY_BYTES = 900  # S3 allows 1024; the rest is left to the prefix
MAX_PART_BYTES = 200  # a file system allows 255
SCRATCH = ".put"  # folder of objects that are being written
SCRATCH_KEPT_S = 86_400.0  # longer than any put takes; older ones are of processes that died

Data = bytes | bytearray | memoryview  # flat, of bytes

_PART = re.compile(r"[A-Za-z0-9_=+@,-][A-Za-z0-9._=+@,-]*")


class StoreError(Exception):
    """The store failed, or was asked for something it does not do."""


class ObjectMissingError(StoreError):
    """There is no object of this key."""


class ObjectTooLargeError(StoreError):
    """An object is larger than its reader has room for."""


class ObjectExistsError(StoreError):
    """There is an object of this key already, and it must not be replaced."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing tells of an object."""

    key: str
    size: int  # bytes
    modified: float  # seconds since 1970, by the store's clock


class ObjectStore(Protocol):
    """What checkpoints need of a store. Keys are parts joined by '/'; every failure is a StoreError."""

    @property
    def uri(self) -> str:
        """Address from which `open_store` opens the same store; without credentials."""

    def put(self, key: str, data: Data | Path, sha256: str | None = None) -> None:
        """Write an object from memory or from a file, replacing what is there; readers see the old or the new one.

        Args:
            sha256: hexadecimal digest of `data`, if the caller knows it; a store that checks one is given this.
        """

    def put_new(self, key: str, data: bytes) -> None:
        """Write an object that must not be there yet; raises ObjectExistsError if another is, and changes nothing.

        Of several writers at once one succeeds, if the store has conditional puts. Who writes the same bytes again, as
        after a lost answer, succeeds.
        """

    def chunks(self, key: str, into: memoryview | None = None) -> Iterator[Data]:
        """Read an object piece by piece; raises ObjectMissingError at the first piece.

        Args:
            into: where the object is to lie, from the beginning on; each piece is then a part of it. Raises
                ObjectTooLargeError if it has not the room.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, None if there is none."""

    def list(self, prefix: str, after: str = "", limit: int = PAGE_OBJECTS) -> list[ObjectInfo]:
        """Return the first `limit` objects whose keys start with `prefix` and follow `after`, in order of key bytes."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, in this order; those that are not there are no error."""

    def child(self, prefix: str) -> "ObjectStore":
        """Return the store of the keys under `prefix/`."""


def get(store: ObjectStore, key: str, limit: int = 1 << 30) -> bytes:
    """Return a whole object; raises ObjectMissingError, or StoreError if it is larger than `limit` bytes."""
    pieces: list[Data] = []
    size = 0
    for piece in store.chunks(key):
        size += len(piece)
        if size > limit:
            raise ObjectTooLargeError(f"object {key} in {store.uri} is larger than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def walk(store: ObjectStore, prefix: str) -> Iterator[ObjectInfo]:
    """Yield every object whose key starts with `prefix`, page by page."""
    after = ""
    while page := store.list(prefix, after):
        yield from page
        after = page[-1].key


def check_key(key: str) -> str:
    """Return `key`; raises StoreError unless it is a safe path in a directory and in S3."""
    parts = key.split("/")
    if len(key) > MAX_KEY_BYTES or any(len(part) > MAX_PART_BYTES or not _PART.fullmatch(part) for part in parts):
        raise StoreError(
            f"object key {key[:100]!r} is not allowed: at most {MAX_KEY_BYTES} letters, digits and ._=+@,- in parts of "
            f"1 to {MAX_PART_BYTES} joined by '/', no part starting with '.'"
        )
    return key


class DirectoryStore:
    """Objects are files under one directory; a put is a scratch file, fsync, rename, fsync of the folder."""

    def __init__(self, directory: Path, scratch: Path | None = None) -> None:
        """Open a directory, which need not exist.

        Args:
            scratch: folder on the same file system for objects that are being written; one inside by default.
        """
        self.directory = directory.absolute()
        self._scratch = scratch or self.directory / SCRATCH
        self._swept = False

    @property
    def uri(self) -> str:
        """Return `file:///directory`."""
        return "file://" + quote(str(self.directory), safe="/=+@,")

    def put(self, key: str, data: Data | Path, sha256: str | None = None) -> None:
        """Write an object; durable when this returns."""
        self._write(key, data, os.replace)

    def put_new(self, key: str, data: bytes) -> None:
        """Write an object that must not be there yet; durable when this returns."""
        try:
            self._write(key, data, _place_new)
        except FileExistsError as error:
            if get(self, key, len(data)) != data:
                raise ObjectExistsError(f"object {key} in {self.uri} is there already") from error

    def _write(self, key: str, data: Data | Path, place: Callable[[str, Path], None]) -> None:
        """Write a scratch file and put it into its place."""
        path = self._path(key)
        try:
            self._sweep_scratch()
            _make_folders(path.parent)
            handle, temporary = tempfile.mkstemp(dir=self._scratch)
            try:
                with os.fdopen(handle, "wb") as file:
                    for piece in file_chunks(data) if isinstance(data, Path) else [data]:
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                place(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)
        except FileExistsError:
            raise
        except OSError as error:
            raise StoreError(f"could not write {key} under {self.directory}: {error}") from error

    def chunks(self, key: str, into: memoryview | None = None) -> Iterator[Data]:
        """Read a file piece by piece."""
        path = self._path(key)
        try:
            yield from file_chunks(path) if into is None else _read_into(path, into)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissingError(f"no object {key} in {self.uri}") from error
        except OSError as error:
            raise StoreError(f"could not read {key} under {self.directory}: {error}") from error

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and time of a file."""
        path = self._path(key)
        try:
            if not path.is_file():
                return None
            status = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"could not look at {key} under {self.directory}: {error}") from error
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def list(self, prefix: str, after: str = "", limit: int = PAGE_OBJECTS) -> list[ObjectInfo]:
        """Walk the folder that the prefix leads to."""
        start = self.directory / prefix.rpartition("/")[0]
        if prefix:
            check_key(prefix.rstrip("/"))
        keys = sorted(key for key in self._keys(start) if key.startswith(prefix) and key > after)
        found = (self.head(key) for key in keys[:limit])
        return [info for info in found if info is not None]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files, and the folders that become empty."""
        for key in keys:
            path = self._path(key)
            try:
                path.unlink(missing_ok=True)
                self._remove_empty_folders(path.parent)
            except OSError as error:
                raise StoreError(f"could not delete {key} under {self.directory}: {error}") from error

    def child(self, prefix: str) -> "DirectoryStore":
        """Return the store of a folder."""
        return DirectoryStore(self._path(prefix), self._scratch)

    def _path(self, key: str) -> Path:
        path = self.directory / check_key(key)
        if not path.resolve().is_relative_to(self.directory.resolve()):
            raise StoreError(f"object key {key!r} leads out of {self.directory} by a symbolic link")
        return path

    def _sweep_scratch(self) -> None:
        """Make the scratch folder; the first time, remove what a killed process left there."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        if self._swept:
            return
        self._swept = True
        for left in self._scratch.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may sweep too
                if left.stat().st_mtime < time.time() - SCRATCH_KEPT_S:
                    left.unlink()

    def _keys(self, folder: Path) -> Iterator[str]:
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = Path(parent).relative_to(self.directory)
            yield from ((relative / name).as_posix() for name in names if not name.startswith("."))

    def _remove_empty_folders(self, folder: Path) -> None:
        while folder != self.directory and folder.is_relative_to(self.directory):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def file_chunks(path: Path) -> Iterator[bytes]:
    """Read a file piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


def _read_into(path: Path, target: memoryview) -> Iterator[memoryview]:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > len(target):
            raise ObjectTooLargeError(f"{path} has {size} bytes, and there is room for {len(target)}")
        begin = 0
        while count := file.readinto(target[begin : min(begin + CHUNK_BYTES, size)]):
            yield target[begin : begin + count]
            begin += count


def _place_new(temporary: str, path: Path) -> None:
    """Give a scratch file its name unless a file has it. Raises FileExistsError."""
    os.link(temporary, path)
    Path(temporary).unlink()


def _make_folders(folder: Path) -> None:
    # A new folder's entry must be on disk too, or a power cut loses the object with it.
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_store(uri: str) -> ObjectStore:
    """Open `file:///directory` or `s3://bucket/prefix?endpoint=...&region=...&path_style=...`.

    S3 credentials come from ADA_STORE_ACCESS_KEY and ADA_STORE_SECRET_KEY, a CA bundle from the path in ADA_STORE_CA.
    Raises StoreError if the URI is not understood.
    """
    parts = urlsplit(uri)
    match parts.scheme:
        case "file" if parts.netloc in ("", "localhost") and parts.path.startswith("/") and not parts.query:
            return DirectoryStore(Path(unquote(parts.path)))
        case "s3":
            from ada_curriculum.s3 import open_s3_store  # the SDK is loaded only where it is used

            return open_s3_store(uri)
    raise StoreError(
        f"store URI {uri[:200]!r} is not understood: file:///directory or s3://bucket/prefix?endpoint=https://..."
    )
