"""Whatever the watches leave out, repeat, mix up or delay: every experiment comes to the end of one whose don't."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.control_plane import has_default_account
from tests.cluster.processes import start, stop, wait_until
from tests.control_plane.api_proxy import LIES, ApiProxy
from tests.control_plane.life import Life, Services, experiment, services

from ada_operator.cluster import Cluster, load_configuration

AT_REST_S = 12.0  # more than two resyncs
RESYNC_S = 5
READS_A_LOOK = 14  # the list of experiments, the experiment, its children by kind, what it names
KILLED_AT = (40,)  # writes of the operator after which it is killed; the next one waits for the lease


@pytest.mark.timeout(900)
def test_watches_that_lie_change_nothing_about_the_end(plane, tmp_path):
    """One operator, a namespace for each way of lying; it is killed once on the way as well."""
    lies = {f"lies-{os.getpid()}-{lie}": lie for lie in LIES}
    spaces = ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in lies)
    plane.kubectl.apply(*spaces)
    for name in lies:
        wait_until("default service account", lambda name=name: has_default_account(plane.kubectl, name))
    plane.kubectl.apply(*map(experiment, lies))
    try:
        proxy, ends = asyncio.run(every_life(plane, lies, tmp_path))
    finally:
        plane.kubectl.run("delete", "namespace", *lies, "--wait=false")
    print({lie: proxy.events[lie, "heard"] for lie in LIES})
    expected = ends["truth"]
    assert set(expected["made"].values()) == {1}
    for lie, end in ends.items():
        assert proxy.events[lie, "heard"] > 10, f"{lie} was not tried"
        assert end == expected, lie


async def every_life(plane: Any, lies: dict[str, str], folder: Path) -> tuple[ApiProxy, dict[str, dict[str, Any]]]:
    """Return the proxy and the end of each namespace's life, by lie."""
    proxy = ApiProxy(plane.kubeconfig, lies)
    admin = Cluster(await load_configuration(str(plane.kubeconfig)))
    async with services() as served, proxy.running(folder) as kubeconfig:
        command = operator_command(kubeconfig, folder, list(lies))
        environment = {**os.environ, "ADA_CURRICULUM_URL_TEMPLATE": served.url}
        processes = [start(command, folder / "operator.log", environment)]

        async def kill(namespace: str, number: int, landed: bool) -> bool:
            if proxy.writes.total() in KILLED_AT and landed:
                processes[-1].kill()
                return False
            return True

        async def start_again() -> None:  # as the kubelet does, also where a slow machine costs it its lease
            while True:
                await asyncio.sleep(0.5)
                if processes[-1].poll() is not None:
                    processes.append(start(command, folder / "operator.log", environment))

        proxy.on_write = kill
        supervision = asyncio.create_task(start_again())
        try:
            ends = await asyncio.gather(*(one_life(admin, served, namespace) for namespace in lies))
            writes, before = proxy.writes.total(), proxy.reads.copy()
            await asyncio.sleep(AT_REST_S)
            assert proxy.writes.total() == writes, "nothing happens, and something is written"
            reads = {lie: proxy.reads[namespace] - before[namespace] for namespace, lie in lies.items()}
            print(f"reads of an experiment at rest in {AT_REST_S:.0f} s: {reads}")
            for lie in ("truth", "silent", "dropped"):  # where nobody is told of changes that are none
                assert reads[lie] <= (AT_REST_S / RESYNC_S + 1) * READS_A_LOOK, reads
        finally:
            print((folder / "operator.log").read_text()[-3000:])
            supervision.cancel()
            for process in processes:
                stop(process)
            await admin.close()
    assert len(processes) > len(KILLED_AT)
    return proxy, dict(zip(lies.values(), ends, strict=True))


async def one_life(admin: Cluster, served: Services, namespace: str) -> dict[str, Any]:
    """Return the end of a life."""
    life = Life(admin, served, namespace)
    await life.play()
    return await life.end()


def operator_command(kubeconfig: Path, folder: Path, namespaces: list[str]) -> list[str]:
    """Return the command line of an operator for these namespaces."""
    platform = folder / "platform.json"
    platform.write_text('{"defaultStore": "file:///store"}')
    return [
        *[sys.executable, "-m", "ada_operator.program", "--kubeconfig", str(kubeconfig), "--platform", str(platform)],
        *[f"--namespace={name}" for name in namespaces],
        *["--lease-namespace", namespaces[0], "--lease-seconds", "30", "--resync-seconds", str(RESYNC_S)],
        *["--host", "127.0.0.1", "--port", "0"],
    ]
