"""Programs of ours, started for a benchmark and gone afterwards."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
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
