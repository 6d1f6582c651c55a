"""What Prometheus needs to watch an `ada run`: the experiment's own figures, and where its programs serve theirs.

`prometheus-targets.json` in the run's directory is a list for Prometheus' `file_sd_configs`; it follows the programs as
they come and go, and is empty when the run is over. Everything listens on loopback addresses only.
"""

import json
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from ada_api.experiment import AdaExperiment
from ada_api.status import ExperimentStatus
from ada_operator.experiment_metrics import ExperimentMetrics, Seen

TARGETS = "prometheus-targets.json"
REQUEST_S = 10.0


@dataclass(frozen=True)
class Target:
    """A program that serves metrics."""

    address: str  # host:port
    program: str
    pod: str


class MetricsPage:
    """Serves the experiment's figures and keeps the list of targets, as long as the `with` block runs."""

    def __init__(self, experiment: AdaExperiment, directory: Path) -> None:
        self._experiment, self._file = experiment, directory / TARGETS
        self._seen: Seen | None = None
        self._written: str | None = None
        self._registry = CollectorRegistry()
        self._registry.register(ExperimentMetrics(lambda: [self._seen] if self._seen else []))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="metrics")

    def __enter__(self) -> "MetricsPage":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._write([])
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Return where the experiment's figures are served, as host:port."""
        return f"127.0.0.1:{self._server.server_port}"

    def show(self, status: ExperimentStatus, targets: Iterable[Target]) -> None:
        """Take what there is now."""
        self._seen = Seen(self._experiment, status)
        self._write([Target(self.address, "experiment", "ada-run"), *targets])

    def render(self) -> bytes:
        """Return the experiment's figures as Prometheus text."""
        return generate_latest(self._registry)

    def _write(self, targets: list[Target]) -> None:
        """Replace the list if it changed; Prometheus reads it again when it does."""
        found = [{"targets": [one.address], "labels": {"program": one.program, "pod": one.pod}} for one in targets]
        text = json.dumps(found, indent=1)
        if text == self._written:
            return
        temporary = self._file.with_name(f".{TARGETS}.new")
        temporary.write_text(text)
        temporary.replace(self._file)
        self._written = text


def _handler(page: MetricsPage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = page.render() if found else b"there is /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST if found else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked did not wait
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it
            """Say nothing: Prometheus comes every few seconds."""

    return Handler
