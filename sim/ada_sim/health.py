"""Health and Prometheus metrics of a simulator server, over HTTP and without a token."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

STEP_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
REQUEST_S = 10.0


class OpenWorlds(Gauge):
    """How many worlds are open."""

    @contextmanager
    def track(self, count: int) -> Iterator[None]:
        """Count them while the block runs."""
        self.inc(count)
        try:
            yield
        finally:
            self.dec(count)


class HealthPage:
    """What the server says of itself."""

    def __init__(self, experiment: str = "") -> None:
        """Speak for a server of an experiment (`namespace/name`)."""
        self.is_ready = False
        # A second series for each counter, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        of, registry, prefix = ["experiment"], self._registry, "ada_simulator_"
        connections = Gauge(prefix + "connections", "Open connections.", of, registry=registry)
        worlds = OpenWorlds(prefix + "worlds", "Worlds of all connections.", of, registry=registry)
        generation = Gauge(prefix + "generation", "Newest generation of the training group.", of, registry=registry)
        timesteps = Counter(prefix + "timesteps", "Timesteps of active worlds.", of, registry=registry)
        step_seconds = Histogram(
            prefix + "step_seconds", "Time of a request's simulation.", of, buckets=STEP_SECONDS, registry=registry
        )
        idle_seconds = Counter(
            prefix + "idle_seconds",
            "Time in which connections waited for the trainer's next request, summed over them.",
            of,
            registry=registry,
        )
        refused = Counter(prefix + "refused", "Requests refused, by reason.", [*of, "reason"], registry=registry)
        self.connections, self.worlds = connections.labels(experiment), worlds.labels(experiment)
        self.generation, self.timesteps = generation.labels(experiment), timesteps.labels(experiment)
        self.step_seconds, self.idle_seconds = step_seconds.labels(experiment), idle_seconds.labels(experiment)
        self._refused, self._experiment = refused, experiment

    def refuse(self, reason: str) -> None:
        """Count a request that was refused."""
        self._refused.labels(self._experiment, reason).inc()

    def serve(self, host: str, port: int) -> int:
        """Serve in a thread of its own; returns the port. Raises OSError if it is taken."""
        server = ThreadingHTTPServer((host, port), _handler(self))
        threading.Thread(target=server.serve_forever, daemon=True, name="health").start()
        return server.server_port

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body for a path."""
        if path == "/healthz":
            plain = "text/plain; charset=utf-8"
            return (200, plain, b"ok\n") if self.is_ready else (503, plain, b"compiling\n")
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        return 404, "text/plain; charset=utf-8", b"there is /healthz and /metrics\n"


def _handler(page: HealthPage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S

        def do_GET(self) -> None:
            status, kind, body = page.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked did not wait
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: probes come every few seconds."""

    return Handler
