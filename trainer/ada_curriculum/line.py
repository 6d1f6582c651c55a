"""The direct line: leases and reports without HTTP around them, on the same port, ten times as fast.

    client   "ADAL" version u8, token length u16, token          once
    server   status u16, length u32, body                        200, or why not; then the line is closed
    client   kind u8, length u32, body                           1 lease, 2 report; bodies as over HTTP, JSON
    server   status u16, length u32, body                        one for each, in order; statuses as over HTTP

All little-endian. Whoever begins with anything else speaks HTTP and is handed on.
"""

import asyncio
import hmac
import socket
import struct
from collections.abc import Callable, Mapping

MAGIC = b"ADAL"
VERSION = 1
HELLO = struct.Struct("<4sBH")
ASK = struct.Struct("<BI")
ANSWER = struct.Struct("<HI")
LEASE, REPORT = 1, 2
HELLO_S = 10.0  # for a stranger to say anything at all
MAX_TOKEN_BYTES = 1000
RECEIVE_BYTES = 1 << 16

Handler = Callable[[bytes], tuple[int, bytes]]  # body to status and body; never raises


class LineError(ConnectionError):
    """The other side does not speak this protocol, or broke off."""


class Door(asyncio.Protocol):
    """The server's end of one connection: finds out who calls, and answers on the direct line or hands on to HTTP."""

    def __init__(
        self,
        token: bytes,
        handlers: Mapping[int, Handler],
        limit: int,
        http: Callable[[], asyncio.Protocol],
        lines: set["Door"],
    ) -> None:
        """Serve `handlers` by kind.

        Args:
            limit: bytes that a body may have.
            http: makes the protocol of connections that do not begin with our magic.
            lines: where this one is while it is a direct line.
        """
        self._token, self._handlers, self._limit, self._http, self._lines = token, handlers, limit, http, lines
        self._buffer = bytearray()
        self._welcome = False
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the caller's first words, not for ever."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._patience = asyncio.get_running_loop().call_later(HELLO_S, transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._lines.discard(self)

    def close(self) -> None:
        """Let the caller go."""
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        """Take no more requests from a caller who does not read the answers."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Answer whatever is complete."""
        self._buffer += data
        if not self._welcome and not self._receive_hello():
            return
        while len(self._buffer) >= ASK.size:
            kind, length = ASK.unpack_from(self._buffer)
            handler = self._handlers.get(kind)
            if handler is None or length > self._limit:
                self._refuse(400, f"request of kind {kind} and {length} bytes; at most {self._limit} may be")
                return
            end = ASK.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[ASK.size : end])
            del self._buffer[:end]
            self._answer(*handler(body))

    def _receive_hello(self) -> bool:
        """Return whether the caller is known; hand on one who speaks another language."""
        start = bytes(self._buffer[: len(MAGIC)])
        if not MAGIC.startswith(start):
            self._hand_on()
            return False
        if len(self._buffer) < HELLO.size:
            return False
        _, version, length = HELLO.unpack_from(self._buffer)
        if version != VERSION or length > MAX_TOKEN_BYTES:
            self._refuse(400, f"version {version} of the direct line, this side speaks {VERSION}")
            return False
        if len(self._buffer) < HELLO.size + length:
            return False
        token = bytes(self._buffer[HELLO.size : HELLO.size + length])
        del self._buffer[: HELLO.size + length]
        if not hmac.compare_digest(token, self._token):
            self._refuse(401, "the caller has no token, or not this experiment's")
            return False
        self._stop_waiting()
        self._welcome = True
        self._lines.add(self)
        self._answer(200, b"{}")
        return True

    def _hand_on(self) -> None:
        assert self._transport is not None
        self._stop_waiting()
        protocol = self._http()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(bytes(self._buffer))

    def _answer(self, status: int, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(ANSWER.pack(status, len(body)) + body)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, b'{"error": "%s"}' % message.encode())
        self._buffer.clear()
        self.close()

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class Line:
    """The client's end. Every failure is a LineError or another OSError; then the line is of no use any more."""

    def __init__(self, address: str, token: str, timeout_s: float, limit: int) -> None:
        """Call `host:port` and say who we are.

        Args:
            limit: bytes that an answer may have.
        """
        host, _, port = address.rpartition(":")
        self._limit = limit
        self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw = token.encode()
            self._socket.sendall(HELLO.pack(MAGIC, VERSION, len(raw)) + raw)
            self.welcome = self.receive()
        except BaseException:
            self._socket.close()
            raise

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to one request."""
        self.send(kind, body)
        return self.receive()

    def send(self, kind: int, body: bytes) -> None:
        """Send one request; `receive` returns its answer."""
        self._socket.sendall(ASK.pack(kind, len(body)) + body)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def receive(self) -> tuple[int, bytes]:
        """Return status and body of the next answer."""
        received = bytearray()
        wanted = ANSWER.size
        while len(received) < wanted:
            piece = self._socket.recv(max(RECEIVE_BYTES, wanted - len(received)))
            if not piece:
                raise LineError("the curriculum service hung up")
            received += piece
            if len(received) >= ANSWER.size:
                status, length = ANSWER.unpack_from(received)
                if length > self._limit or not 200 <= status < 600:
                    raise LineError(f"answer of status {status} and {length} bytes: is this the curriculum service?")
                wanted = ANSWER.size + length
        if len(received) > wanted:
            raise LineError("an answer that nobody asked for")
        return status, bytes(received[ANSWER.size :])
