"""One running "pod": a process with its descendants, a log file of bounded size, an address on loopback, a probe."""

import http.client
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ada_operator.local.init import PR_SET_CHILD_SUBREAPER, children, process_control

INIT = Path(__file__).with_name("init.py")
LOG_LIMIT = 16 * 2**20  # bytes of a log file before its older half is dropped
TAIL_BYTES = 2048  # of the log: a failed container's message, as the kubelet keeps


@dataclass
class Running:
    """A started process."""

    process: subprocess.Popen[bytes]
    log: Path
    log_start: int  # bytes that were in the log before
    started: float

    def exit_code(self) -> int | None:
        """Return the exit code, 128 + N if signal N ended it, None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def stop(self) -> None:
        """Ask the program to stop."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program and all of its descendants."""
        self._send(signal.SIGHUP)

    def _send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


def start(command: list[str], environment: dict[str, str], log: Path, now: float) -> Running:
    """Start a program in a session of its own; it and its descendants die with us.

    Must be called from the main thread: the kernel ties "dies with its parent" to the thread that started it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(INIT), str(os.getpid()), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(process, log, log_start, now)


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that `kill_orphans` finds them."""
    process_control(PR_SET_CHILD_SUBREAPER, 1)


def kill_orphans(known: set[int]) -> None:
    """Kill children of ours that we did not start: what a pod left behind whose first process was killed."""
    while True:
        orphans = set(children(os.getpid())) - known
        if not orphans:
            return
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def tail(log: Path, log_start: int) -> str:
    """Return the last lines of a log, from `log_start` on."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # A log that was cut meanwhile is shorter than where it began.
            start = max(log_start if log_start < size else 0, size - TAIL_BYTES)
            file.seek(start)
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return (text if start == log_start else text.partition("\n")[2]).strip()


def bound(log: Path) -> None:
    """Drop the older half of a log that is too long; its writer appends, so it goes on at the new end."""
    if not log.exists() or log.stat().st_size <= LOG_LIMIT:
        return
    with log.open("r+b") as file:
        file.seek(-LOG_LIMIT // 2, os.SEEK_END)
        kept = file.read()
        file.seek(0)
        file.write(b"(older lines dropped)\n" + kept)
        file.truncate()


def is_healthy(host: str, port: int, path: str, timeout_s: float) -> bool:
    """Return whether `GET path` answers with a success."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
