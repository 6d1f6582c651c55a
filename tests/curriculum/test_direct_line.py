"""The direct line for leases and reports: answers like HTTP, on the same port, and clean ends for everyone else."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from ada_curriculum import line
from ada_curriculum.line import ANSWER, ASK, HELLO, LEASE, MAGIC, REPORT, VERSION, Door, Line, LineError

TOKEN = "a token"
LIMIT = 1000


class Echo(asyncio.Protocol):
    """Stands for HTTP: says back what it hears, in brackets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(b"[" + data + b"]")


def lease(body: bytes) -> tuple[int, bytes]:
    return (409, b'{"error": "over"}') if body == b"old" else (200, b"lent " + body)


class Server:
    """A listener in a thread of its own."""

    def __init__(self) -> None:
        self.lines: set[Door] = set()
        self.loop = asyncio.new_event_loop()
        handlers = {LEASE: lease, REPORT: lambda body: (200, body * 2)}
        listening = self.loop.create_server(
            lambda: Door(TOKEN.encode(), handlers, LIMIT, Echo, self.lines), "127.0.0.1", 0
        )
        self.server = self.loop.run_until_complete(listening)
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def call(self, token: str = TOKEN) -> Line:
        return Line(f"127.0.0.1:{self.port}", token, 30.0, 1 << 20)

    def stop(self) -> None:
        async def end() -> None:
            self.server.close()
            for one in list(self.lines):
                one.close()
            await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, then read until the other side closes; close our sending side first."""
    with line.socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        connection.shutdown(line.socket.SHUT_WR)
        received = b""
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except ConnectionError:
            pass
        return received


def test_requests_are_answered_in_order_on_one_line(server: Server) -> None:
    caller = server.call()
    assert caller.welcome == (200, b"{}")
    assert caller.ask(LEASE, b"x") == (200, b"lent x")
    assert caller.ask(LEASE, b"old") == (409, b'{"error": "over"}')
    assert caller.ask(REPORT, b"ab") == (200, b"abab"), "a refusal does not end the line"
    assert caller.ask(REPORT, b"") == (200, b"")
    assert caller.ask(REPORT, b"y" * LIMIT) == (200, b"y" * 2 * LIMIT)
    caller.close()


def test_a_request_may_come_in_any_pieces(server: Server) -> None:
    hello = HELLO.pack(MAGIC, VERSION, len(TOKEN)) + TOKEN.encode()
    asked = ASK.pack(LEASE, 1) + b"a" + ASK.pack(REPORT, 1) + b"b"
    expected = ANSWER.pack(200, 2) + b"{}" + ANSWER.pack(200, 6) + b"lent a" + ANSWER.pack(200, 2) + b"bb"
    with line.socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.setsockopt(line.socket.IPPROTO_TCP, line.socket.TCP_NODELAY, 1)
        for byte in hello + asked:
            connection.sendall(bytes([byte]))
        received = b""
        while len(received) < len(expected):
            received += connection.recv(100)
    assert received == expected


def test_everything_else_on_the_port_goes_to_http(server: Server) -> None:
    assert exchange(server.port, b"GET / HTTP/1.1\r\n\r\n") == b"[GET / HTTP/1.1\r\n\r\n]"
    assert exchange(server.port, b"ADA") == b"", "not yet known what it will be"
    assert exchange(server.port, b"ADAX") == b"[ADAX]"


def test_a_wrong_token_is_told_and_hung_up_on(server: Server) -> None:
    for token in ("", "a tokem", "a token "):
        caller = server.call(token)
        status, body = caller.welcome
        assert status == 401 and "token" in json.loads(body)["error"]
        with pytest.raises(OSError):
            caller.ask(LEASE, b"x")
            caller.ask(LEASE, b"x")
        caller.close()


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(ASK.pack(LEASE, LIMIT + 1), id="too-long"),
        pytest.param(ASK.pack(LEASE, 2**32 - 1), id="four-gigabytes"),
        pytest.param(ASK.pack(77, 0), id="unknown-kind"),
    ],
)
def test_what_no_caller_of_ours_would_ask_ends_the_line(server: Server, asked: bytes) -> None:
    hello = HELLO.pack(MAGIC, VERSION, len(TOKEN)) + TOKEN.encode()
    answer = exchange(server.port, hello + asked + b"rest")[ANSWER.size + 2 :]
    assert ANSWER.unpack_from(answer)[0] == 400
    assert not server.lines


def test_a_stranger_who_says_nothing_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "HELLO_S", 0.05)
    connected = line.socket.create_connection(("127.0.0.1", server.port), timeout=30)
    with connected as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(10) == b""


def test_a_caller_who_does_not_read_is_not_answered_for_ever(server: Server) -> None:
    caller = server.call()
    request = ASK.pack(REPORT, LIMIT) + bytes(LIMIT)
    caller._socket.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 1 << 30:
            sent += caller._socket.send(request * 100)
    assert sent < 1 << 27, "the service took requests without bound"
    caller.close()


def test_mutated_requests_are_answered_or_refused_and_the_next_caller_is_served(server: Server) -> None:
    rng = np.random.default_rng(5)
    whole = HELLO.pack(MAGIC, VERSION, len(TOKEN)) + TOKEN.encode() + (ASK.pack(LEASE, 3) + b"abc") * 3
    statuses: set[int] = set()
    for _ in range(500):
        changed = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed))] = rng.integers(256)
        answer = exchange(server.port, bytes(changed[: rng.integers(1, len(changed) + 1)]))
        if len(answer) >= ANSWER.size and not answer.startswith(b"["):
            statuses.add(ANSWER.unpack_from(answer)[0])
    assert statuses == {200, 400, 401}
    caller = server.call()
    assert caller.ask(LEASE, b"x")[0] == 200
    caller.close()


def test_a_service_of_another_language_is_a_clear_error(server: Server) -> None:
    listener = line.socket.create_server(("127.0.0.1", 0))

    def speak() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    speaker = threading.Thread(target=speak)
    speaker.start()
    with pytest.raises(LineError, match="is this the curriculum service"):
        Line(f"127.0.0.1:{listener.getsockname()[1]}", TOKEN, 30.0, 1000)
    speaker.join()
    listener.close()
