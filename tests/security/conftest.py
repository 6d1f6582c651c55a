"""A real run against a real object store, watched from outside for what it lets slip."""

import contextlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from minio import Minio

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # tests/ is not a package: what tests share is imported from the repository's root
    sys.path.insert(0, str(ROOT))

from tests.cluster.build import missing_programs, program_path  # noqa: E402
from tests.cluster.processes import hold_port, start, stop, wait_until  # noqa: E402
from tests.local.conftest import AdaRun  # noqa: E402

SPEC = {
    "seed": 1,
    "environment": {
        "observation": "symbolic",
        "trials": {"min": 1, "max": 2},
        "trialSeconds": [2],
        "actionGroups": ["move", "turn"],
        "world": {"size": {"min": 8, "max": 8}, "levels": {"min": 1, "max": 1}},
        "game": {"rules": {"min": 0, "max": 0}, "distractors": {"min": 0, "max": 0}, "deadEnds": {"min": 0, "max": 0}},
        "taskPool": {"worlds": 50, "games": 50},
    },
    "curriculum": {"method": "uniform"},
    "evaluation": {"tasks": 2, "trials": [1]},
    "stages": [
        {
            "name": "teacher",
            "model": {"core": "gru"},
            "algorithm": {"unroll": 16, "worlds": 16, "minibatches": 2, "epochs": 1},
            "frames": 8192,
        }
    ],
}


@dataclass
class Run(AdaRun):
    """An `ada run`, and what was seen of its processes."""

    path: Path
    endpoint: str
    access_key: str
    secret_key: str
    commands: set[bytes] = field(default_factory=set)  # every command line of a process
    tokens: set[str] = field(default_factory=set)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        store = {"endpoint": self.endpoint, "bucket": "ada", "secretName": "store"}
        keys = {"ADA_STORE_ACCESS_KEY": self.access_key, "ADA_STORE_SECRET_KEY": self.secret_key}
        super().__init__(self.path, {**SPEC, "checkpoint": {"store": store, "intervalSeconds": 1}}, keys)

    def pids(self) -> list[int]:
        """Return all processes below `ada run`, itself among them."""
        assert self.process is not None
        parents: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                number, _, rest = entry.read_text().partition(" ")
                parents[int(number)] = int(rest.rpartition(")")[2].split()[1])
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def look(self) -> None:
        """Note command lines, and the token that the programs were given."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                self.commands.add((Path("/proc") / str(pid) / "cmdline").read_bytes())
                variables = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
                self.tokens |= {one[10:].decode() for one in variables if one.startswith(b"ADA_TOKEN=")}

    def objects(self) -> dict[str, bytes]:
        """Return everything in the store."""
        client = Minio(self.endpoint.partition("://")[2], self.access_key, self.secret_key, secure=False)
        return {
            one.object_name: client.get_object("ada", one.object_name).read()
            for one in client.list_objects("ada", recursive=True)
        }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with a MinIO of its own, started; it goes on while tests look at it."""
    if missing_programs("minio"):
        pytest.skip("minio not built: run `python tests/cluster/build.py`")
    folder = tmp_path_factory.mktemp("secret")
    held, port = hold_port()
    held.close()
    access_key, secret_key = f"access-{secrets.token_hex(8)}", f"secret-{secrets.token_hex(16)}"
    keys = {"MINIO_ROOT_USER": access_key, "MINIO_ROOT_PASSWORD": secret_key}
    command = [program_path("minio"), "server", str(folder / "objects"), "--address", f"127.0.0.1:{port}"]
    minio = start(command, folder / "minio.log", {**os.environ, **keys})
    over = threading.Event()
    work = folder / "work"
    work.mkdir()
    run = Run(work, f"http://127.0.0.1:{port}", access_key, secret_key)
    client = Minio(f"127.0.0.1:{port}", access_key, secret_key, secure=False)

    def bucket_is_there() -> bool:
        with contextlib.suppress(Exception):
            client.make_bucket("ada")
        with contextlib.suppress(Exception):
            return client.bucket_exists("ada")
        return False

    def keep_looking() -> None:
        while not over.wait(0.1):
            run.look()

    watcher = threading.Thread(target=keep_looking)
    try:
        wait_until("bucket", bucket_is_there, 60)
        run.process = run.start("--metrics")
        watcher.start()
        yield run
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()
        if run.process is not None:
            left = run.pids()
            run.process.kill()
            run.process.wait()
            wait_until("end of all processes", lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), 30)
        stop(minio)
