"""Metrics of a trainer node: workers leave numbers in files, the agent, which outlives them, serves them.

One page a node on the port of its health: `GET /healthz` answers 200 while the node has workers, `GET /metrics` is
Prometheus text. Names start with `ada_trainer_`; labels are experiment, stage and rank.
"""

import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

METRICS_DIRECTORY_VARIABLE = "ADA_METRICS_DIRECTORY"
PREFIX = "ada_trainer_"
LABELS = ("experiment", "stage", "rank")
REQUEST_S = 10.0  # for a client to say what it wants

COUNTERS = {
    "frames": "Frames learned from by the whole group, since the stage began.",
    "updates": "Optimiser steps since the stage began.",
    "skipped_updates": "Updates left out because loss or gradient was not finite.",
    "episodes": "Episodes finished by this worker since it started.",
    "simulators_lost": "Connections to simulators lost by this worker since it started.",
    "simulator_wait_seconds": "Time in which this worker waited for simulators, since it started.",
    "commits": "Checkpoints committed by this worker since it started.",
    "store_errors": "Commits that failed since this worker started.",
}
GAUGES = {
    "world_size": "Workers of the group.",
    "generation": "Membership of the group.",
    "learning_rate": "Step of the optimiser.",
    "frames_per_second": "Frames a second of the whole group, last iteration.",
    "goodput_ratio": "Share of the last iteration that went into collecting and learning.",
    "checkpoint_frames": "Frames of the newest committed checkpoint.",
    "checkpoint_duration_seconds": "Time the newest commit took.",
    "resident_bytes": "Resident memory of this worker.",
    "device_bytes": "Most memory that this worker's tensors had on its device, since it started.",
}
# Figures of the last update that have a metric of their own: its name and what it tells.
FIGURES = {
    "gradientNorm": ("gradient_norm", "Norm of the gradient before it was scaled down, last update."),
    "entropy": ("policy_entropy_nats", "Entropy of the policy over the action groups, last update."),
    "distillationLoss": ("teacher_kl_nats", "KL(teacher || student), last update; only while a teacher is imitated."),
}
RESTART_CAUSES = ("failed", "regrouped")


@dataclass
class WorkerMetrics:
    """What one worker tells; everything is a plain number."""

    experiment: str
    stage: str
    rank: int
    counters: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)  # by name
    seconds: dict[str, float] = field(default_factory=dict)  # of the last iteration, by part
    total_seconds: dict[str, float] = field(default_factory=dict)  # since it started, by part
    training_since: float | None = None  # seconds since 1970; only of the worker that commits
    checkpoint_time: float | None = None  # seconds since 1970
    updated: float = 0.0  # seconds since 1970

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Take the times of an iteration, by part."""
        self.seconds = dict(seconds)
        for part, value in seconds.items():
            self.total_seconds[part] = self.total_seconds.get(part, 0.0) + value

    def write(self, directory: Path, local_rank: int) -> None:
        """Replace this worker's file as a whole."""
        self.updated = time.time()
        path = directory / f"worker-{local_rank}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(path)


Value = tuple[WorkerMetrics, list[str], float | None]  # of a gauge, with the values of further labels


def resident_bytes() -> int:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class NodePage(Collector):
    """What a node serves."""

    def __init__(
        self, directory: Path, experiment: str = "", stage: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        """Read workers' files from `directory`."""
        self._labels = [experiment, stage]
        self.ready: Callable[[], bool] = lambda: False
        self.restarts: Counter[str] = Counter()  # of this node's workers, by cause
        self._directory = directory
        self._clock = clock
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def serve(self, host: str, port: int) -> int:
        """Serve in a thread of its own; returns the port. Raises OSError if it is taken."""
        server = ThreadingHTTPServer((host, port), _handler(self))
        threading.Thread(target=server.serve_forever, daemon=True, name="health").start()
        return server.server_port

    def render(self) -> bytes:
        """Return the page as Prometheus text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of every worker of this node."""
        restarts = CounterMetricFamily(
            PREFIX + "restarts", "Starts anew of this node's workers.", labels=["experiment", "stage", "cause"]
        )
        for cause in RESTART_CAUSES:  # a count that begins at 0 can be seen to grow
            restarts.add_metric([*self._labels, cause], self.restarts[cause])
        yield restarts
        workers = list(self._read())
        for name, text in COUNTERS.items():
            yield _counter(name, text, workers)
        for name, text in GAUGES.items():
            yield _gauge(name, text, [(worker, [], worker.gauges.get(name)) for worker in workers])
        yield _gauge(
            "loss",
            "Losses and other figures of the last update, by name.",
            [
                (worker, [name], value)
                for worker in workers
                for name, value in worker.losses.items()
                if name not in FIGURES and name != "learningRate"
            ],
            "name",
        )
        for figure, (name, text) in FIGURES.items():
            yield _gauge(name, text, [(worker, [], _figure(worker, figure)) for worker in workers])
        yield _gauge(
            "iteration_seconds",
            "Time of the last iteration, by part.",
            [(worker, [part], value) for worker in workers for part, value in worker.seconds.items()],
            "part",
        )
        spent = CounterMetricFamily(
            PREFIX + "time_seconds", "Time since it started, by part.", labels=[*LABELS, "part"]
        )
        for worker in workers:
            for part, value in worker.total_seconds.items():
                spent.add_metric([*_labels(worker), part], value)
        yield spent
        now = self._clock()
        ages: list[Value] = [(worker, [], _age(worker.checkpoint_time, now)) for worker in workers]
        yield _gauge("checkpoint_age_seconds", "Time since the newest commit.", ages)
        unsaved: list[Value] = [(worker, [], _unsaved(worker, now)) for worker in workers]
        yield _gauge("uncommitted_seconds", "Time trained since the newest commit, or since this group began.", unsaved)
        beats: list[Value] = [(worker, [], _age(worker.updated, now)) for worker in workers]
        yield _gauge("progress_age_seconds", "Time since this worker's last iteration.", beats)

    def _read(self) -> Iterator[WorkerMetrics]:
        for path in sorted(self._directory.glob("worker-*.json")):
            try:
                yield WorkerMetrics(**json.loads(path.read_text()))
            except FileNotFoundError:
                continue  # the worker began anew in this moment


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)


def _unsaved(worker: WorkerMetrics, now: float) -> float | None:
    """Return for how long training would be lost if it ended now; what was done before this group is not ours."""
    if worker.training_since is None:
        return None
    return _age(max(worker.training_since, worker.checkpoint_time or 0.0), now)


def _figure(worker: WorkerMetrics, name: str) -> float | None:
    value = worker.losses.get(name)
    return None if name == "distillationLoss" and value == 0.0 else value


def _labels(worker: WorkerMetrics) -> list[str]:
    return [worker.experiment, worker.stage, str(worker.rank)]


def _counter(name: str, text: str, workers: list[WorkerMetrics]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=LABELS)
    for worker in workers:
        if (value := worker.counters.get(name)) is not None:
            family.add_metric(_labels(worker), value)
    return family


def _gauge(name: str, text: str, values: list[Value], label: str | None = None) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[*LABELS, *([label] if label else [])])
    for worker, more, value in values:
        if value is not None and math.isfinite(value):
            family.add_metric([*_labels(worker), *more], value)
    return family


def _handler(page: NodePage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S

        def do_GET(self) -> None:
            status, body = answer(page, self.path)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked did not wait
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it
            """Say nothing: probes come every few seconds."""

    return Handler


def answer(page: NodePage, path: str) -> tuple[int, bytes]:
    """Return status and body for a path."""
    match path.partition("?")[0]:
        case "/healthz":
            return (200, b"ready\n") if page.ready() else (503, b"waiting for the group\n")
        case "/metrics":
            return 200, page.render()
    return 404, b"there are /healthz and /metrics\n"


def numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Return the finite ones: what is not finite can't be written as JSON."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
