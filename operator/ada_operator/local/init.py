"""The first process of a "pod": starts its program, hands it signals, and lets none of its descendants outlive it.

Started as `python -I -S init.py PARENT_PID COMMAND...`, it imports the standard library alone. When the program ends,
everything it left behind is killed, as the end of a container would; when the process that started us dies, or sends
SIGHUP, all of it is killed at once. Exits with the program's code, 128 + N if signal N ended it.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def process_control(option: int, value: int) -> None:
    """Call prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {value}): {os.strerror(error)}")


def children(parent: int) -> list[int]:
    """Return the processes whose parent is `parent`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            # The name in parentheses may hold anything; the parent is the second field after it.
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def kill_descendants() -> None:
    """Kill all descendants. Orphans become our children, so this ends when there are no children left."""
    while True:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def start(command: list[str]) -> int:
    """Start the program; it dies with us. Returns its pid."""
    us = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        process_control(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == us:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            os.execvp(command[0], command)
    except OSError as error:
        print(f"can't start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(127)


def main(parent: int, command: list[str]) -> int:
    """Run the command; return its exit code."""

    def end(number: int, frame: FrameType | None) -> None:
        kill_descendants()
        os._exit(128 + signal.SIGKILL)

    signal.signal(signal.SIGHUP, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process_control(PR_SET_CHILD_SUBREAPER, 1)
    process_control(PR_SET_PDEATHSIG, signal.SIGHUP)
    if os.getppid() != parent:  # it died before we could ask to be told
        return 128 + signal.SIGKILL
    # A SIGTERM before the program exists must not be lost: it is held back until there is somebody to hand it to.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    program = start(command)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(program, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            kill_descendants()
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
