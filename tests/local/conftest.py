"""`ada run` as a process, with real or stand-in programs; whatever a test starts is gone when it ends."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FAKE_PROGRAMS = Path(__file__).parent / "fake_programs"
PATIENCE_S = 400.0  # the simulators compile on their first start; on a busy machine that takes minutes


class AdaRun:
    """One run's directory, and the `ada run` processes that were started on it."""

    def __init__(self, path: Path, spec: dict[str, Any], environment: dict[str, str]) -> None:
        self.directory = path / "run"
        self.file = path / "experiment.yaml"
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment}
        self.output = path / "output.txt"
        self.started: list[subprocess.Popen[bytes]] = []
        self.write(spec)

    def write(self, spec: dict[str, Any]) -> None:
        """Write the experiment."""
        document = {"apiVersion": "ada.dev/v1alpha1", "kind": "AdaExperiment", "metadata": {"name": "tiny"}}
        self.file.write_text(yaml.safe_dump({**document, "spec": spec}))

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start `ada run`."""
        command = [sys.executable, "-m", "ada_operator.cli", "run", str(self.file), "--directory", str(self.directory)]
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [*command, "--plain", *flags],
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, *flags: str) -> int:
        """Start `ada run` and wait for its end."""
        return self.end_of(self.start(*flags))

    def end_of(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end of an `ada run`."""
        try:
            return process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end after {PATIENCE_S} s:\n{self.text()}\n{self.status()}") from None

    def text(self) -> str:
        """Return what was printed so far."""
        return self.output.read_text() if self.output.exists() else ""

    def status(self) -> dict[str, Any]:
        """Return the status as written."""
        file = self.directory / "status.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def stage(self, position: int) -> dict[str, Any]:
        """Return a stage's status."""
        stages = self.status().get("stages", [])
        return stages[position] if position < len(stages) else {}

    def wait_for(self, condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
        """Wait until a condition holds, while `ada run` runs."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            if process.poll() is not None:
                raise AssertionError(f"ada run ended early with {process.returncode}:\n{self.text()}")
            time.sleep(0.05)
        raise AssertionError(f"not within {PATIENCE_S} s:\n{self.text()}\n{json.dumps(self.status(), indent=1)}")

    def processes(self, *words: str) -> list[int]:
        """Return our programs' processes that have all these words in command line and name; without words, all."""
        mark = f"ADA_STORE={(self.directory / 'store').as_uri()}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environment = (entry / "environ").read_bytes()
                    command = (entry / "cmdline").read_bytes().decode().split("\0")
                    command.append((entry / "comm").read_text().strip())
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
                is_init = any(word.endswith("init.py") for word in command)
                if mark in environment.split(b"\0") and set(words) <= set(command) and not (words and is_init):
                    found.append(int(entry.name))
        return found

    def inits(self, *words: str) -> list[int]:
        """Return the first processes of pods."""
        programs = set(self.processes(*words)) if words else set()
        return [pid for pid in self.processes() if pid not in programs and _is_init(pid, words)]

    def none_left(self) -> bool:
        """Return whether every process is gone, waiting a moment for the kernel."""
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.processes()


def _is_init(pid: int, words: tuple[str, ...]) -> bool:
    try:
        command = (Path("/proc") / str(pid) / "cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(word.endswith("init.py") for word in command) and set(words) <= set(command)


def stand_in_spec(stages: int) -> dict[str, Any]:
    """Return a spec of one or two stages for the stand-in programs, which learn ten frames a second."""
    distillation = {"teacher": "teacher", "frames": 10}
    found = [{"name": "teacher", "frames": 20}, {"name": "student", "frames": 20, "distillation": distillation}]
    return {"stages": found[:stages], "failurePolicy": {"maxCodeFailures": 1}}


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., AdaRun]]:
    """Return a function that prepares a run: of a spec with the real programs, else with stand-ins for them."""
    made: list[AdaRun] = []

    def make(spec: dict[str, Any] | None = None, *, stages: int = 1, **environment: str) -> AdaRun:
        if spec is None:
            for program in ("curriculum", "sim", "trainer"):
                package = tmp_path / "fakes" / f"ada_{program}"
                package.mkdir(parents=True, exist_ok=True)
                (package / "__init__.py").touch()
                shutil.copy(FAKE_PROGRAMS / f"{program}.py", package / "__main__.py")
            environment["PYTHONPATH"] = str(tmp_path / "fakes")
        made.append(AdaRun(tmp_path, spec or stand_in_spec(stages), environment))
        return made[-1]

    yield make
    for run in made:
        for process in run.started:
            process.kill()
            process.wait()
        for pid in run.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
