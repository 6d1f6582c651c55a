"""A real Prometheus with the shipped rules, made fast, that scrapes what a run lists in its directory."""

import contextlib
import json
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.alerts.promtool import program, sped_up
from tests.cluster.processes import start, stop, wait_until

# Windows of 15 minutes become 15 seconds; ten scrapes fit into the shortest of them, of 10 minutes.
FACTOR = 60.0
SCRAPE = "1s"


class Prometheus:
    """One server, at an address of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def value_of(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression."""
        return self.ask("query", query=expression)["result"]

    def firing(self) -> dict[str, dict[str, Any]]:
        """Return the alerts that fire, by name."""
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"]: one for one in alerts if one["state"] == "firing"}

    def wait_until(self, what: str, holds, patience_s: float = 240.0) -> Any:
        """Wait until a function of this server returns something true."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if found := holds(self):
                return found
            time.sleep(0.5)
        raise AssertionError(f"{what}: not within {patience_s} s; firing: {sorted(self.firing())}")


@contextlib.contextmanager
def prometheus(folder: Path, targets: Path, factor: float = FACTOR) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes the targets listed in a file, as long as the block runs."""
    folder.mkdir()
    rules, config = folder / "rules.yaml", folder / "prometheus.yaml"
    rules.write_text(yaml.safe_dump(sped_up(factor)))
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE},
                "rule_files": [str(rules)],
                "scrape_configs": [
                    {"job_name": "ada", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}
                ],
            }
        )
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    process = start(command, folder / "log")
    server = Prometheus(address)
    try:
        wait_until("Prometheus", lambda: _is_ready(server), 60, lambda: (folder / "log").read_text())
        yield server
    finally:
        stop(process)


def _is_ready(server: Prometheus) -> bool:
    try:
        server.ask("status/runtimeinfo")
    except OSError:
        return False
    return True
