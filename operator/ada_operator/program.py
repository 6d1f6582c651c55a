"""`ada operator`: watch, queue, reconcile, under a lease, with health and metrics over HTTP."""

import argparse
import asyncio
import gc
import logging
import os
import random
import signal
import socket
import sys
import time
import uuid
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from aiohttp import web
from kubernetes.aio.config import ConfigException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from ada_operator.cluster import (
    EXPERIMENTS,
    ApiError,
    Cluster,
    load_configuration,
    own_namespace,
)
from ada_operator.curriculum_poll import URL_TEMPLATE, CurriculumPoll
from ada_operator.handlers import Experiments, Seen, Watch, WatchAge, Wishes, build_registry
from ada_operator.inventory import place_of, take_inventory
from ada_operator.kept import Place
from ada_operator.leader import Leader, LeaseTimes, NotLeaderError
from ada_operator.metrics import OperatorMetrics
from ada_operator.observed import Manifest, Platform
from ada_operator.reconcile import ChildRefusedError, NameTakenError, Reconciler
from ada_operator.work_queue import ROUTINE_A_SECOND, WorkQueue

logger = logging.getLogger(__name__)

LEASE_NAME = "ada-operator"
LARGEST_WATCH_AGE_S = 300.0
LONGEST_RECONCILE_S = 300.0
INVENTORY_PAUSE_S, INVENTORY_PAUSE_EACH_S = 60.0, 0.05  # between two, at least; and for each experiment
WHOLE_COLLECTION_AFTER = 1000  # collections of the middle generation; Python's 10 are one in three seconds when busy
INVENTORIES_HOLD = 2.5  # pauses after which an inventory is not believed any more
EXIT_OK, EXIT_TROUBLE, EXIT_BAD_INPUT = 0, 1, 2


@dataclass(frozen=True)
class Options:
    """The command line, understood."""

    kubeconfig: str | None
    namespaces: tuple[str, ...]  # empty: all
    lease_namespace: str
    lease_times: LeaseTimes
    resync_s: float
    workers: int
    host: str
    port: int
    platform: Platform
    curriculum_url_template: str


def parse(argv: list[str]) -> Options:
    """Return the options of a command line; SystemExit with status 2 if it makes no sense."""
    parser = argparse.ArgumentParser("ada operator", description="Run the operator against a Kubernetes cluster.")
    parser.add_argument("--kubeconfig", metavar="FILE", help="cluster to use; in a pod, its own cluster if not given")
    parser.add_argument(
        "--namespace", action="append", default=[], metavar="NS", help="watch this one; may be repeated"
    )
    parser.add_argument("--all-namespaces", action="store_true", help="watch every namespace (the default)")
    parser.add_argument(
        "--lease-namespace", metavar="NS", help="where the lease of the leader is; the pod's own, if any"
    )
    parser.add_argument(
        "--lease-seconds", type=float, default=15.0, metavar="S", help="how long a lost leader is waited for"
    )
    parser.add_argument(
        "--resync-seconds", type=float, default=300.0, metavar="S", help="look at everything this often"
    )
    parser.add_argument("--workers", type=int, default=8, metavar="N", help="experiments worked on at once")
    parser.add_argument("--host", default="", help="address of health and metrics; all, if not given")
    parser.add_argument("--port", type=int, default=8080, help="port of health and metrics; 0 for any")
    parser.add_argument(
        "--platform", type=Path, metavar="FILE", help="YAML with images and defaults for all experiments"
    )
    arguments = parser.parse_args(argv)
    if arguments.all_namespaces and arguments.namespace:
        parser.error("--namespace and --all-namespaces exclude each other")
    if arguments.lease_seconds < 1 or arguments.resync_seconds < 1 or arguments.workers < 1:
        parser.error("--lease-seconds, --resync-seconds and --workers must be at least 1")
    try:
        platform = read_platform(arguments.platform)
    except (OSError, ValueError) as error:
        parser.error(f"--platform {arguments.platform}: {error}")
    first = arguments.namespace[0] if arguments.namespace else "default"
    return Options(
        kubeconfig=arguments.kubeconfig,
        namespaces=tuple(dict.fromkeys(arguments.namespace)),
        lease_namespace=arguments.lease_namespace or own_namespace() or first,
        lease_times=LeaseTimes(arguments.lease_seconds),
        resync_s=arguments.resync_seconds,
        workers=arguments.workers,
        host=arguments.host,
        port=arguments.port,
        platform=platform,
        curriculum_url_template=os.environ.get("ADA_CURRICULUM_URL_TEMPLATE", URL_TEMPLATE),
    )


def read_platform(path: Path | None) -> Platform:
    """Return the settings in a YAML file, the fields of `Platform` in camel case; the defaults for None.

    Raises:
        ValueError: the file has an unknown field or a value of the wrong type.
    """
    if path is None:
        return Platform()
    content = yaml.safe_load(path.read_text()) or {}
    if not isinstance(content, dict):
        raise ValueError("not a mapping")
    known = {to_camel(field.name): field.name for field in fields(Platform)}
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"unknown: {', '.join(map(str, unknown))}; known: {', '.join(known)}")
    try:
        return TypeAdapter(Platform).validate_python({known[key]: value for key, value in content.items()})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class Operator:
    """The parts of a running operator, and what goes on between them."""

    def __init__(self, options: Options, cluster: Cluster, poll: CurriculumPoll) -> None:
        self._options, self._cluster = options, cluster
        self.identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._leader = Leader(cluster, options.lease_namespace, LEASE_NAME, self.identity, options.lease_times)
        self._experiments, self._wishes, self._age = Experiments(), Wishes(), WatchAge()
        self._metrics = OperatorMetrics()
        self._reconciler = Reconciler(cluster, poll, options.platform, self._metrics, self.identity)
        plain_errors = (ApiError, NotLeaderError, NameTakenError, ChildRefusedError)
        self._queue = WorkQueue(self._reconciler.reconcile, plain_errors, self._reconciler.patience_s)
        poll.announce = lambda key, routine: self._queue.add(key, routine=routine)
        self._metrics.follow(lambda: len(self._queue), lambda: self._age.age_s, lambda: self._leader.leads)

    async def run(self) -> int:
        """Run until told to stop (0) or until the lease is lost (1)."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await self._serve()
        stopped = asyncio.create_task(stop.wait())
        leading = asyncio.create_task(self._lead())
        try:
            await asyncio.wait((stopped, leading), return_when=asyncio.FIRST_COMPLETED)
            if not leading.done():
                logger.info("told to stop")
                return EXIT_OK
            error = leading.exception()
            logger.error("ending: %s", error, exc_info=None if isinstance(error, NotLeaderError) else error)
            return EXIT_TROUBLE
        finally:
            for task in (stopped, leading):
                task.cancel()
            await asyncio.gather(stopped, leading, return_exceptions=True)
            await self._leader.release()
            await server.cleanup()

    async def _lead(self) -> None:
        """Take the lease, then act until it is lost."""
        await self._leader.acquire()
        self._cluster.fence = self._leader.check
        await self._wait_for_resource()
        loop = asyncio.get_running_loop()

        def notify(seen: Seen) -> None:  # called in the watches' thread, which may outlive our loop by a moment
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._note, seen)

        watch = Watch(build_registry(self._options.kubeconfig, notify), self._options.namespaces)
        watch.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._leader.keep())
                tasks.create_task(self._act(tasks))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await asyncio.to_thread(watch.stop)
            self._cluster.fence = lambda: None  # the lease is given back outside the fence

    def _note(self, seen: Seen) -> None:
        """Turn a watch event into a key."""
        metadata, kept = seen.metadata, self._reconciler.kept
        place = place_of(seen.resource, metadata)
        news = kept.heard(place, seen.resource.kind, seen.item, gone=seen.gone)
        if seen.resource is not EXPERIMENTS:
            if news:
                self._add(place)
            return
        self._age.saw(metadata["uid"], None if seen.gone else metadata["resourceVersion"])
        if seen.gone:
            self._experiments.remove(metadata["namespace"], metadata["name"])
            self._wishes.forget(metadata["uid"])
        else:
            self._experiments.add(metadata["namespace"], metadata["name"])
        if seen.gone or self._wishes.changed(metadata):
            self._queue.add((metadata["namespace"], metadata["name"]))

    def _add(self, place: Place) -> None:
        """Have the experiment of a place looked at, if there is one."""
        key = self._experiments.key(place)
        if key:
            self._queue.add(key)

    async def _act(self, tasks: asyncio.TaskGroup) -> None:
        """Learn what is there, work on what was heard, and look at every experiment now and then in any case."""
        await self._take_inventory()
        for _ in range(self._options.workers):
            tasks.create_task(self._queue.run_worker())
        all_looked_at = time.monotonic()
        while True:
            await asyncio.sleep(self._inventory_pause_s())
            experiments = await self._take_inventory()
            if experiments is not None and time.monotonic() - all_looked_at >= self._options.resync_s:
                all_looked_at = time.monotonic()
                self._look_at_all(experiments)

    async def _take_inventory(self) -> list[Manifest] | None:
        """List everything, whatever the watches said or did not say; return the experiments' metadata if that went."""
        kept = self._reconciler.kept
        kept.lists_hold_s = INVENTORIES_HOLD * self._inventory_pause_s()
        try:
            listed = await take_inventory(self._cluster, kept, self._options.namespaces, self._add)
        except ApiError as error:
            logger.warning("could not list the experiments and their children: %s", error)
            return None
        self._age.compare({item["uid"]: item["resourceVersion"] for item in listed})
        for metadata in listed:
            if self._experiments.add(metadata["namespace"], metadata["name"]):
                self._queue.add((metadata["namespace"], metadata["name"]))
        return listed

    def _inventory_pause_s(self) -> float:
        """Return how long to wait between two inventories: they take longer with more experiments."""
        pause_s = max(INVENTORY_PAUSE_S, INVENTORY_PAUSE_EACH_S * len(self._reconciler.kept))
        return min(pause_s, self._options.resync_s)

    def _look_at_all(self, experiments: list[Manifest]) -> None:
        """Have every experiment looked at, spread out, and read what no list tells."""
        over_s = min(self._options.resync_s, len(experiments) / ROUTINE_A_SECOND)
        for metadata in experiments:
            key = metadata["namespace"], metadata["name"]
            self._reconciler.doubt_unlisted(key)
            self._queue.add_after(key, over_s * random.random())

    async def _wait_for_resource(self) -> None:
        """Return once the API server knows our resource and lets us read it."""
        while True:
            try:
                for namespace in self._options.namespaces or (None,):
                    await self._cluster.list(EXPERIMENTS, namespace)
            except ApiError as error:
                hint = "; is the CustomResourceDefinition installed?" if error.status == 404 else ""
                logger.warning("can't read the experiments: %s%s", error, hint)
                await asyncio.sleep(5)
            else:
                return

    async def _serve(self) -> web.AppRunner:
        application = web.Application()
        application.add_routes([web.get("/healthz", self._health), web.get("/metrics", self._show_metrics)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, self._options.host or None, self._options.port)
        await site.start()
        logger.info("health and metrics on %s", ", ".join(f"{one[0]}:{one[1]}" for one in runner.addresses))
        return runner

    async def _health(self, request: web.Request) -> web.Response:
        """Answer 200 while this replica waits, or leads and gets on."""
        if self._leader.leads:
            if self._age.age_s > max(LARGEST_WATCH_AGE_S, 3 * self._options.resync_s):
                return web.Response(status=503, text=f"no watch event for {self._age.age_s:.0f} s\n")
            busy_s = self._reconciler.longest_running_s()
            if busy_s > LONGEST_RECONCILE_S:
                return web.Response(status=503, text=f"a reconciliation has been running for {busy_s:.0f} s\n")
        return web.Response(text="ok\n")

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def run(options: Options) -> int:
    """Connect and run the operator; the result is the exit status."""
    configuration = await load_configuration(options.kubeconfig)
    cluster = Cluster(configuration, options.lease_times.write_timeout_s)
    poll = CurriculumPoll(options.curriculum_url_template)
    try:
        return await Operator(options, cluster, poll).run()
    finally:
        await poll.close()
        await cluster.close()


def spare_collections() -> None:
    """Have Python look through the whole memory for garbage in cycles only now and then.

    Nothing else goes on meanwhile, for up to a second with what a thousand experiments fill, and almost all garbage is
    young or in no cycle.
    """
    gc.freeze()  # what was loaded stays
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, WHOLE_COLLECTION_AFTER)


def main(argv: list[str] | None = None) -> int:
    """Run `ada operator` with these arguments and return its exit status."""
    options = parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(
        level=os.environ.get("ADA_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    spare_collections()
    logging.getLogger("kopf").setLevel("WARNING")
    logging.getLogger("kopf._core.reactor.running").setLevel("ERROR")  # it says that signals are ours: they are
    try:
        return asyncio.run(run(options))
    except ConfigException as error:
        sys.stderr.write(f"ada operator: no cluster to talk to: {error}\n")
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    raise SystemExit(main())
