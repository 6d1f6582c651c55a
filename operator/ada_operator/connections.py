"""Connections to an API server that are closed when they are said to be."""

import asyncio
import socket
import ssl
import weakref
from contextlib import suppress
from typing import Any

import aiohttp

CLOSING_S = 5.0  # at most; a connection whose other end is shut takes one turn of the event loop


class ClosedConnector(aiohttp.TCPConnector):
    """Leaves no connection behind.

    aiohttp says goodbye by TLS to the server of a request that was cancelled, and does not wait for the answer: behind
    a closed session such a connection stays for up to 30 s, or is lost with the event loop.
    """

    def __init__(self, tls: ssl.SSLContext, limit: int) -> None:
        """Connect with `tls`, at most `limit` times at once; 0 means any number."""
        super().__init__(ssl=tls, limit=limit, socket_factory=self._make_socket)
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._made.add(made)
        return made

    async def close(self, **named: Any) -> None:
        """Close all connections, and those that still say goodbye without another word."""
        await super().close(**named)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                while left := [one for one in self._made if one.fileno() >= 0]:
                    for one in left:
                        with suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)
                    await asyncio.sleep(0)
