"""Programs of ours, started for a benchmark and gone afterwards, also if the benchmark is killed."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minio import Minio
from tests.cluster.build import program_path
from tests.cluster.processes import start

TOKEN = "token"
PATIENCE_S = 60.0


@contextmanager
def running_service(folder: Path, experiment: Mapping[str, Any]) -> Iterator[str]:
    """Start a curriculum service on an experiment; yields its address."""
    with _running(folder, experiment, "ada_curriculum", ["--port", "0"], r"listening on ([\d.]+):(\d+)") as address:
        yield address


@contextmanager
def running_simulator(folder: Path, experiment: Mapping[str, Any]) -> Iterator[str]:
    """Start a simulator server on an experiment; yields its address."""
    flags = ["serve", "--port", "0", "--health-port", "0"]
    with _running(folder, experiment, "ada_sim", flags, r"serving on ([\d.]+) port (\d+)") as address:
        yield address


@contextmanager
def _running(
    folder: Path, experiment: Mapping[str, Any], module: str, flags: list[str], announced: str
) -> Iterator[str]:
    file, log = folder / "experiment.json", folder / f"{module}.log"
    file.write_text(json.dumps(experiment))
    environment = {**os.environ, "ADA_TOKEN": TOKEN, "ADA_STORE": f"file://{folder}/store"}
    command = [sys.executable, "-m", module, *flags, "--experiment", str(file), "--host", "127.0.0.1"]
    process = start(command, log, environment)
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not (found := re.search(announced, log.read_text())):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{module} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield ":".join(found.groups())
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class ObjectServer:
    """A MinIO with one bucket."""

    endpoint: str  # http://host:port
    access_key: str
    secret_key: str
    bucket: str = "benchmark"

    @property
    def uri(self) -> str:
        """Return the store that our programs open."""
        return f"s3://{self.bucket}/root?endpoint={self.endpoint}&region=us-east-1&path_style=true"

    def client(self) -> Minio:
        """Return the SDK's client."""
        return Minio(self.endpoint.removeprefix("http://"), self.access_key, self.secret_key, secure=False)


@contextmanager
def running_minio(folder: Path) -> Iterator[ObjectServer | None]:
    """Start the MinIO that `python tests/prepare.py` built; yields None if there is none."""
    program = program_path("minio")
    if not program.exists():
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = ObjectServer(f"http://{address}", "benchmark", secrets.token_hex(16))
    keys = {"MINIO_ROOT_USER": server.access_key, "MINIO_ROOT_PASSWORD": server.secret_key}
    command = [str(program), "server", str(folder / "minio"), "--address", address, "--console-address", "127.0.0.1:0"]
    process = start(command, folder / "minio.log", {**os.environ, **keys})
    try:
        _wait_for_answer(f"{server.endpoint}/minio/health/ready", process)
        server.client().make_bucket(server.bucket)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_for_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{url} did not answer: {error}") from error
        time.sleep(0.05)
