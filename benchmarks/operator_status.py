"""How soon the status of an experiment shows what became of its pods."""

import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from ada_operator.observed import is_ready
from benchmarks.operator_requests import LABEL, NAMESPACE
from benchmarks.peer import note
from benchmarks.row import Row, cost_row

SEEN_S = 60.0
TRAINERS = f"{LABEL},ada.dev/part=trainer"
CHANGES_A_SECOND = 10.0
STATUS_LIMIT_S = 1.0


@dataclass
class Change:
    """A trainer pod that became ready or not, and when that was seen in its own and in the experiment's status."""

    pod: str
    ready: int
    seen: float | None = None
    status: float | None = None


class Observer:
    """Watches trainer pods and experiments, and notes when a change that is awaited is seen."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        self.api = client.ApiClient(configuration)
        self.pods = client.CoreV1Api(self.api)
        self.changes: dict[str, Change] = {}  # by experiment
        self.shown: dict[str, int] = {}  # how many ready nodes each experiment's status shows
        self._lock = threading.Lock()
        self._over = False
        resources = client.CustomObjectsApi(self.api)
        pods = partial(self.pods.list_namespaced_pod, NAMESPACE, label_selector=TRAINERS)
        ours = partial(resources.list_namespaced_custom_object, "ada.dev", "v1alpha1", NAMESPACE, "adaexperiments")
        for look, see in ((pods, self._see_pod), (ours, self._see_status)):
            threading.Thread(target=self._watch, args=(look, see), daemon=True).start()

    def end(self) -> None:
        """Look no longer."""
        self._over = True

    def _watch(self, look: Any, see: Any) -> None:
        while not self._over:
            with suppress(HTTPError, client.ApiException):  # looked at anew; at the end the API server is gone
                for event in watch.Watch().stream(look, deserialize=False):
                    if self._over:
                        return
                    with self._lock:
                        see(event["object"], time.monotonic())

    def _see_pod(self, seen: dict[str, Any], now: float) -> None:
        change = self.changes.get(seen["metadata"].get("labels", {}).get(LABEL, ""))
        if change and change.seen is None and seen["metadata"]["name"] == change.pod and is_ready(seen) == change.ready:
            change.seen = now

    def _see_status(self, seen: dict[str, Any], now: float) -> None:
        name = seen["metadata"]["name"]
        change = self.changes.get(name)
        self.shown[name] = seen.get("status", {}).get("nodes", {}).get("ready", 0)
        if change and change.status is None and self.shown[name] == change.ready:
            change.status = now

    def wait_until_shown(self, ready: dict[str, int]) -> bool:
        """Wait, bounded, until these experiments' statuses show so many ready nodes; return whether they do."""
        give_up = time.monotonic() + SEEN_S
        while any(self.shown.get(name) != nodes for name, nodes in ready.items()):
            if time.monotonic() > give_up:
                return False
            time.sleep(0.1)
        return True


def status_rows(kubeconfig: Path, count: int, training: int) -> Iterator[Row]:
    """Make trainer pods unready and ready again; compare the slowest status of a hundred with the limit.

    The clock runs from the event that tells of the pod's new condition, which the operator is sent at the same time,
    to the event that tells of the experiment's new status; both as seen by one watcher.
    """
    observer = Observer(kubeconfig)
    pods = observer.pods.list_namespaced_pod(NAMESPACE, label_selector=TRAINERS).items
    if not pods:
        note("no trainer pod runs, so no change of the cluster could be made")
        return
    if not observer.wait_until_shown({pod.metadata.labels[LABEL]: 1 for pod in pods}):
        note("not every trainer pod that is there is shown as ready")
    delays: list[float] = []
    lost = 0
    for ready in (0, 1):
        chosen = random.Random(0).sample(pods, min(len(pods), count // 2))
        observer.changes = {pod.metadata.labels[LABEL]: Change(pod.metadata.name, ready) for pod in chosen}
        for pod in chosen:
            condition = {"type": "Ready", "status": "True" if ready else "False"}
            body = {"status": {"conditions": [condition]}}
            observer.pods.patch_namespaced_pod_status(pod.metadata.name, NAMESPACE, body)
            time.sleep(1 / CHANGES_A_SECOND)
        observer.wait_until_shown({name: change.ready for name, change in observer.changes.items()})
        seen = [(change.seen, change.status) for change in observer.changes.values()]
        delays += [status - pod for pod, status in seen if pod is not None and status is not None]
        lost += sum(pod is None or status is None for pod, status in seen)
    observer.end()
    if not delays:
        raise RuntimeError("no change of the cluster was seen in a status")
    if lost:
        note(f"{lost} of {lost + len(delays)} changes were not seen")
    p99 = sorted(delays)[min(len(delays) - 1, int(0.99 * len(delays)))]
    note(f"from a change to the status: median {statistics.median(delays):.3f} s, {len(delays)} changes")
    what = f"seconds from a change of the cluster to the status that shows it, p99, {training} running"
    yield cost_row("operator", what, p99, STATUS_LIMIT_S, "limit", 1)
