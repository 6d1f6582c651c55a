"""Stands in for the curriculum service: progress in memory, commits in a file of the store."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

store = Path(urlsplit(os.environ["ADA_STORE"]).path)
store.mkdir(parents=True, exist_ok=True)
saved = store / "state.json"
stages = json.loads(saved.read_text()) if saved.exists() else {}
stop = set()
if os.environ.get("FAKE_CURRICULUM") == "misconfigured":
    sys.stderr.write("starting\nthe bucket ada refuses these credentials\n")
    sys.exit(78)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.answer({} if self.path == "/healthz" else {"experiment": "x", "stages": list(stages.values())})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if self.headers["Authorization"] != f"Bearer {os.environ['ADA_TOKEN']}":
            self.send_error(401)
            return
        stage = stages.setdefault(body["stage"], {"stage": body["stage"], "frames": 0, "phase": "waiting"})
        if self.path == "/v1/suspend":
            stop.add(body["stage"])
        if self.path == "/v1/advance":
            stage |= {"frames": body["frames"], "phase": body["phase"], "last_progress": time.time()}
            if body["commit"]:
                stage["checkpoint"] = {
                    "uri": f"file://{store}/{body['stage']}/{body['frames']}",
                    "digest": f"sha256:{body['frames']:064x}",
                    "frames": body["frames"],
                    "time": time.time(),
                }
        if self.path == "/v1/evaluation":
            stage["evaluation"] = body["scores"]
        temporary = saved.with_suffix(".new")
        temporary.write_text(json.dumps(stages))
        temporary.replace(saved)
        self.answer({"stop": body["stage"] in stop})

    def answer(self, document):
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
host, _, port = os.environ["ADA_CURRICULUM_ADDRESS"].partition(":")
health = ThreadingHTTPServer((host, 7101), Handler)
threading.Thread(target=health.serve_forever, daemon=True).start()
ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
