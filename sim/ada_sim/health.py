"""Health and Prometheus metrics of a simulator server, over HTTP and without a token."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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

    def __init__(self) -> None:
        self.is_ready = False
        self._registry = registry = CollectorRegistry()
        prefix = "ada_simulator_"
        self.connections = Gauge(prefix + "connections", "Open connections.", registry=registry)
        self.worlds = OpenWorlds(prefix + "worlds", "Worlds of all connections.", registry=registry)
        self.generation = Gauge(prefix + "generation", "Newest generation of the training group.", registry=registry)
        self.timesteps = Counter(prefix + "timesteps", "Timesteps of active worlds.", registry=registry)
        self.refused = Counter(prefix + "refused", "Requests refused, by reason.", ["reason"], registry=registry)
        self.step_seconds = Histogram(
            prefix + "step_seconds", "Time of a request's simulation.", buckets=STEP_SECONDS, registry=registry
        )

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
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: probes come every few seconds."""

    return Handler
