"""Frames over a TCP socket: whole ones or an error, received into two buffers by turns. Decides nothing about them.

Once both sides share memory, what follows a frame's header may lie there, and only the header goes through the socket.
"""

import math
import socket
import struct
from collections.abc import Sequence

from ada_sim.shared import AREAS, SharedMemory
from ada_sim.wire import HEADER, Buffer, Head, placed, read_head

SOCKET_BUFFER_BYTES = 1 << 21
DRAIN_BYTES = 1 << 16
MAX_BUFFERS = 512  # a call; Linux takes 1024
LONG_BYTES = 1 << 16  # bodies at least as long may be lent to whoever receives (ada_sim.messages)
INTERVAL = struct.Struct("@ll")  # struct timeval: seconds, microseconds


class ChannelClosed(ConnectionError):  # noqa: N818
    """The other side closed the connection, or went silent."""


class Channel:
    """One end of a connection."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        """Take over a connected socket; frames with more than `limit` bytes after the header are refused."""
        self.limit = limit
        self._socket = connection
        self._header = bytearray(HEADER.size)
        self._bodies = [bytearray(0), bytearray(0)]  # by turns: what was received last is not overwritten by the next
        self._short = bytearray(LONG_BYTES)  # a refusal overwrites nothing that is long
        self._outgoing: SharedMemory | None = None
        self._incoming: SharedMemory | None = None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)

    @property
    def socket(self) -> socket.socket:
        """Return the connection."""
        return self._socket

    def set_timeout(self, seconds: float) -> None:
        """Set how long the other side may stay silent."""
        # The kernel keeps the time: Python's own timeouts cost a poll before every read, and a read of each piece.
        self._socket.settimeout(None)
        parts, whole = math.modf(seconds)
        interval = INTERVAL.pack(int(whole), max(1, int(parts * 1e6)))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, interval)

    def share(self, outgoing: SharedMemory | None = None, incoming: SharedMemory | None = None) -> None:
        """Send and receive through memory that both sides have mapped."""
        self._outgoing, self._incoming = outgoing, incoming

    def room(self) -> memoryview | None:
        """Return where the bytes after the next frame's header will lie, if they go through memory: write them there.

        What is sent from where it will lie is not copied.
        """
        return None if self._outgoing is None else self._outgoing.room()

    def send(self, buffers: Sequence[Buffer], through_memory: bool = True) -> None:
        """Send a frame, through memory if it is shared. Raises OSError if the connection is gone, or takes nothing."""
        waiting = [memoryview(buffer) for buffer in buffers]
        if self._outgoing is not None and through_memory:
            header, table = waiting[0][: HEADER.size], waiting[0][HEADER.size :]
            if (area := self._outgoing.put([table, *waiting[1:]])) is not None:
                waiting = [memoryview(placed(header, area + 1))]
        while waiting:
            try:
                sent = self._socket.sendmsg(waiting[:MAX_BUFFERS])
            except BlockingIOError:
                raise TimeoutError("the other side took nothing for too long") from None
            while waiting and sent >= waiting[0].nbytes:
                sent -= waiting.pop(0).nbytes
            if sent:
                waiting[0] = waiting[0][sent:]

    def receive(self) -> tuple[Head, memoryview]:
        """Return the next frame's header and what follows it; the next call overwrites it, if long the next but one.

        Raises:
            ChannelClosed: the other side closed the connection.
            TimeoutError: it stayed silent for too long.
            OSError: the connection broke.
            WireError: it sent something that is no frame, or too large a one.
        """
        self._fill(memoryview(self._header))
        incoming = self._incoming
        head = read_head(self._header, self.limit, AREAS if incoming is not None else 0)
        if head.place and incoming is not None:
            return head, incoming.look(head.place - 1, head.length)
        body = self._room(head.length)
        self._fill(body)
        return head, body

    def drain(self) -> None:
        """Read what is under way before closing: closing on unread bytes would discard our last frame."""
        self._socket.shutdown(socket.SHUT_WR)
        scrap = bytearray(DRAIN_BYTES)
        left = DRAIN_BYTES
        while left > 0 and (count := self._socket.recv_into(scrap)):
            left -= count

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def stop_reading(self) -> None:
        """Have `receive`, also one that waits in another thread, find the connection closed."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            return  # it is gone already

    def _room(self, length: int) -> memoryview:
        if length < LONG_BYTES:
            return memoryview(self._short)[:length]
        self._bodies.reverse()
        if length > len(self._bodies[0]):
            self._bodies[0] = bytearray(length)
        return memoryview(self._bodies[0])[:length]

    def _fill(self, buffer: memoryview) -> None:
        while buffer:
            try:
                count = self._socket.recv_into(buffer, 0, socket.MSG_WAITALL)
            except BlockingIOError:
                raise TimeoutError("the other side was silent for too long") from None
            if count == 0:
                raise ChannelClosed("the other side closed the connection")
            buffer = buffer[count:]
