"""A real MinIO for the tests that need one, found and never downloaded."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio

CACHE = Path.home() / ".cache" / "ada-operator" / "bin"  # where tests/prepare.py builds
ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"


def find_minio() -> str | None:
    """Return the MinIO server to test against."""
    built = [str(path) for pattern in ("minio-*/minio", "minio") for path in CACHE.glob(pattern)]
    candidates = (os.environ.get("ADA_TEST_MINIO"), shutil.which("minio"), *built)
    return next((path for path in candidates if path and Path(path).is_file()), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def minio_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a MinIO with one bucket, `ada`, for the session."""
    program = find_minio()
    if program is None:
        pytest.skip("no MinIO server: set ADA_TEST_MINIO, or run tests/prepare.py")
    folder, port = tmp_path_factory.mktemp("minio"), free_port()
    environment = {**os.environ, "MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}
    command = [program, "server", str(folder), "--address", f"127.0.0.1:{port}", "--console-address", "127.0.0.1:0"]
    with (folder.parent / "minio.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for_health(f"http://127.0.0.1:{port}/minio/health/ready", process)
        Minio(f"127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY, secure=False).make_bucket("ada")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def wait_for_health(url: str, process: subprocess.Popen[bytes], limit_s: float = 180.0) -> None:
    """Return once the URL answers 200; fail if the process ends or time runs out."""
    deadline = time.monotonic() + limit_s
    while True:
        assert process.poll() is None, f"{process.args} ended with {process.returncode} before {url} answered"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError as error:
            assert time.monotonic() < deadline, f"{url} did not answer within {limit_s} s: {error}"
        time.sleep(0.05)
