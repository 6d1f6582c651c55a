"""`python -m ada_trainer rendezvous`: the store where nodes meet, in a process of its own that nothing else can end.

It holds a few keys for each round of each training group. torch's whole package is loaded for one class of it, which
costs most of the memory; nothing else is imported.
"""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ada_trainer.exits import EXIT_STOPPED, EXIT_TROUBLE

PORT = 7002
HEALTH_PORT = 7102
REQUEST_S = 10.0  # for a client to say what it wants


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ada_trainer rendezvous", description=__doc__)
    parser.add_argument("--host", default=os.environ.get("ADA_HOST", "0.0.0.0"), help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT, help="port of the store; 0 for any")
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT, help="port of /healthz; 0 for any")
    options = parser.parse_args(arguments)
    # State is in memory alone, so there is nothing to finish: end at once, even while torch is being loaded.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os._exit(EXIT_STOPPED))
    try:
        listener = listen(options.host, options.port)
        health = ThreadingHTTPServer((options.host, options.health_port), Health)
    except OSError as error:
        say(f"could not listen on {options.host}:{options.port} and :{options.health_port}: {error}")
        return EXIT_TROUBLE
    from torch._C._distributed_c10d import TCPStore  # loads all of torch: not for --help

    store = TCPStore(
        host_name=options.host,
        port=listener.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    threading.Thread(target=health.serve_forever, daemon=True, name="health").start()
    say(f"serving on {options.host}:{store.port}, health on {health.server_port}")
    while True:
        signal.pause()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket: torch's own store would listen on all addresses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener


class Health(BaseHTTPRequestHandler):
    """Answers `GET /healthz`; it is only there once the store serves."""

    timeout = REQUEST_S

    def do_GET(self) -> None:
        """Answer 200 to /healthz and 404 to the rest."""
        found = self.path == "/healthz"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing: probes come every few seconds."""


def say(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"ada_trainer rendezvous: {message}\n")
    sys.stderr.flush()
