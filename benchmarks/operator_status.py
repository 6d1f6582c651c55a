"""How soon the status of an experiment shows what became of its pods."""

import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from benchmarks.operator_requests import LABEL, NAMESPACE
from benchmarks.peer import note
from benchmarks.row import Row, cost_row

SEEN_S = 60.0
CHANGES_A_SECOND = 10.0
STATUS_LIMIT_S = 1.0


@dataclass
class Change:
    """A pod of an experiment that became ready or not, and when that was seen in the Job's and in our status."""

    ready: int
    job: float | None = None
    status: float | None = None


class Observer:
    """Watches Jobs and experiments, and notes when a change that is awaited is seen."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        self.api = client.ApiClient(configuration)
        self.pods = client.CoreV1Api(self.api)
        self.changes: dict[str, Change] = {}  # by experiment
        self._lock = threading.Lock()
        self._over = False
        resources = client.CustomObjectsApi(self.api)
        jobs = (resources.list_namespaced_custom_object, "batch", "v1", "jobs", self._see_job)
        ours = (resources.list_namespaced_custom_object, "ada.dev", "v1alpha1", "adaexperiments", self._see_status)
        for look, group, version, plural, see in (jobs, ours):
            thread = threading.Thread(target=self._watch, args=(look, group, version, plural, see), daemon=True)
            thread.start()

    def end(self) -> None:
        """Look no longer."""
        self._over = True

    def _watch(self, look: Any, group: str, version: str, plural: str, see: Any) -> None:
        while not self._over:
            with suppress(HTTPError, client.ApiException):  # looked at anew; at the end the API server is gone
                for event in watch.Watch().stream(look, group, version, NAMESPACE, plural, timeout_seconds=30):
                    if self._over:
                        return
                    with self._lock:
                        see(event["object"], time.monotonic())

    def _see_job(self, seen: dict[str, Any], now: float) -> None:
        owner = seen["metadata"].get("labels", {}).get(LABEL, "")
        change = self.changes.get(owner)
        if change and change.job is None and int(seen.get("status", {}).get("ready") or 0) == change.ready:
            change.job = now

    def _see_status(self, seen: dict[str, Any], now: float) -> None:
        change = self.changes.get(seen["metadata"]["name"])
        nodes = seen.get("status", {}).get("nodes", {})
        if change and change.job is not None and change.status is None and nodes.get("ready") == change.ready:
            change.status = now


def status_rows(kubeconfig: Path, count: int, training: int) -> Iterator[Row]:
    """Make trainer pods unready and ready again; compare the slowest status of a hundred with the limit.

    The clock runs from the event that tells of the Job's new status, which the operator is sent at the same time, to
    the event that tells of the experiment's; both as seen by one watcher.
    """
    observer = Observer(kubeconfig)
    selector = f"{LABEL},ada.dev/part=trainer"
    pods = observer.pods.list_namespaced_pod(NAMESPACE, label_selector=selector).items
    if not pods:
        note("no trainer pod runs, so no change of the cluster could be made")
        return
    time.sleep(2.0)
    delays: list[float] = []
    lost = 0
    for ready in (0, 1):
        chosen = random.Random(0).sample(pods, min(len(pods), count // 2))
        observer.changes = {pod.metadata.labels[LABEL]: Change(ready) for pod in chosen}
        for pod in chosen:
            condition = {"type": "Ready", "status": "True" if ready else "False"}
            body = {"status": {"conditions": [condition]}}
            observer.pods.patch_namespaced_pod_status(pod.metadata.name, NAMESPACE, body)
            time.sleep(1 / CHANGES_A_SECOND)
        give_up = time.monotonic() + SEEN_S
        while any(change.status is None for change in observer.changes.values()) and time.monotonic() < give_up:
            time.sleep(0.1)
        seen = [(change.job, change.status) for change in observer.changes.values()]
        delays += [status - job for job, status in seen if job is not None and status is not None]
        lost += sum(job is None or status is None for job, status in seen)
    observer.end()
    if not delays:
        raise RuntimeError("no change of the cluster was seen in a status")
    if lost:
        note(f"{lost} of {lost + len(delays)} changes were not seen in a status, or only after the Job was read")
    p99 = sorted(delays)[min(len(delays) - 1, int(0.99 * len(delays)))]
    note(f"from a change to the status: median {statistics.median(delays):.3f} s, {len(delays)} changes")
    what = f"seconds from a change of the cluster to the status that shows it, p99, {training} running"
    yield cost_row("operator", what, p99, STATUS_LIMIT_S, "limit", 1)
