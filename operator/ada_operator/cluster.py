"""The Kubernetes API as the operator uses it: plain dicts in, plain dicts out, every write fenced.

No decisions here, and no cache. Kubernetes' own Python client does configuration, TLS, authentication and token
refresh; the requests go straight to aiohttp, since that client takes three times as long for one (it hands every
request to threads that look for proxies and .netrc, and copies every body).
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import load_incluster_config, load_kube_config
from pydantic_core import from_json, to_json

from ada_operator.connections import ClosedConnector
from ada_operator.observed import Manifest

FIELD_MANAGER = "ada-operator"
READ_TIMEOUT_S = 30.0
CLOCK_TOLERANCE_S = 5.0  # an answer may be that late before it means that the API server's clock was set back
PAGE = 100  # objects a page of a list
AT_ONCE = 100  # connections
NEVER_A_VERSION = "1"  # etcd's revision before anything is written: no object has it
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Resource:
    """A kind of object and where the API server keeps it."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Return the URL path of an object, or of the collection; of all namespaces for None."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        place = f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"
        return f"{place}/{quote(name, safe='')}" if name else place


EXPERIMENTS = Resource("ada.dev/v1alpha1", "AdaExperiment", "adaexperiments")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
SECRETS = Resource("v1", "Secret", "secrets")
SERVICES = Resource("v1", "Service", "services")
PODS = Resource("v1", "Pod", "pods")
STATEFUL_SETS = Resource("apps/v1", "StatefulSet", "statefulsets")
JOBS = Resource("batch/v1", "Job", "jobs")
DISRUPTION_BUDGETS = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
EVENTS = Resource("events.k8s.io/v1", "Event", "events")
LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")

# Children that are listed and watched by label. Secrets are not: they are read one by one, so that the operator needs
# no right to list the secrets of others.
LABELLED = (CONFIG_MAPS, SERVICES, PODS, STATEFUL_SETS, JOBS, DISRUPTION_BUDGETS, NETWORK_POLICIES)
BY_KIND = {resource.kind: resource for resource in (EXPERIMENTS, SECRETS, EVENTS, LEASES, *LABELLED)}

# Everything the operator asks of the API server: whoever installs it grants exactly this.
PERMISSIONS: dict[Resource, tuple[str, ...]] = {
    EXPERIMENTS: ("get", "list", "watch", "delete"),
    SECRETS: ("get", "create", "patch", "delete"),
    PODS: ("list", "watch"),
    CONFIG_MAPS: ("get", "list", "watch", "create", "patch"),
    **{
        resource: ("get", "list", "watch", "create", "patch", "delete")
        for resource in (SERVICES, STATEFUL_SETS, JOBS, DISRUPTION_BUDGETS, NETWORK_POLICIES)
    },
    EVENTS: ("create",),
}
SUBRESOURCE_PERMISSIONS: dict[tuple[Resource, str], tuple[str, ...]] = {
    (EXPERIMENTS, "status"): ("update",),
    (EXPERIMENTS, "finalizers"): ("update",),  # to name an experiment as an owner that blocks its own deletion
}
LEASE_PERMISSIONS = ("get", "create", "update")  # in the lease's namespace alone


Labels = Mapping[str, str | None]  # None: whatever the value


@dataclass(frozen=True)
class Page:
    """A part of a list, and the version of the whole of it."""

    items: list[Manifest]
    version: int


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, method: str, path: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{method} {path}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Cluster:
    """A connection to one API server."""

    def __init__(self, configuration: Configuration, write_timeout_s: float = 5.0) -> None:
        self._configuration, self._write_timeout_s = configuration, write_timeout_s
        self._proxy = configuration.proxy or proxy_of_environment(configuration.host)
        self._tls: Any = RESTClientObject(configuration).ssl_context
        self._session: aiohttp.ClientSession | None = None
        self.fence: Callable[[], None] = lambda: None  # raises where this process may not write any more
        self._ahead_s: float | None = None  # the API server's clock less our monotonic one

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:  # made in the event loop that uses it
            self._session = aiohttp.ClientSession(
                connector=ClosedConnector(self._tls, AT_ONCE),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": FIELD_MANAGER, "Accept": "application/json"},
                read_bufsize=1 << 21,
            )
        return self._session

    def now(self) -> float:
        """Return the API server's time (s since 1970), by which all times in the objects are: our clock may jump."""
        return time.time() if self._ahead_s is None else time.monotonic() + self._ahead_s

    def _set_clock(self, date: str | None) -> None:
        """Take over the time of an answer, which has whole seconds, cut off: the latest is the nearest."""
        if date is None:
            return
        ahead_s = parsedate_to_datetime(date).timestamp() - time.monotonic()
        if self._ahead_s is None or not self._ahead_s - CLOCK_TOLERANCE_S < ahead_s < self._ahead_s:
            self._ahead_s = ahead_s

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if there is none."""
        try:
            return await self._request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, resource: Resource, namespace: str | None, labels: Labels | None = None) -> list[Manifest]:
        """Return the objects of a namespace (all namespaces for None) that carry the labels."""
        return [item async for page in self.pages(resource, namespace, labels) for item in page.items]

    async def pages(
        self, resource: Resource, namespace: str | None, labels: Labels | None = None
    ) -> AsyncIterator[Page]:
        """Yield the objects of a namespace (all namespaces for None) that carry the labels, page by page."""
        query = {"limit": str(PAGE)}
        if labels:
            terms = (key if value is None else f"{key}={value}" for key, value in sorted(labels.items()))
            query["labelSelector"] = ",".join(terms)
        while True:
            found = await self._request("GET", resource.path(namespace), query)
            whole = {"apiVersion": resource.api_version, "kind": resource.kind}  # items don't repeat what they are
            items = [slim({**item, **whole}) for item in found["items"]]
            yield Page(items, int(found["metadata"]["resourceVersion"]))
            following = found["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following

    async def apply(self, manifest: Manifest, *, new: bool = False) -> Manifest:
        """Create the object or put its fields right (server-side apply), and return it as it is now.

        Args:
            new: only create it. It is asked for by a version that no object has: one that is there is not of it, and
                where there is none the API server has nothing to compare.

        Raises:
            ApiError: among others with status 409 if there is one though it should be new, or another than that of
                `manifest`'s uid.
        """
        metadata = manifest["metadata"]
        if new:
            manifest = {**manifest, "metadata": {**metadata, "resourceVersion": NEVER_A_VERSION}}
        path = BY_KIND[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._write("PATCH", path, query, manifest, "application/apply-patch+yaml")

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object.

        Raises:
            ApiError: among others with status 409 if there is one already.
        """
        path = BY_KIND[manifest["kind"]].path(manifest["metadata"]["namespace"])
        return await self._write("POST", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def replace(self, manifest: Manifest, subresource: str | None = None) -> Manifest:
        """Replace an object or its subresource, if nobody changed it since it was read.

        Raises:
            ApiError: among others with status 409 if somebody did.
        """
        metadata = manifest["metadata"]
        path = BY_KIND[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        path = f"{path}/{subresource}" if subresource else path
        return await self._write("PUT", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str | None = None) -> bool:
        """Delete an object and what it owns; return whether it was there.

        Args:
            uid: delete only this one, not another of its name that came after it.
        """
        options: Manifest = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._write("DELETE", resource.path(namespace, name), {}, options)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def _write(
        self, method: str, path: str, query: dict[str, str], body: Manifest, content: str = "application/json"
    ) -> Manifest:
        self.fence()
        return await self._request(method, path, query, body, content, self._write_timeout_s)

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Manifest | None = None,
        content: str = "application/json",
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Manifest:
        """Send one request and return the answer.

        Raises:
            ApiError: the API server refused it, or can't be reached (status 0).
        """
        headers = {"Content-Type": content}
        token = await self._configuration.get_api_key_with_prefix("BearerToken", "authorization")
        if token:
            headers["Authorization"] = token
        url = f"{self._configuration.host}{path}?{urlencode(query)}" if query else f"{self._configuration.host}{path}"
        try:
            async with self._connections().request(
                method,
                url,
                data=None if body is None else to_json(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(timeout_s),
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._configuration.proxy_headers,
                server_hostname=self._configuration.tls_server_name,
            ) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(method, path, 0, type(error).__name__, str(error)) from error
        self._set_clock(response.headers.get("Date"))
        if response.status >= 400:
            reason, message = _explanation(data)
            raise ApiError(method, path, response.status, reason or str(response.reason), message)
        found: Manifest = from_json(data)
        return slim(found)


def slim(item: Manifest) -> Manifest:
    """Return an object without what nobody here reads and what would fill the memory: field owners, specs of pods.

    An object that is sent back without field owners keeps those that it has.
    """
    metadata = {key: value for key, value in item.get("metadata", {}).items() if key != "managedFields"}
    found = {**item, "metadata": metadata}
    if item.get("kind") == PODS.kind:
        containers = item.get("spec", {}).get("containers", [])
        kept = [{key: one[key] for key in ("name", "image", "resources") if key in one} for one in containers]
        found["spec"] = {"nodeName": item.get("spec", {}).get("nodeName"), "containers": kept}
    return found


def proxy_of_environment(server: str) -> str | None:
    """Return the proxy that the environment names for a server, if any; looked for once, not for every request."""
    parts = urlsplit(server)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


def _explanation(data: bytes) -> tuple[str, str]:
    """Return reason and message of the Status object in a refusal."""
    try:
        status = from_json(data)
        return str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        return "", data[:500].decode(errors="replace")


async def load_configuration(kubeconfig: str | None) -> Configuration:
    """Return how to reach the API server: by a kubeconfig if one is named or set, else as a pod of the cluster.

    Raises:
        ConfigException: neither leads to a cluster.
    """
    configuration: Configuration = type.__call__(Configuration)  # not the process-wide default
    if kubeconfig is None and SERVICE_ACCOUNT_NAMESPACE.exists():
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return configuration
    await load_kube_config(  # type: ignore[no-untyped-call]
        config_file=kubeconfig, client_configuration=configuration, persist_config=False
    )
    return configuration


def own_namespace() -> str | None:
    """Return the namespace of the pod that this is, or None outside a cluster."""
    return SERVICE_ACCOUNT_NAMESPACE.read_text().strip() if SERVICE_ACCOUNT_NAMESPACE.exists() else None


def covers(observed: Any, wanted: Any) -> bool:
    """Return whether every field of `wanted` stands in `observed` with that value; further fields are others' business.

    Lists must have the same length and cover item by item; a number and its text are equal, as quantities are; an empty
    value is the same as none.
    """
    match wanted:
        case dict():
            known = observed if isinstance(observed, dict) else {}
            return all(covers(known.get(key), value) for key, value in wanted.items())
        case list():
            known_items = observed if isinstance(observed, list) else []
            return len(known_items) == len(wanted) and all(map(covers, known_items, wanted))
        case None | "":
            return not observed
        case bool():
            return bool(observed) == wanted
        case int() | float():
            return str(observed) == str(wanted)
        case _:
            return bool(observed == wanted)
