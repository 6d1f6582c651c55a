"""Memory that a simulator server and a client on one host share: answers lie in it, the socket carries their headers.

The client makes the memory (a sealed memfd: it can't shrink under the server) and offers it by process id, file
descriptor and a nonce that lies in it. A server on the same host finds the nonce and so knows that it looks at the same
memory; any other does not, and both stay with the socket. The memory has no name and ends with the last process that
has it mapped. Pictures are drawn where they will be read, so nobody copies them.

    nonce 32 bytes ... | area 0 | area 1        areas by turns, each holds what follows one frame's header
"""

import fcntl
import hmac
import mmap
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from typing import Self

import numpy as np

NONCE_BYTES = 32
PAGE = mmap.PAGESIZE
AREAS = 2  # by turns: what was received last stays readable until the next receive
MAX_AREA_BYTES = 1 << 30
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class NotSharedError(Exception):
    """The two sides have no memory in common; the socket carries everything."""


@dataclass(frozen=True)
class Offer:
    """What a client tells of memory it made."""

    process: int
    handle: int
    area: int  # bytes
    nonce: bytes


class SharedMemory:
    """The memory, mapped by one of the two sides."""

    def __init__(self, memory: mmap.mmap, area: int) -> None:
        """Use a mapping with areas of `area` bytes."""
        self.area = area
        view = memoryview(memory)
        begin = PAGE
        self._areas = [view[begin + number * area : begin + (number + 1) * area] for number in range(AREAS)]
        self._addresses = [_address(area) for area in self._areas]
        self._turn = 0

    def put(self, pieces: list[memoryview]) -> int | None:
        """Write pieces one after the other into the next area; returns its number, None if they are too long for it.

        A long piece that lies there already, where it belongs, is left as it is.
        """
        if sum(piece.nbytes for piece in pieces) > self.area:
            return None
        self._turn = (self._turn + 1) % AREAS
        area, begin = self._areas[self._turn], 0
        for piece in pieces:
            if piece.nbytes < PAGE or _address(piece) != self._addresses[self._turn] + begin:
                area[begin : begin + piece.nbytes] = piece.cast("B")
            begin += piece.nbytes
        return self._turn

    def room(self) -> memoryview:
        """Return the area that the next `put` writes to."""
        return self._areas[(self._turn + 1) % AREAS]

    def look(self, number: int, length: int) -> memoryview:
        """Return the first `length` bytes of an area; the other side writes there again after its next turn."""
        return self._areas[number][:length]


class OfferedMemory:
    """Memory that a client made and offers; `close` withdraws the offer, what is mapped stays."""

    def __init__(self, body: int) -> None:
        """Make areas for frames with `body` bytes after the header. Raises OSError if there is no memory."""
        self.area = -(-body // PAGE) * PAGE
        size = PAGE + AREAS * self.area
        self._handle = os.memfd_create("ada-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._handle, size)
            fcntl.fcntl(self._handle, fcntl.F_ADD_SEALS, SEALS)
            self._memory = mmap.mmap(self._handle, size)
        except BaseException:
            os.close(self._handle)
            raise
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._memory[:NONCE_BYTES] = nonce
        self.offer = Offer(os.getpid(), self._handle, self.area, nonce)

    def __enter__(self) -> Self:
        """Return the offer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Withdraw the offer."""
        os.close(self._handle)

    def memory(self) -> SharedMemory:
        """Return this side's view."""
        return SharedMemory(self._memory, self.area)


def _address(piece: memoryview) -> int:
    return int(np.frombuffer(piece, np.uint8).__array_interface__["data"][0])


def accept(offer: Offer) -> SharedMemory:
    """Return the memory that a client offers. Raises NotSharedError if this process can't see it, or it is not safe."""
    if not (0 < offer.area <= MAX_AREA_BYTES and offer.area % PAGE == 0):
        raise NotSharedError(f"areas of {offer.area} bytes, must be pages and at most {MAX_AREA_BYTES}")
    size = PAGE + AREAS * offer.area
    try:
        handle = os.open(f"/proc/{offer.process:d}/fd/{offer.handle:d}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotSharedError(f"the client's memory can't be opened: {error.strerror}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise NotSharedError(f"file of {status.st_size} bytes, not memory of {size}")
        if fcntl.fcntl(handle, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise NotSharedError("memory that is not sealed")
        memory = mmap.mmap(handle, size)
    except OSError as error:
        raise NotSharedError(f"the client's memory can't be mapped: {error.strerror}") from error
    finally:
        os.close(handle)
    if not hmac.compare_digest(memory[:NONCE_BYTES], offer.nonce):
        memory.close()
        raise NotSharedError("the nonce is another: this is not the client's host")
    return SharedMemory(memory, offer.area)


def is_near(connection: socket.socket) -> bool:
    """Return whether both ends of a connection have one host's addresses, so that an offer may be worth a try."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    here, there = connection.getsockname()[0], connection.getpeername()[0]
    return bool(here == there or (here.startswith("127.") and there.startswith("127.")))
