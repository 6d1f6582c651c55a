"""What the programs of an experiment do in a test of misbehaving pods: hardly anything, until they misbehave.

ADA_STUB says how. Without it a program answers its health check until it is told to stop.
"""

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

STOPPED = 75
READY = {"yes": True}


class Health(BaseHTTPRequestHandler):
    """`GET /healthz`, and `POST /ready/yes` or `/ready/no` to change what that says."""

    def do_GET(self) -> None:
        """Answer."""
        self._answer(200 if READY["yes"] else 503)

    def do_POST(self) -> None:
        """Change the answer."""
        READY["yes"] = self.path.endswith("/yes")
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def stop(number: int, frame: FrameType | None) -> None:
    """End as a program that was told to."""
    os._exit(STOPPED)


def main(port: int) -> None:
    """Do what ADA_STUB says."""
    match os.environ.get("ADA_STUB", ""):
        case "crash":
            sys.exit("the stub was asked to crash")
        case "use memory":
            held = []
            while True:
                held.append(bytearray(1 << 20))
        case "have a child use memory":  # as a worker of a launcher: the kernel ends the child, not the container
            if os.fork() == 0:
                held = [bytearray(1 << 20) for _ in range(1 << 20)]
            os.wait()
            sys.exit("a worker was killed")
        case "fill the disk":
            Path("/tmp/large").write_bytes(bytes(1 << 24))
        case "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)
    signal.signal(signal.SIGTERM, stop)
    ThreadingHTTPServer(("", port), Health).serve_forever()
