"""Which ports processes listen on, by Linux' own tables."""

from collections.abc import Iterable
from pathlib import Path

LISTEN = "0A"  # state of a socket, linux/net/tcp_states.h


def listening(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Return address and port of every TCP socket on which one of these processes listens."""
    sockets = {inode for pid in pids for inode in _inodes(pid)}
    return {(address, port) for address, port, inode in _table() if inode in sockets}


def _inodes(pid: int) -> set[str]:
    found = set()
    try:
        for link in (Path("/proc") / str(pid) / "fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    except OSError:  # the process or the descriptor is gone
        return found
    return found


def _table() -> list[tuple[str, int, str]]:
    rows = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN:
            address, port = fields[1].split(":")
            numbers = reversed(bytes.fromhex(address))
            rows.append((".".join(map(str, numbers)), int(port, 16), fields[9]))
    return rows
