"""What a node does about processes and addresses on Linux."""

import ctypes
import os
import signal
import socket
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; `parent` is that thread's process id.

    Raises OSError if the kernel refuses, ProcessLookupError if the parent is gone already.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(number)}")
    if os.getppid() != parent:
        raise ProcessLookupError(f"process {parent} ended before this one, its child, began")


def name_process(name: str) -> None:
    """Give this process a name, at most 15 letters, that `ps -e` shows."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal (SIGSTOP, a debugger); False if there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`. Raises ValueError."""
    host, mark, port = address.rpartition(":")
    if not (mark and host and port.isdigit()):
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def own_address(host: str, peer: str, port: int) -> str:
    """Return the address at which peers reach this node.

    Args:
        host: the address we listen on; used unless it stands for all.
        peer: host that is reached over the same network; nothing is sent to it.
    """
    if host not in ("", "0.0.0.0", "::"):
        return host
    family, kind, protocol, _, target = socket.getaddrinfo(peer, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def wait_for_listener(host: str, port: int, timeout_s: float) -> bool:
    """Try once to connect; returns whether somebody listens."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False
