"""A real MinIO for the tests that need one, found and never downloaded."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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


def find_versitygw() -> str | None:
    """Return the second S3 server to test against."""
    built = [str(path) for path in CACHE.glob("versitygw-*/versitygw")]
    candidates = (os.environ.get("ADA_TEST_VERSITYGW"), shutil.which("versitygw"), *built)
    return next((path for path in candidates if path and Path(path).is_file()), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def minio_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a MinIO with one bucket, `ada`, for the session."""
    with running_minio(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def second_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an S3 server of another kind, with one bucket, `ada`, for the session."""
    with running_versitygw(tmp_path_factory.mktemp("versitygw")) as endpoint:
        yield endpoint


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test the keys of the servers."""
    monkeypatch.setenv("ADA_STORE_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("ADA_STORE_SECRET_KEY", SECRET_KEY)


@contextmanager
def running_minio(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run a MinIO on a folder, as it is, and yield its endpoint; on `port`, if it is to be found where it was."""
    program = find_minio()
    if program is None:
        pytest.skip("no MinIO server: set ADA_TEST_MINIO, or run tests/prepare.py")
    address = f"127.0.0.1:{port or free_port()}"
    environment = {**os.environ, "MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}
    command = [program, "server", str(folder), "--address", address, "--console-address", "127.0.0.1:0"]
    with running(command, environment, folder.parent / f"{folder.name}.log", f"http://{address}/minio/health/ready"):
        make_bucket(address)
        yield f"http://{address}"


@contextmanager
def running_versitygw(folder: Path) -> Iterator[str]:
    """Run a Versity gateway over a folder and yield its endpoint."""
    program = find_versitygw()
    if program is None:
        pytest.skip("no second S3 server: set ADA_TEST_VERSITYGW, or run tests/prepare.py")
    for name in ("objects", "about"):
        (folder / name).mkdir()
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY}
    command = [program, "--port", address, "--health", "/health", "--quiet", "posix"]
    command += ["--sidecar", str(folder / "about"), str(folder / "objects")]  # not every file system has attributes
    with running(command, environment, folder.parent / f"{folder.name}.log", f"http://{address}/health"):
        make_bucket(address)
        yield f"http://{address}"


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path, health: str) -> Iterator[None]:
    """Run a server until the end of the block, which begins once it answers."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_for_health(health, process)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def make_bucket(address: str) -> None:
    client = Minio(address, ACCESS_KEY, SECRET_KEY, secure=False)
    if not client.bucket_exists("ada"):
        client.make_bucket("ada")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of so many MiB on a folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "ada-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("can't mount a small file system: needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
