"""A run's directory: experiment, status, lock. Files are replaced whole: a kill leaves the old or the new one."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from ada_api.experiment import AdaExperiment

EXPERIMENT, STATUS, LOCK = "experiment.json", "status.json", "lock"
# What may differ when a run goes on: it does not change what was learned so far.
CHANGEABLE = (
    "spec.nodes",
    "spec.suspend",
    "spec.scheduling",
    "spec.failurePolicy",
    "spec.evaluation.gates",
    "spec.checkpoint.intervalSeconds",
    "spec.checkpoint.intervalFrames",
    "spec.checkpoint.retention",
    "spec.ttlSecondsAfterFinished",
    "spec.activeDeadlineSeconds",
)
CHANGEABLE_OF_STAGES = (".trainer", ".simulators")


class DirectoryError(RuntimeError):
    """The directory can't be used for this run; the message says why and what to do."""


class RunDirectory:
    """The directory of a run, held by a lock until closed."""

    def __init__(self, path: Path, experiment: AdaExperiment, *, fresh: bool = False) -> None:
        """Take the directory for an experiment; `fresh` throws away what a former run left in it.

        Raises:
            DirectoryError: if another run holds it, or it belongs to another experiment.
        """
        self.path = path.absolute()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._taken()
        try:
            if fresh:
                self._clear()
            self._check(document(experiment))
        except BaseException:
            self._lock.close()
            raise
        self._write(EXPERIMENT, document(experiment))

    def close(self) -> None:
        """Let the directory go."""
        self._lock.close()

    @property
    def experiment_file(self) -> Path:
        """Return the file with the experiment, defaults filled in."""
        return self.path / EXPERIMENT

    def status(self) -> dict[str, Any] | None:
        """Return the status a former run left, if there was one."""
        return self._read(STATUS)

    def write_status(self, status: dict[str, Any]) -> None:
        """Replace the status."""
        self._write(STATUS, status)

    def _taken(self) -> IO[str]:
        lock = (self.path / LOCK).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise DirectoryError(
                f"{self.path} is in use by another `ada run` (process {holder}): wait for it, "
                "stop it with Ctrl-C, or give --directory another name"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return lock

    def _clear(self) -> None:
        if not (self.path / EXPERIMENT).exists() and any(one.name != LOCK for one in self.path.iterdir()):
            raise DirectoryError(f"{self.path} holds files, but no run: --fresh removes only what `ada run` made")
        for entry in self.path.iterdir():
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _check(self, wanted: dict[str, Any]) -> None:
        known = self._read(EXPERIMENT)
        difference = None if known is None else first_difference(with_defaults(known), wanted)
        if difference is not None:
            raise DirectoryError(
                f"{self.path} holds a run of another experiment: {difference}. Give --directory another name, "
                "undo the change, or start anew with --fresh (which deletes that run)"
            )

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DirectoryError(f"{self.path / name} is not JSON ({error}): restore it, or use --fresh") from None
        return found

    def _write(self, name: str, content: dict[str, Any]) -> None:
        temporary = self.path / f".{name}.new"
        with temporary.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)


def document(experiment: AdaExperiment) -> dict[str, Any]:
    """Return the experiment as it is kept: defaults filled in, no status."""
    spec = experiment.spec.model_dump(mode="json", by_alias=True)
    metadata = {"name": experiment.metadata.name, "namespace": experiment.metadata.namespace}
    return {"apiVersion": experiment.api_version, "kind": experiment.kind, "metadata": metadata, "spec": spec}


def with_defaults(kept: dict[str, Any]) -> dict[str, Any]:
    """Return a kept experiment with the fields that this version knows besides; one it can't read stays as it is."""
    try:
        return document(AdaExperiment.model_validate(kept))
    except ValidationError:
        return kept


def first_difference(known: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Return the first field in which two experiments differ and must not; stages may be appended."""
    stages = len(known.get("spec", {}).get("stages", []))
    for path, old, new in differences(known, wanted, ""):
        appended = any(path.startswith(f"spec.stages[{position}]") for position in range(stages, stages + 32))
        of_stage = path.startswith("spec.stages[") and path.partition("]")[2].startswith(CHANGEABLE_OF_STAGES)
        if not (appended and old is MISSING) and not of_stage and not path.startswith(CHANGEABLE):
            return f"{path} is {_words(old)} there and {_words(new)} here"
    return None


MISSING = object()


def differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, old and new value of every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key, MISSING), new.get(key, MISSING), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list):
        for position in range(max(len(old), len(new))):
            known, wanted = (values[position] if position < len(values) else MISSING for values in (old, new))
            yield from differences(known, wanted, f"{path}[{position}]")
    elif old != new:
        yield path, old, new


def _words(value: Any) -> str:
    text = "absent" if value is MISSING else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
