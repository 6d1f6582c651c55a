"""A proxy between operators and the API server: it hears of every write, lies in watches, and has requests fail.

What it does to whom goes by namespace, so many experiments can suffer differently through one proxy.
"""

import asyncio
import json
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from ada_operator.connections import ClosedConnector

LATE_S = 3.0
HELD_BACK = ("authorization", "accept", "content-type", "user-agent")
LIES = ("truth", "silent", "dropped", "late", "duplicated", "reordered", "gone")  # what watches do
FAULTS = ("429", "409", "500", "503", "lost request", "lost answer", "stale list")  # what requests meet
OF_WATCHES = ("429", "500", "503", "410", "lost request")


def refusal(code: int, reason: str = "Injected", message: str = "refused by the test") -> bytes:
    """Return the Status object of a refusal."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return json.dumps({**status, "reason": reason, "message": message}).encode()


# Called with namespace, number (from 0) and whether it has landed: before a write is sent, and before it is answered.
# False: whoever asked is gone; it is not sent, or not answered.
OnWrite = Callable[[str, int, bool], Awaitable[bool]]


async def nothing(namespace: str, number: int, landed: bool) -> bool:
    """Let a write be."""
    return True


class Faults:
    """Requests of every verb that go wrong, drawn by a seed; `share` of the reads, twice that of the writes.

    Watches are few: the first one fails in any case. Faults are dealt like cards, so that each has its turn; one that
    does not fit a request waits for the next.
    """

    def __init__(self, seed: int, share: float) -> None:
        self._random, self._share = random.Random(seed), share
        self._lists: dict[str, bytes] = {}
        self._decks: dict[bool, list[str]] = {True: [], False: []}  # of watches, and of all else
        self.tried: Counter[tuple[str, str]] = Counter()  # by verb and fault

    def draw(self, verb: str, url: str) -> str:
        """Return what goes wrong with a request; empty if nothing does."""
        is_first_watch = verb == "WATCH" and not any(tried == verb for tried, _ in self.tried)
        if self._random.random() >= self._share * (1 if verb in ("GET", "WATCH") else 2) and not is_first_watch:
            return ""
        deck, can_be_stale = self._decks[verb == "WATCH"], verb == "GET" and url in self._lists
        fault = self._fitting(deck, can_be_stale)
        if fault is None:
            dealt = OF_WATCHES if verb == "WATCH" else FAULTS
            deck += self._random.sample(dealt, len(dealt))
            fault = self._fitting(deck, can_be_stale)
        assert fault is not None
        deck.remove(fault)
        self.tried[verb, fault] += 1
        return fault

    @staticmethod
    def _fitting(deck: list[str], can_be_stale: bool) -> str | None:
        return next((fault for fault in deck if can_be_stale or fault != "stale list"), None)

    def keep(self, url: str, body: bytes) -> None:
        """Keep a list, to be told again when it is old."""
        self._lists[url] = body

    def kept(self, url: str) -> bytes:
        """Return an old list."""
        return self._lists[url]


class ApiProxy:
    """Forwards everything, but for what a namespace has to suffer."""

    def __init__(
        self, kubeconfig: Path, lies: Mapping[str, str] | None = None, faults: Mapping[str, Faults] | None = None
    ) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        self.content, self._server = content, cluster["server"]
        self._lies, self._faults = lies or {}, faults or {}
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._tls.check_hostname = False
        self.events: Counter[tuple[str, str]] = Counter()  # by lie, and what became of them
        self.writes: Counter[str] = Counter()  # that landed, by namespace, but for those of leases
        self.tries: Counter[str] = Counter()  # the same, and those that did not land
        self.applied: Counter[tuple[str, str]] = Counter()  # applies that landed, by namespace and path
        self.reads: Counter[str] = Counter()  # by namespace, but for watches and leases
        self.on_write: OnWrite = nothing

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Path]:
        """Serve, and yield a kubeconfig that leads here."""
        self._session = aiohttp.ClientSession(
            self._server, connector=ClosedConnector(self._tls, 0), timeout=aiohttp.ClientTimeout(None)
        )
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        cluster = {"name": "test", "cluster": {"server": f"http://{host}:{port}"}}
        path = folder / f"proxy-{port}.kubeconfig"
        path.write_text(json.dumps({**self.content, "clusters": [cluster]}))
        try:
            yield path
        finally:
            await runner.cleanup()
            await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.split("/")
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        verb = "WATCH" if "watch" in request.query else request.method
        faults, url = self._faults.get(namespace), request.raw_path
        fault = faults.draw(verb, url) if faults else ""
        if fault.isdigit():
            return web.Response(status=int(fault), body=refusal(int(fault)), content_type="application/json")
        if fault == "lost request":
            return _cut_off(request)
        if faults and fault == "stale list":
            return web.Response(body=faults.kept(url), content_type="application/json")
        if verb == "WATCH":
            return await self._watch(request, namespace)
        counted = verb != "GET" and "leases" not in parts
        self.reads[namespace] += verb == "GET" and "leases" not in parts
        self.tries[namespace] += counted
        if counted and not await self.on_write(namespace, self.writes[namespace], False):
            return _cut_off(request)
        data = await request.read() or None
        async with self._session.request(verb, url, headers=_headers(request), data=data) as answer:
            body = await answer.read()
        if counted and answer.status < 400:
            self.writes[namespace] += 1
            self.applied[namespace, request.path] += verb == "PATCH"
            if not await self.on_write(namespace, self.writes[namespace] - 1, True):
                return _cut_off(request)
        if faults and verb == "GET" and request.query:
            faults.keep(url, body)
        if fault == "lost answer":
            return _cut_off(request)
        kept = {name: value for name, value in answer.headers.items() if name in ("Content-Type", "Date")}
        return web.Response(status=answer.status, body=body, headers=kept)

    async def _watch(self, request: web.Request, namespace: str) -> web.StreamResponse:
        async with self._session.get(request.raw_path, headers=_headers(request)) as answer:
            if answer.status != 200:
                kind = answer.headers.get("Content-Type", "application/json")
                return web.Response(status=answer.status, body=await answer.read(), headers={"Content-Type": kind})
            stream = web.StreamResponse(headers={"Content-Type": "application/json"})
            stream.enable_chunked_encoding()
            await stream.prepare(request)
            with suppress(ConnectionError):  # who watches may go at any time
                await self._lie(self._lies.get(namespace, "truth"), answer.content, stream)
            return stream

    async def _lie(self, lie: str, events: aiohttp.StreamReader, stream: web.StreamResponse) -> None:
        held: list[bytes] = []
        number = 0
        async for line in events:
            number += 1
            self.events[lie, "heard"] += 1
            match lie:
                case "silent":
                    continue
                case "dropped" if number % 2:
                    continue
                case "late":
                    await asyncio.sleep(LATE_S)
                case "duplicated":
                    await stream.write(line)
                case "reordered" if not held:
                    held.append(line)
                    continue
                case "gone" if number % 3 == 0:
                    expired = json.loads(refusal(410, "Expired", "old"))
                    await stream.write(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
                    return
            for one in (line, *held):
                await stream.write(one)
                self.events[lie, "told"] += 1
            held.clear()


def _headers(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower() in HELD_BACK}


def _cut_off(request: web.Request) -> web.StreamResponse:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)
