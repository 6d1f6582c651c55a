"""Checkpoints: the objects that a manifest lists. Without a whole manifest a checkpoint does not exist.

Writing goes shards first, manifest last, into a prefix nobody used; reading trusts sizes and digests, not names.
A checkpoint's digest is the sha256 of its manifest's bytes, so whoever pins the digest pins every object.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ada_curriculum.store import (
    Data,
    ObjectExistsError,
    ObjectMissingError,
    ObjectStore,
    ObjectTooLargeError,
    StoreError,
    check_key,
    file_chunks,
    get,
    open_store,
    walk,
)

MANIFEST = "manifest.json"  # written last
CURRICULUM = "curriculum.safetensors"
HISTORY = "history.json"
MAX_MANIFEST_BYTES = 4 << 20
TRANSFERS_AT_ONCE = 4

_FOLDER = re.compile(r"(\d{15})-(\d{1,9})")


class CheckpointError(Exception):
    """A checkpoint is not whole, not the one that was pinned, or can't be written where it was asked for."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CheckpointObject(_Part):
    """One object of a checkpoint."""

    name: str = Field(min_length=1, max_length=200)  # below the checkpoint's prefix
    size: int = Field(ge=0)  # bytes
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Lineage(_Part):
    """Another checkpoint that this one came from."""

    uri: str = Field(max_length=1024)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class Manifest(_Part):
    """What a checkpoint is and what it consists of."""

    format: Literal[1] = 1
    experiment: str  # namespace/name
    stage: str
    frames: int = Field(ge=0, lt=10**15)
    updates: int = Field(ge=0)
    attempt: int = Field(ge=0, lt=10**9)  # start of the stage's training group that wrote it
    generation: int = Field(ge=0)  # membership of the training group that wrote it
    time: float  # seconds since 1970
    config_digest: str  # sha256:... of what of the experiment decides the stage's learning
    teacher: Lineage | None = None
    resumed_from: Lineage | None = None
    score: float | None = None  # mean return of the last trials of recent training episodes, if enough were played
    versions: dict[str, str] = {}  # packages that wrote it
    objects: tuple[CheckpointObject, ...] = Field((), max_length=10_000)

    def to_bytes(self) -> bytes:
        """Return the JSON that is stored and digested."""
        return self.model_dump_json(indent=1).encode()


@dataclass(frozen=True)
class StoredCheckpoint:
    """A committed checkpoint as found in a store."""

    prefix: str  # key prefix without a trailing slash
    uri: str
    digest: str  # sha256:... of the manifest's bytes
    manifest: Manifest

    @property
    def age_order(self) -> tuple[int, int, int]:
        """Sort by this, newest last. Generations only grow, so a roll-back's work follows what it rolled back."""
        return (self.manifest.generation, self.manifest.frames, self.manifest.attempt)


def checkpoint_prefix(stage: str, frames: int, attempt: int) -> str:
    """Return the key prefix of a checkpoint below the experiment's prefix."""
    return f"{stage_prefix(stage)}{frames:015d}-{attempt}"


def stage_prefix(stage: str) -> str:
    """Return the key prefix, with its slash, of all checkpoints of a stage."""
    return f"checkpoints/{stage}/"


def experiment_prefix(namespace: str, name: str) -> str:
    """Return the key prefix of an experiment below the root of the store, ADA_STORE."""
    return f"{namespace}/{name}"


def digest_of(data: bytes) -> str:
    """Return `sha256:` and the hexadecimal digest."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def describe(name: str, data: Data | Path) -> CheckpointObject:
    """Measure and digest an object in memory or in a file."""
    digest, size = hashlib.sha256(), 0
    for piece in file_chunks(data) if isinstance(data, Path) else [data]:
        digest.update(piece)
        size += len(piece)
    return CheckpointObject(name=name, size=size, sha256=digest.hexdigest())


def put_object(store: ObjectStore, prefix: str, name: str, data: Data | Path) -> CheckpointObject:
    """Upload one object of a checkpoint that has no manifest yet; the entry returned belongs in the manifest."""
    entry = describe(name, data)
    store.put(f"{prefix}/{name}", data, entry.sha256)
    return entry


def put_manifest(store: ObjectStore, prefix: str, manifest: Manifest) -> StoredCheckpoint:
    """Commit: write the manifest of objects that are already there. Raises CheckpointError if they are not whole."""
    names = [entry.name for entry in manifest.objects]
    if MANIFEST in names or len(set(names)) != len(names):
        raise CheckpointError(f"checkpoint {prefix} lists an object twice, or its own manifest: {sorted(names)[:20]}")
    check_sizes(store, prefix, manifest)
    data = manifest.to_bytes()
    if len(data) > MAX_MANIFEST_BYTES:
        raise CheckpointError(f"manifest of {prefix} has {len(data)} bytes, more than {MAX_MANIFEST_BYTES}")
    try:
        store.put_new(f"{prefix}/{MANIFEST}", data)
    except ObjectExistsError as error:
        raise CheckpointError(
            f"checkpoint {prefix} in {store.uri} is already committed; use another attempt's prefix"
        ) from error
    return StoredCheckpoint(prefix, store.child(prefix).uri, digest_of(data), manifest)


def write_checkpoint(
    store: ObjectStore, prefix: str, objects: Mapping[str, Data | Path], manifest: Manifest
) -> StoredCheckpoint:
    """Put all objects, a few at once, then the manifest with their sizes and digests.

    Raises CheckpointError if the prefix is in use, StoreError if the store fails; what was written by then is
    absent for readers, and `clean_abandoned` removes it.
    """
    if store.list(f"{prefix}/", limit=1):
        raise CheckpointError(f"prefix {prefix} in {store.uri} is in use; a checkpoint needs one of its own")
    with ThreadPoolExecutor(TRANSFERS_AT_ONCE, "checkpoint") as uploads:
        entries = list(uploads.map(lambda item: put_object(store, prefix, *item), sorted(objects.items())))
    return put_manifest(store, prefix, manifest.model_copy(update={"objects": tuple(entries)}))


def read_checkpoint(store: ObjectStore, prefix: str, digest: str | None = None) -> StoredCheckpoint:
    """Read a manifest. Raises CheckpointError if there is none, it makes no sense, or it is not the pinned one."""
    try:
        data = get(store, f"{prefix}/{MANIFEST}", MAX_MANIFEST_BYTES)
    except ObjectMissingError as error:
        raise CheckpointError(f"no checkpoint {prefix} in {store.uri}: it has no {MANIFEST}") from error
    found = digest_of(data)
    if digest is not None and digest != found:
        raise CheckpointError(f"checkpoint {prefix} in {store.uri} has digest {found}, not the pinned {digest}")
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise CheckpointError(f"manifest of {prefix} in {store.uri} makes no sense: {error}") from error
    return StoredCheckpoint(prefix, store.child(prefix).uri, found, manifest)


def read_object(store: ObjectStore, checkpoint: StoredCheckpoint, name: str) -> bytes:
    """Return one object of a checkpoint, verified. Raises CheckpointError if it is not what the manifest says."""
    pieces: list[Data] = []
    _read_verified(store, checkpoint, find_entry(checkpoint, name), None, pieces.append)
    return b"".join(pieces)


def read_objects(store: ObjectStore, checkpoint: StoredCheckpoint, places: Mapping[str, memoryview | None]) -> None:
    """Read objects of a checkpoint, a few at once, each verified while it arrives. Raises CheckpointError as above.

    Args:
        places: where each is to lie, by name, exactly as large as the manifest says; None if it is only to be verified.
    """
    entries = [find_entry(checkpoint, name) for name in places]
    largest_first = sorted(entries, key=lambda entry: -entry.size)
    with ThreadPoolExecutor(TRANSFERS_AT_ONCE, "checkpoint") as downloads:
        reading = [
            downloads.submit(_read_verified, store, checkpoint, entry, places[entry.name]) for entry in largest_first
        ]
        try:
            for one in reading:
                one.result()
        except BaseException:
            downloads.shutdown(wait=False, cancel_futures=True)
            raise


def _read_verified(
    store: ObjectStore,
    checkpoint: StoredCheckpoint,
    entry: CheckpointObject,
    into: memoryview | None = None,
    take: Callable[[Data], object] = lambda piece: None,
) -> None:
    """Read an object, give its pieces to `take`, and raise CheckpointError unless it has its size and digest."""
    digest, size = hashlib.sha256(), 0
    try:
        for piece in store.chunks(f"{checkpoint.prefix}/{entry.name}", into):
            size += len(piece)
            if size > entry.size:
                break
            digest.update(piece)
            take(piece)
    except ObjectMissingError as error:
        raise CheckpointError(f"{entry.name} of checkpoint {checkpoint.prefix} is missing from {store.uri}") from error
    except ObjectTooLargeError as error:
        raise CheckpointError(f"{entry.name} of checkpoint {checkpoint.prefix} is damaged: {error}") from error
    if (size, digest.hexdigest()) != (entry.size, entry.sha256):
        raise CheckpointError(f"{entry.name} of checkpoint {checkpoint.prefix} in {store.uri} is damaged")


def fetch_object(store: ObjectStore, checkpoint: StoredCheckpoint, name: str, path: Path) -> None:
    """Download one object of a checkpoint to a file, verified; on an error the file is removed."""
    try:
        with path.open("wb") as file:
            _read_verified(store, checkpoint, find_entry(checkpoint, name), None, file.write)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def find_entry(checkpoint: StoredCheckpoint, name: str) -> CheckpointObject:
    """Return the manifest's entry of an object."""
    for entry in checkpoint.manifest.objects:
        if entry.name == name:
            return entry
    raise CheckpointError(f"checkpoint {checkpoint.prefix} has no object {name}")


def check_sizes(store: ObjectStore, prefix: str, manifest: Manifest) -> None:
    """Raise CheckpointError unless every listed object is there with its size; reads no contents."""
    sizes = {info.key.removeprefix(f"{prefix}/"): info.size for info in walk(store, f"{prefix}/")}
    for entry in manifest.objects:
        size = sizes.get(entry.name)
        if size != entry.size:
            state = "missing" if size is None else f"{size} bytes long, not {entry.size}"
            raise CheckpointError(f"{entry.name} of checkpoint {prefix} in {store.uri} is {state}")


def verify(store: ObjectStore, checkpoint: StoredCheckpoint) -> None:
    """Raise CheckpointError unless every object has its size and its digest; reads everything."""
    check_sizes(store, checkpoint.prefix, checkpoint.manifest)
    read_objects(store, checkpoint, dict.fromkeys(entry.name for entry in checkpoint.manifest.objects))


def checkpoint_folders(store: ObjectStore, stage: str) -> dict[str, list[str]]:
    """Return the object names below each checkpoint prefix of a stage, committed or not."""
    folders: dict[str, list[str]] = {}
    base = stage_prefix(stage)
    for info in walk(store, base):
        folder, _, name = info.key.removeprefix(base).partition("/")
        if name and _FOLDER.fullmatch(folder):
            folders.setdefault(base + folder, []).append(name)
    return folders


def list_checkpoints(store: ObjectStore, stage: str) -> list[StoredCheckpoint]:
    """Return the committed checkpoints of a stage, oldest first; unreadable manifests do not count."""
    found = []
    for prefix, names in checkpoint_folders(store, stage).items():
        if MANIFEST not in names:
            continue
        try:
            found.append(read_checkpoint(store, prefix))
        except CheckpointError:
            continue  # as good as absent
    return sorted(found, key=lambda checkpoint: checkpoint.age_order)


def newest_whole(store: ObjectStore, stage: str, read_contents: bool = True) -> StoredCheckpoint | None:
    """Return the newest checkpoint of a stage that verifies, falling back to older ones; None if none does.

    With `read_contents` False only sizes are compared: for readers that verify the objects they use themselves.
    """
    for checkpoint in reversed(list_checkpoints(store, stage)):
        try:
            if read_contents:
                verify(store, checkpoint)
            else:
                check_sizes(store, checkpoint.prefix, checkpoint.manifest)
        except (CheckpointError, ObjectMissingError):
            continue
        return checkpoint
    return None


def copy_checkpoint(source: ObjectStore, checkpoint: StoredCheckpoint, target: ObjectStore, folder: Path) -> str:
    """Copy a checkpoint under the same prefix into another store, verified on the way; returns its new URI.

    `folder` holds one object at a time meanwhile. The manifest's bytes, and so the digest, stay the same.
    """
    if target.list(f"{checkpoint.prefix}/", limit=1):
        raise CheckpointError(f"prefix {checkpoint.prefix} in {target.uri} is in use")
    passing = folder / "object"
    for entry in checkpoint.manifest.objects:
        fetch_object(source, checkpoint, entry.name, passing)
        target.put(f"{checkpoint.prefix}/{entry.name}", passing, entry.sha256)
        passing.unlink()
    data = get(source, f"{checkpoint.prefix}/{MANIFEST}", MAX_MANIFEST_BYTES)
    if digest_of(data) != checkpoint.digest:
        raise CheckpointError(f"manifest of {checkpoint.prefix} in {source.uri} changed while it was copied")
    target.put_new(f"{checkpoint.prefix}/{MANIFEST}", data)
    return target.child(checkpoint.prefix).uri


def prefix_within(root: ObjectStore, uri: str) -> str:
    """Return the prefix of a checkpoint URI below `root`. Raises CheckpointError if it is somewhere else."""
    base, _, query = root.uri.partition("?")
    path, _, other_query = uri.partition("?")
    base = base.rstrip("/") + "/"
    if query == other_query and path.startswith(base):
        try:
            return check_key(path.removeprefix(base))
        except StoreError as error:
            raise CheckpointError(f"checkpoint {uri[:200]!r} has no place in a store: {error}") from error
    raise CheckpointError(f"checkpoint {uri[:200]!r} is not in the store {root.uri}")


def open_checkpoint(uri: str, digest: str | None = None) -> tuple[ObjectStore, StoredCheckpoint]:
    """Open the store around a checkpoint URI, wherever it is, and read its manifest, pinned by `digest` if given."""
    path, mark, query = uri.partition("?")
    parent, _, folder = path.rstrip("/").rpartition("/")
    store = open_store(parent + mark + query)
    return store, read_checkpoint(store, check_key(folder), digest)
