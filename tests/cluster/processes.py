"""Processes that can't outlive the test session: the kernel ends them with it, even after a kill -9."""

import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")

# Runs until its standard input ends, which is when this process is gone; the programs that write to the folder
# are killed in the same moment, so removing succeeds at the second try at the latest.
REMOVE_AFTER_US = 'cat >/dev/null; for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit; sleep 0.2; done'


def start(command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a program that dies with this process; its output goes to the end of `log`.

    util-linux's setpriv asks the kernel for the death signal, as a `preexec_fn` would, without its dangers in a
    process that has threads. Call it from a thread that lives as long as the program should.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
        )


def stop(process: subprocess.Popen[bytes], timeout_s: float = 10.0) -> int:
    """End a program, by force if it takes too long, and return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def guard_folder(folder: Path) -> subprocess.Popen[bytes]:
    """Have a folder removed once this process is gone, however it ends; close the guard's stdin to do it now."""
    return subprocess.Popen(
        ["sh", "-c", REMOVE_AFTER_US, "sh", str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )


def hold_port(address: str = "127.0.0.1") -> tuple[socket.socket, int]:
    """Return a port of a local address that the kernel chose, kept from others by the socket until that is closed.

    The socket does not listen; a program that binds with SO_REUSEPORT as the same user can share the port.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((address, 0))
    return held, held.getsockname()[1]


def wait_until(
    what: str, probe: Callable[[], Value | None], timeout_s: float = 60.0, state: Callable[[], str] = lambda: ""
) -> Value:
    """Return the probe's first true result.

    Raises:
        TimeoutError: there was none in time; the message says what was awaited and `state()`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout_s:.0f} s. {state()}")
        time.sleep(0.1)
