"""The operator on a real control plane with simulated nodes: many experiments at once.

API server, etcd, scheduler and controller manager are the ones that the tests build; KWOK plays nodes and pods, and a
small HTTP server in this process plays every experiment's curriculum service.
"""

import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from tests.cluster.build import missing_programs
from tests.cluster.control_plane import PROGRAMS, ControlPlane, fake_nodes
from tests.cluster.processes import start, stop, wait_until
from urllib3.exceptions import HTTPError

from ada_api.progress import Progress, StageProgress
from benchmarks.peer import note
from benchmarks.row import Row, cost_row, rate_row
from benchmarks.timing import Effort

ROOT = Path(__file__).parents[1]
EXPERIMENTS, FEW = 200, 3
NAMESPACE, LABEL, STAGE = "benchmark", "ada.dev/experiment", "only"
NODES = 20  # of 1,000 pods each
CHILDREN_S, TRAINING_S, SEEN_S = 300.0, 240.0, 60.0
CHANGES, FEW_CHANGES = 200, 4
CHANGES_A_SECOND = 10.0
STATUS_LIMIT_S, MEMORY_LIMIT = 1.0, 300e6


def rows(effort: Effort, experiments: int | None = None) -> Iterator[Row]:
    """Apply experiments at once; then change their pods one by one and look when the status shows it."""
    if missing := missing_programs(*PROGRAMS):
        note(f"{', '.join(missing)} not built: `python tests/prepare.py` builds what this part needs")
        return
    count = experiments or (FEW if effort.small else EXPERIMENTS)
    with ControlPlane() as plane, tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        prepare(plane)
        with running_operator(plane, Path(folder)) as pid:
            yield from apply_rows(plane, count)
            memory = resident_bytes(pid)
            training = wait_for_training(plane, count)
            note(f"{training} of {count} experiments reached phase Training")
            yield from status_rows(plane, FEW_CHANGES if effort.small else CHANGES, training)
            memory = max(memory, resident_bytes(pid))
    yield cost_row("operator", f"resident bytes of the operator, {count} experiments", memory, MEMORY_LIMIT, "limit", 1)


def prepare(plane: ControlPlane) -> None:
    """Install the resource, more nodes, and a namespace."""
    plane.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
    plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/adaexperiments.ada.dev")
    plane.kubectl.apply(*fake_nodes(NODES))
    plane.kubectl("create", "namespace", NAMESPACE)


@contextmanager
def running_operator(plane: ControlPlane, folder: Path) -> Iterator[int]:
    """Run an operator and the played curriculum services; yields its process id once it leads."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), PlayedCurriculum)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    platform, log = folder / "platform.json", folder / "operator.log"
    platform.write_text(json.dumps({"defaultStore": (folder / "store").as_uri()}))
    template = f"http://127.0.0.1:{server.server_port}/{{namespace}}/{{name}}"
    process = start(
        [
            *[sys.executable, "-m", "ada_operator.program", "--kubeconfig", str(plane.kubeconfig)],
            *["--namespace", NAMESPACE, "--host", "127.0.0.1", "--port", "0", "--platform", str(platform)],
        ],
        log,
        {**os.environ, "ADA_CURRICULUM_URL_TEMPLATE": template},
    )
    lease = ("get", "lease", "ada-operator", f"--namespace={NAMESPACE}")
    try:
        wait_until("leader", lambda: plane.kubectl.run(*lease).returncode == 0, 60, log.read_text)
        time.sleep(2.0)  # until its watches stand
        yield process.pid
    finally:
        stop(process)
        server.shutdown()
        server.server_close()


class PlayedCurriculum(BaseHTTPRequestHandler):
    """Says of every experiment that it trains and gets on."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer /NAMESPACE/NAME/v1/progress."""
        _, namespace, name, *_ = self.path.split("/")
        now = time.time()
        stage = StageProgress(
            stage=STAGE, generation=1, phase="training", frames=int(now) % 10**6, workers=1, last_progress=now
        )
        body = Progress(experiment=f"{namespace}/{name}", stages=[stage]).model_dump_json(by_alias=True).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""


def experiment(number: int) -> dict[str, Any]:
    """Return one of the experiments."""
    return {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": f"run-{number}", "namespace": NAMESPACE},
        "spec": {
            "environment": {"observation": "symbolic"},
            "stages": [{"name": STAGE, "frames": 10**12}],
        },
    }


def job(number: int) -> dict[str, Any]:
    """Return one of the Jobs; suspended, so that it makes no pods that would slow the others down."""
    container = {"name": "only", "image": "none", "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": f"job-{number}", "namespace": NAMESPACE}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"suspend": True, "template": template},
    }


def apply_rows(plane: ControlPlane, count: int) -> Iterator[Row]:
    """Compare the time until each of the experiments has a child with that of making as many Jobs."""
    plane.kubectl.apply(*(job(number) for number in range(count)))
    plane.kubectl.apply(*(experiment(number) for number in range(count)))
    selector = f"--selector={LABEL}"
    list_children = ("get", "configmaps", f"--namespace={NAMESPACE}", selector, "--output=name")
    wait_until("child of each", lambda: len(plane.kubectl(*list_children).split()) >= count, CHILDREN_S)
    times = Times()
    for entry in plane.audit():
        times.add(entry)
    jobs = max(times.jobs.values()) - min(times.jobs.values())
    ours = max(times.first_child.values()) - min(times.experiments.values())
    if len(times.first_child) < count or len(times.jobs) < count:
        raise RuntimeError(f"the audit log knows {len(times.first_child)} first children and {len(times.jobs)} Jobs")
    what = f"experiments a second, {count} applied at once, to the first child of all"
    yield rate_row("operator", what, count / ours, count / jobs, "kubectl apply of as many suspended Jobs, Jobs/s", 0.5)
    lags = [times.first_child[name] - made for name, made in times.experiments.items()]
    note(f"from an experiment's creation to its first child: median {statistics.median(lags):.2f} s")


class Times:
    """When things were made, in seconds, from the API server's audit log."""

    def __init__(self) -> None:
        self.jobs: dict[str, float] = {}
        self.experiments: dict[str, float] = {}
        self.first_child: dict[str, float] = {}

    def add(self, entry: dict[str, Any]) -> None:
        """Take a request."""
        place = entry.get("objectRef", {})
        if place.get("namespace") != NAMESPACE or entry.get("responseStatus", {}).get("code", 500) >= 300:
            return
        name, kind, verb = place.get("name", ""), place.get("resource"), entry["verb"]
        done = datetime.fromisoformat(entry["stageTimestamp"]).timestamp()
        if kind == "jobs" and verb == "create" and name.startswith("job-"):
            self.jobs[name] = done
        elif kind == "adaexperiments" and verb == "create":
            self.experiments[name] = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
        elif kind in ("configmaps", "secrets", "services", "statefulsets") and name.startswith("run-"):
            owner = "-".join(name.split("-")[:2])
            if verb in ("create", "patch"):
                self.first_child.setdefault(owner, done)


def wait_for_training(plane: ControlPlane, count: int) -> int:
    """Wait, bounded, until all experiments train; returns how many do."""
    phases = ("get", "adaexperiments", f"--namespace={NAMESPACE}", "--output=jsonpath={.items[*].status.phase}")
    give_up = time.monotonic() + TRAINING_S
    while True:
        training = plane.kubectl(*phases).split().count("Training")
        if training == count or time.monotonic() > give_up:
            return training
        time.sleep(1.0)


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


def status_rows(plane: ControlPlane, count: int, training: int) -> Iterator[Row]:
    """Make trainer pods unready and ready again; compare the slowest status of a hundred with the limit.

    The clock runs from the event that tells of the Job's new status, which the operator is sent at the same time, to
    the event that tells of the experiment's; both as seen by one watcher.
    """
    observer = Observer(plane.kubeconfig)
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


def resident_bytes(pid: int) -> float:
    """Return the most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no memory: it has ended")
