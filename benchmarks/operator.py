"""The operator on a real control plane with simulated nodes: many experiments at once.

API server, etcd, scheduler and controller manager are the ones that the tests build; KWOK plays nodes and pods, and a
small HTTP server in this process plays every experiment's curriculum service.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.build import missing_programs
from tests.cluster.control_plane import PROGRAMS, ControlPlane, fake_nodes
from tests.cluster.processes import start, stop, wait_until

from ada_api.progress import Progress, StageProgress
from ada_operator.cluster import Cluster, load_configuration
from benchmarks.operator_requests import LABEL, NAMESPACE, Requests
from benchmarks.operator_status import status_rows
from benchmarks.peer import note
from benchmarks.row import Row, cost_row, rate_row
from benchmarks.timing import Effort

ROOT = Path(__file__).parents[1]
EXPERIMENTS, RUNNING, FEW = 1000, 200, 3  # applied at once; of them, those that train; of a tiny run
STAGE = "only"
NODES = 20  # of 1,000 pods each
CHILDREN_S, TRAINING_S, TRAINING_EACH_S = 300.0, 60.0, 1.5
CHANGES, FEW_CHANGES = 200, 4
SETTLE_S, REST_S, FEW_SECONDS = 25.0, 60.0, 5.0  # after a change of what the services say; of rest
SETTLE_EACH_S = 0.15  # for each experiment: twice the turn that its last figures wait for
LISTS_EACH_S = 0.05  # for each experiment: until a new operator has listed everything, watches and inventory
MEMORY_LIMIT = 300e6
ASKED_BY_ITSELF = 120
FIRST_CHILD_BYTES = 4500
WRITES = ("create", "update", "patch", "delete")


def rows(effort: Effort, experiments: int | None = None, running: int | None = None) -> Iterator[Row]:
    """Apply experiments at once; then change the pods of some of them one by one and look when the status shows it.

    Two cores play the pods of a thousand experiments for a quarter of an hour until all train; the rest is deleted.
    """
    if missing := missing_programs(*PROGRAMS):
        note(f"{', '.join(missing)} not built: `python tests/prepare.py` builds what this part needs")
        return
    applied = experiments or (FEW if effort.small else EXPERIMENTS)
    count = min(applied, running or RUNNING)
    with ControlPlane() as plane, tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        prepare(plane)
        with running_operator(plane, Path(folder)) as pid:
            began = time.time()
            yield from apply_rows(plane, applied)
            delete_rest(plane, count, applied)
            training = wait_for_training(plane, count)
            note(
                f"{training} of {count} experiments reached phase Training, {time.time() - began:.0f} s after the Jobs"
            )
            tell_requests(plane, count, cpu_seconds(pid), applied)
            yield from status_rows(plane.kubeconfig, FEW_CHANGES if effort.small else CHANGES, training)
            yield from rest_rows(plane, pid, count, FEW_SECONDS if effort.small else REST_S)
            memory = resident_bytes(pid)
        with running_operator(plane, Path(folder)) as pid:
            time.sleep(FEW_SECONDS if effort.small else SETTLE_S + LISTS_EACH_S * count)
            anew = resident_bytes(pid)
    what = f"resident bytes of the operator, {applied} experiments, of which {count} run"
    yield cost_row("operator", what, memory, MEMORY_LIMIT, "limit", 1)
    what = f"resident bytes of an operator that comes to {count} that run"
    yield cost_row("operator", what, anew, MEMORY_LIMIT, "limit", 1)


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
    at_rest = threading.Event()  # from then on nothing is learned

    def do_GET(self) -> None:
        """Answer /NAMESPACE/NAME/v1/progress."""
        _, namespace, name, *_ = self.path.split("/")
        now = time.time()
        frames = 10**6 if self.at_rest.is_set() else int(now) % 10**6
        stage = StageProgress(stage=STAGE, generation=1, phase="training", frames=frames, workers=1, last_progress=now)
        body = Progress(experiment=f"{namespace}/{name}", stages=[stage]).model_dump_json(by_alias=True).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):  # it waits for three seconds, and this machine may be busy
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
    bare_s = asyncio.run(bare_applies(plane.kubeconfig, count))
    note(f"server-side apply of {count} ConfigMaps alone, 8 at once: {count / bare_s:.0f} a second")
    plane.kubectl.apply(*(experiment(number) for number in range(count)))
    selector = f"--selector={LABEL}"
    list_children = ("get", "configmaps", f"--namespace={NAMESPACE}", selector, "--output=name")
    wait_until("child of each", lambda: len(plane.kubectl(*list_children).split()) >= count, CHILDREN_S)
    times = Requests(plane.audit())
    if len(times.first_child) < count or len(times.jobs) < count:
        raise RuntimeError(f"the audit log knows {len(times.first_child)} first children and {len(times.jobs)} Jobs")
    what = f"experiments a second, {count} applied at once, to the first child of all"
    rival = "kubectl apply of as many suspended Jobs, Jobs/s"
    yield rate_row("operator", what, count / times.first_children_s, count / times.jobs_s, rival, 0.5)
    lags = [times.first_child[name] - made for name, (_, made) in times.experiments.items()]
    note(f"from an experiment's creation to its first child: median {statistics.median(lags):.2f} s")
    applied_s = max(made for _, made in times.experiments.values()) - min(at for at, _ in times.experiments.values())
    note(f"kubectl apply alone: {count} Jobs in {times.jobs_s:.1f} s, {count} experiments in {applied_s:.1f} s")


def delete_rest(plane: ControlPlane, count: int, applied: int) -> None:
    """Delete the experiments that are not to train."""
    names = [f"run-{number}" for number in range(count, applied)]
    if names:
        plane.kubectl("delete", "adaexperiments", f"--namespace={NAMESPACE}", "--wait=false", *names)


async def bare_applies(kubeconfig: Path, count: int) -> float:
    """Return the seconds that the operator's client takes for as many first children, when nobody plans or watches."""
    cluster = Cluster(await load_configuration(str(kubeconfig)))
    numbers = iter(range(count))
    text = "x" * FIRST_CHILD_BYTES

    async def apply_some() -> None:
        for number in numbers:
            metadata = {"name": f"bare-{number}", "namespace": NAMESPACE}
            manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}}
            await cluster.apply(manifest, new=True)

    began = time.perf_counter()
    await asyncio.gather(*(apply_some() for _ in range(8)))
    took_s = time.perf_counter() - began
    await cluster.close()
    return took_s


def tell_requests(plane: ControlPlane, count: int, cpu_s: float, applied: int) -> None:
    """Say what an experiment cost from its creation to the status that says Training."""
    if applied > count:
        return  # those that were deleted can't be told apart
    requests = Requests(plane.audit())
    writes = requests.about_experiments(*WRITES)
    reads = requests.about_experiments() - writes
    note(
        f"from creation to Training, an experiment: {writes / count:.1f} writes to and {reads / count:.1f} reads of "
        f"the API server, {1000 * cpu_s / count:.0f} ms of the operator's CPU"
    )


def rest_rows(plane: ControlPlane, pid: int, count: int, lasts_s: float) -> Iterator[Row]:
    """Let nothing happen, and count what the operator asks of the API server all the same."""
    PlayedCurriculum.at_rest.set()
    time.sleep(SETTLE_S + SETTLE_EACH_S * count)
    since, cpu_s = time.time(), cpu_seconds(pid)
    time.sleep(lasts_s)
    requests, minutes = Requests(plane.audit(), since), lasts_s / 60
    writes = requests.about_experiments(*WRITES)
    cores = (cpu_seconds(pid) - cpu_s) / lasts_s
    note(f"at rest, {lasts_s:.0f} s: {writes} writes about {count} experiments, {cores:.2f} cores of CPU")
    what = f"requests a minute at rest, {count} experiments"
    asked = requests.asked.total() / minutes
    yield cost_row(
        "operator", what, asked, count + ASKED_BY_ITSELF, "one an experiment, and 120 for lease and lists", 1
    )


def wait_for_training(plane: ControlPlane, count: int) -> int:
    """Wait, bounded, until all experiments train; returns how many do."""
    phases = ("get", "adaexperiments", f"--namespace={NAMESPACE}", "--output=jsonpath={.items[*].status.phase}")
    give_up = time.monotonic() + TRAINING_S + TRAINING_EACH_S * count
    while True:
        training = plane.kubectl(*phases).split().count("Training")
        if training == count or time.monotonic() > give_up:
            return training
        time.sleep(1.0)


def resident_bytes(pid: int) -> float:
    """Return the most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no memory: it has ended")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, of user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
