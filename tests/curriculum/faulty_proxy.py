"""A TCP proxy between us and a store, which does to each connection what a test tells it to."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PIECE = 1 << 14


@dataclass
class Fault:
    """What goes wrong; nothing by default. Counters are used up by the connections or requests that they hit."""

    refuse: int = 0  # connections that are reset at once
    status: int = 0  # HTTP status that is answered instead of the store's ...
    statuses: int = 0  # ... so many times
    upload_limit: int = 0  # bytes after which a connection is cut while it sends ...
    cuts: int = 0  # ... so many times
    lost_answers: int = 0  # requests that reach the store whole, and whose answers don't come back
    lost_method: bytes = b"PUT"
    bytes_per_second: float = 0.0  # of each direction; 0 is as fast as it goes
    silent: bool = False  # connections are accepted and nothing is ever said
    strip: bytes = b""  # a header's line that is taken out of requests, lower case
    download_limit: int = 0  # bytes of answers after which a connection is cut ...
    download_cuts: int = 0  # ... so many times
    before_request: Callable[[int], None] = lambda number: None  # told each request's number before it is passed on
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> bool:
        """Use one of a counter up; return whether there was one."""
        with self.lock:
            left = int(getattr(self, name))
            setattr(self, name, max(0, left - 1))
            return left > 0


class FaultyProxy:
    """Listens on a port of its own and passes on to `host:port`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.fault = Fault()
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._over = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Cut every connection there is."""
        for connection in list(self._open):
            _end(connection)

    def _accept(self) -> None:
        while not self._over:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            if self.fault.take("refuse"):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a goodbye
                return
            if self.fault.silent:
                while not self._over and client.recv(PIECE):
                    pass
                return
            with socket.create_connection(self._target) as store:
                self._open.add(store)
                threading.Thread(target=self._pass_back, args=(store, client), daemon=True).start()
                self._pass_on(client, store)
        except OSError:
            pass
        finally:
            self._open.discard(client)
            _end(client)

    def _pass_on(self, client: socket.socket, store: socket.socket) -> None:
        sent = 0
        while data := client.recv(PIECE):
            head, mark, rest = data.partition(b"\r\n\r\n")
            if mark and b" HTTP/1.1\r\n" in head:
                self.requests += 1
                self.fault.before_request(self.requests)
                sent = 0
                if self.fault.statuses and self.fault.take("statuses"):
                    _rest_of_body(client, head, len(rest))
                    client.sendall(b"HTTP/1.1 %d Trouble\r\nContent-Length: 0\r\n\r\n" % self.fault.status)
                    continue
                if head.startswith(self.fault.lost_method) and self.fault.take("lost_answers"):
                    self._lose_answer(data, head, len(rest), client)
                    return
                if self.fault.strip:
                    lines = head.split(b"\r\n")
                    kept = [line for line in lines if not line.lower().startswith(self.fault.strip)]
                    data = b"\r\n".join(kept) + mark + rest
            sent += len(data)
            if self.fault.upload_limit and sent > self.fault.upload_limit and self.fault.take("cuts"):
                return
            self._wait(len(data))
            store.sendall(data)

    def _lose_answer(self, data: bytes, head: bytes, have: int, client: socket.socket) -> None:
        """Pass a whole request on, over a connection of its own, and keep what the store says to it."""
        with socket.create_connection(self._target) as store:
            store.sendall(data + _rest_of_body(client, head, have))
            store.recv(PIECE)

    def _pass_back(self, store: socket.socket, client: socket.socket) -> None:
        received = 0
        with contextlib.suppress(OSError):
            while data := store.recv(PIECE):
                received += len(data)
                if (
                    self.fault.download_limit
                    and received > self.fault.download_limit
                    and self.fault.take("download_cuts")
                ):
                    break
                self._wait(len(data))
                client.sendall(data)
        self._open.discard(store)
        _end(client)

    def _wait(self, count: int) -> None:
        if self.fault.bytes_per_second:
            time.sleep(count / self.fault.bytes_per_second)


def _rest_of_body(client: socket.socket, head: bytes, have: int) -> bytes:
    """Read the rest of a request's body, of which `have` bytes are there."""
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = b""
    while have + len(body) < length and (piece := client.recv(PIECE)):
        body += piece
    return body


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
