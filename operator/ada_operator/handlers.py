"""kopf watches, and decides nothing: every event is turned into the key of an experiment for our own queue.

kopf runs in a thread with an event loop of its own, so that whatever happens to it happens to it alone: it ends on
errors it deems fatal and is then started again, and the slow resync covers what was missed meanwhile. It is given
nothing to keep in the objects: no annotations, no finalizers, no events.
"""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import kopf

from ada_operator import names
from ada_operator.cluster import EXPERIMENTS, LABELLED, Resource, load_configuration
from ada_operator.kept import Packed, Place, pack
from ada_operator.observed import Manifest
from ada_operator.work_queue import Key, backoff_s

logger = logging.getLogger(__name__)

CHUNK = 100  # objects that a watch begins with, at once: whole lists of thousands fill the memory
IDLE_S = 0.2  # for which kopf keeps a task for an object, and with it the object as it last was
RESTART_AFTER_S = 60.0  # a watch that held for this long is not part of a row of failures


class EndlessBackoff:
    """Delays between attempts for ever: doubling, capped, with jitter; iterable any number of times."""

    def __iter__(self) -> Iterator[float]:
        failures = 0
        while True:
            failures += 1
            yield backoff_s(failures, random.random())


class NoProgress(kopf.ProgressStorage):
    """Keeps nothing: our handlers are plain event handlers, which have no progress."""

    def fetch(self, **_: Any) -> None:
        """Know nothing."""

    def store(self, **_: Any) -> None:
        """Keep nothing."""

    def purge(self, **_: Any) -> None:
        """Remove nothing."""

    def touch(self, **_: Any) -> None:
        """Change nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Return the essence as it is."""
        return essence


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps nothing: we compare with what is there, not with what was."""

    def build(self, **_: Any) -> Any:
        """Return nothing to compare: a copy of every object, for handlers that we don't have, is dear."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Know nothing."""

    def store(self, **_: Any) -> None:
        """Keep nothing."""


def watch_settings() -> kopf.OperatorSettings:
    """Return settings under which kopf only reads, and does not give up."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # started only once the resource is there
    settings.peering.standalone = True  # leader election is by Lease
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.networking.error_backoffs = EndlessBackoff()
    settings.networking.request_timeout = 60.0
    settings.watching.chunk_size = CHUNK
    settings.queueing.idle_timeout = IDLE_S
    settings.process.ultimate_exiting_timeout = None  # it is a thread here: nobody may be killed for it
    for resource in LABELLED:
        settings.watching.label_selectors[_selector(resource)] = names.EXPERIMENT_LABEL
    return settings


def _selector(resource: Resource) -> tuple[str, str, str]:
    return resource.group, resource.api_version.rpartition("/")[2], resource.plural


@dataclass(frozen=True)
class Seen:
    """What a watch event says: which object, as it is now or as it went; packed where there is nothing to hold up."""

    resource: Resource
    metadata: Manifest
    item: Packed
    gone: bool


class Experiments:
    """Which experiment a child's label means: labels are bounded in length, names are not."""

    def __init__(self) -> None:
        self._names: dict[Place, str] = {}

    def add(self, namespace: str, name: str) -> bool:
        """Note an experiment; return whether it was not known."""
        place = namespace, names.scope(name)
        is_new = place not in self._names
        self._names[place] = name
        return is_new

    def remove(self, namespace: str, name: str) -> None:
        """Forget an experiment; its children go with it."""
        self._names.pop((namespace, names.scope(name)), None)

    def key(self, place: Place) -> Key | None:
        """Return the key of the experiment of a place, if it is known."""
        name = self._names.get(place)
        return (place[0], name) if name else None


class Wishes:
    """Tells a change of what is wanted from the echo of our own status writes, which must not wake us."""

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}  # by uid

    def changed(self, metadata: Any) -> bool:
        """Return whether anything but the status differs from the last time."""
        parts = ("generation", "deletionTimestamp", "labels", "annotations")
        now = {part: metadata.get(part) for part in parts}
        before, self._seen[metadata["uid"]] = self._seen.get(metadata["uid"]), now
        return before != now

    def forget(self, uid: str) -> None:
        """Forget an experiment that is gone."""
        self._seen.pop(uid, None)


class WatchAge:
    """When the watches were last known to deliver.

    Every event proves it. Where nothing happens, the resync does: it lists the experiments, and each version it finds
    must have come by watch too, at the latest by the next resync.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._proven_at = clock()
        self._watched: dict[str, str] = {}  # uid: version
        self._listed: dict[str, str] = {}

    @property
    def age_s(self) -> float:
        """Seconds since the watches were last known to deliver."""
        return self._clock() - self._proven_at

    def saw(self, uid: str, version: str | None) -> None:
        """Note an event of an experiment; `version` is None if it is gone."""
        self._proven_at = self._clock()
        if version is None:
            self._watched.pop(uid, None)
        else:
            self._watched[uid] = version

    def compare(self, listed: dict[str, str]) -> None:
        """Note the versions by uid that a list returned."""
        unseen = {uid: version for uid, version in listed.items() if self._watched.get(uid) != version}
        if not any(self._listed.get(uid) == version for uid, version in unseen.items()):
            self._proven_at = self._clock()
        self._listed = listed


def build_registry(kubeconfig: str | None, notify: Callable[[Seen], None]) -> kopf.OperatorRegistry:
    """Return the handlers: a login, and one for the events of each kind; they only call `notify`."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, backoff=5.0)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(kubeconfig)

    for resource in (EXPERIMENTS, *LABELLED):

        async def on_event(*, event: Any, param: Any = resource, **_: Any) -> None:
            item = {**event["object"], "kind": param.kind, "apiVersion": param.api_version}
            notify(Seen(param, item["metadata"], pack(item), gone=event["type"] == "DELETED"))

        kopf.on.event(*_selector(resource), registry=registry, id=resource.plural, param=resource)(on_event)
    return registry


async def connection(kubeconfig: str | None) -> kopf.ConnectionInfo:
    """Return address and credentials for kopf; read anew at every login, since tokens change."""
    configuration = await load_configuration(kubeconfig)
    header = await configuration.get_api_key_with_prefix("BearerToken", "authorization") or ""
    scheme, _, token = header.rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


# For peering, which is off. Left to itself kopf asks for the user's name, which the user id of an image may not have.
IDENTITY: Any = "ada-operator"


class Watch:
    """kopf in its thread, started again whenever it ends by itself."""

    def __init__(self, registry: kopf.OperatorRegistry, namespaces: Collection[str]) -> None:
        """Watch these namespaces; all of them if there are none."""
        self._registry, self._namespaces = registry, namespaces
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End, waiting a bounded time for it."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                asyncio.run(self._watch())
            except Exception as error:
                failures = 1 if time.monotonic() - began > RESTART_AFTER_S else failures + 1
                logger.error("the watches ended: %r; starting them again", error)
            if not self._stop.is_set():
                self._stop.wait(backoff_s(max(failures, 1), random.random()))

    async def _watch(self) -> None:
        everywhere = not self._namespaces
        await kopf.operator(
            registry=self._registry,
            settings=watch_settings(),
            stop_flag=self._stop,
            identity=IDENTITY,
            clusterwide=everywhere,
            namespaces=() if everywhere else list(self._namespaces),
        )
