"""`python -m ada_curriculum --experiment FILE`: serve until told to stop."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from ada_api.experiment import AdaExperiment
from ada_api.validation import InvalidExperiment, load
from ada_curriculum.manifest import experiment_prefix
from ada_curriculum.record import SnapshotError
from ada_curriculum.service import CurriculumService
from ada_curriculum.store import ObjectStore, StoreError, open_store
from ada_sim.tasks.source import TaskSource

EXIT_TROUBLE, EXIT_USAGE, EXIT_STOPPED, EXIT_CONFIGURATION = 1, 2, 75, 78
PORT, HEALTH_PORT = 7001, 7101
SHUTDOWN_S = 1.0  # for requests under way
STORE_ATTEMPTS = 5

logger = logging.getLogger("ada_curriculum")


class ConfigurationError(Exception):
    """What we were given can't work, however often it is tried."""


def make_service(experiment: AdaExperiment) -> CurriculumService:
    """Return the service of an experiment, with token and store from the environment."""
    token, uri = os.environ.get("ADA_TOKEN"), os.environ.get("ADA_STORE")
    if not token or not uri:
        raise ConfigurationError("ADA_TOKEN and ADA_STORE must be set")
    metadata = experiment.metadata
    try:
        store: ObjectStore = open_store(uri).child(experiment_prefix(metadata.namespace, metadata.name))
    except StoreError as error:
        raise ConfigurationError(str(error)) from error
    try:
        tasks = TaskSource(experiment.spec.environment)
    except ValueError as error:
        raise ConfigurationError(f"experiment's environment can't be used: {error}") from error
    return CurriculumService(experiment, tasks, store, token)


def restore(service: CurriculumService) -> None:
    """Restore with a few attempts: the store may be starting too."""
    for attempt in range(STORE_ATTEMPTS):
        try:
            service.restore()
            return
        except StoreError as error:
            if attempt == STORE_ATTEMPTS - 1:
                raise
            logger.warning("store not reachable yet: %s", error)
            time.sleep(2.0**attempt)


async def serve(service: CurriculumService, host: str, port: int, health_port: int) -> None:
    """Serve until SIGTERM or SIGINT: direct lines and HTTP on one port, health and metrics on another."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(service.application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    http = runner.server
    assert http is not None, "a runner that is set up has a server"
    listener = await loop.create_server(lambda: service.door(http), host, port, reuse_address=True, backlog=1024)
    health = web.AppRunner(service.health_page(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await health.setup()
    await web.TCPSite(health, host, health_port, reuse_address=True).start()  # last: who is healthy serves
    port, health_port = listener.sockets[0].getsockname()[1], health.addresses[0][1]
    logger.info("listening on %s:%d, for probes and scrapers on port %d", host, port, health_port)
    await stop.wait()
    listener.close()
    service.hang_up()
    await runner.cleanup()
    await health.cleanup()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ada_curriculum", description=__doc__)
    parser.add_argument("--experiment", type=Path, required=True, help="JSON or YAML file of the experiment")
    parser.add_argument("--host", default=os.environ.get("ADA_HOST", "0.0.0.0"), help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on")
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT, help="port of /healthz and /metrics; 0 for any")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Until the loop takes over, a SIGTERM must end the process too, with the code that says so.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(EXIT_STOPPED))
    try:
        service = make_service(load(options.experiment))
        restore(service)
        asyncio.run(serve(service, options.host, options.port, options.health_port))
    except (ConfigurationError, InvalidExperiment, SnapshotError) as error:
        print(f"ada_curriculum: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIGURATION
    except OSError as error:
        print(f"ada_curriculum: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE if isinstance(error, FileNotFoundError) else EXIT_TROUBLE
    except StoreError as error:
        print(f"ada_curriculum: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_TROUBLE
    return EXIT_STOPPED


if __name__ == "__main__":
    raise SystemExit(main())
