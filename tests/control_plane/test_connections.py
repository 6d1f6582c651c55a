"""Connections to an API server that has fallen silent: a closed client leaves none behind."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ada_operator.cluster import PODS, Cluster, load_configuration

AT_ONCE = 3
PATIENCE_S = 15.0  # less than what a goodbye by TLS waits for its answer


@dataclass
class Relay:
    """Passes bytes to the API server and back until it is told to lose those that go back."""

    port: int  # of the API server
    loses: bool = False
    lost: int = 0  # connections on which an answer was lost, at least in part
    open: int = 0  # connections of clients

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it hangs up."""
        self.open += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        back = asyncio.create_task(self._back(from_server, writer))
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                to_server.write(data)
        self.open -= 1
        back.cancel()
        for one in (to_server, writer):
            one.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(1 << 16)) and not self.loses:
            writer.write(data)
        self.lost += 1


async def until(holds) -> None:
    """Wait for something."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


def test_a_closed_client_has_hung_up_though_its_requests_were_cut_off_and_the_server_is_silent(plane):
    async def play() -> None:
        configuration = await load_configuration(str(plane.kubeconfig))
        relay = Relay(urlsplit(configuration.host).port or 443)
        server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        configuration.host = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        cluster = Cluster(configuration)
        await asyncio.gather(*(cluster.list(PODS, "default") for _ in range(AT_ONCE)))
        relay.loses = True
        asking = [asyncio.create_task(cluster.list(PODS, "default")) for _ in range(AT_ONCE)]
        await until(lambda: relay.lost == AT_ONCE)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await cluster.close()
        await until(lambda: not relay.open)
        server.close()

    asyncio.run(play())
