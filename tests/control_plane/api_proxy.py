"""A proxy between an operator and the API server whose watches lie, each namespace's in its own way."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

LATE_S = 3.0
HELD_BACK = ("authorization", "accept", "content-type", "user-agent")
EXPIRED = {
    "kind": "Status",
    "apiVersion": "v1",
    "status": "Failure",
    "code": 410,
    "reason": "Expired",
    "message": "old",
}


class ApiProxy:
    """Forwards everything; events of watches pass through the lie of their namespace."""

    def __init__(self, kubeconfig: Path, lies: dict[str, str]) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        self.content, self._server, self._lies = content, cluster["server"], lies
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._tls.check_hostname = False
        self.events: Counter[tuple[str, str]] = Counter()  # by lie, and what became of them
        self.writes = 0  # but for renewals of the lease
        self.on_write: Callable[[int], None] = lambda number: None

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Path]:
        """Serve, and yield a kubeconfig that leads here."""
        self._session = aiohttp.ClientSession(
            self._server, connector=aiohttp.TCPConnector(ssl=self._tls, limit=0), timeout=aiohttp.ClientTimeout(None)
        )
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        cluster = {"name": "test", "cluster": {"server": f"http://{host}:{port}"}}
        path = folder / "proxy.kubeconfig"
        path.write_text(json.dumps({**self.content, "clusters": [cluster]}))
        try:
            yield path
        finally:
            await runner.cleanup()
            await self._session.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() in HELD_BACK}
        body = await request.read()
        async with self._session.request(
            request.method, request.raw_path, headers=headers, data=body or None
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name in ("Content-Type", "Date")}
            if "watch" not in request.query or answer.status != 200:
                found = web.Response(status=answer.status, body=await answer.read(), headers=kept)
                if request.method != "GET" and answer.status < 400 and "/leases" not in request.path:
                    self.writes += 1
                    self.on_write(self.writes)
                return found
            stream = web.StreamResponse(headers={"Content-Type": "application/json"})
            stream.enable_chunked_encoding()
            await stream.prepare(request)
            parts = request.path.split("/")
            namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
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
                    await stream.write(json.dumps({"type": "ERROR", "object": EXPIRED}).encode() + b"\n")
                    return
            for one in (line, *held):
                await stream.write(one)
                self.events[lie, "told"] += 1
            held.clear()
