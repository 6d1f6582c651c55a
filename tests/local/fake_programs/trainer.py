"""Stands in for the trainer's programs; `launch` has a worker of its own session, as torch's agent has."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

mode = os.environ.get("FAKE_TRAINER", "")
FRAMES = 20


def serve(port):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            self.send_response(200)
            self.end_headers()

    server = HTTPServer((os.environ["ADA_HOST"], port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def call(path, body=None):
    headers = {"Authorization": f"Bearer {os.environ['ADA_TOKEN']}", "Content-Type": "application/json"}
    url = f"http://{os.environ['ADA_CURRICULUM_ADDRESS']}{path}"
    data = None if body is None else json.dumps(body).encode()
    for _ in range(100):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
                return json.loads(answer.read())
        except OSError:
            time.sleep(0.1)
    sys.exit("the curriculum service does not answer")


def flag(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def train(stage):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # only a kill ends a worker whose agent is gone
    if mode == "stubborn":
        time.sleep(1000)
    known = [one for one in call("/v1/progress")["stages"] if one["stage"] == stage]
    checkpoint = known[0].get("checkpoint") if known else None
    frames = checkpoint["frames"] if checkpoint else 0
    while frames < FRAMES:
        time.sleep(0.1)
        frames += 1
        answer = call("/v1/advance", {"stage": stage, "frames": frames, "phase": "training", "commit": frames % 5 == 0})
        if mode == "crash" and frames == 3:
            sys.exit("the reward is a string")
        if answer["stop"]:
            call("/v1/advance", {"stage": stage, "frames": frames, "phase": "training", "commit": True})
            return 75
    call("/v1/advance", {"stage": stage, "frames": frames, "phase": "trained", "commit": True})
    return 0


program = sys.argv[1]
if program == "rendezvous":
    serve(7102)
    signal.pause()
if program == "report":
    Path(flag("--output")).write_text("<html>")
    sys.exit(0)
stage = flag("--stage")
if program == "evaluate":
    scores = [{"trials": 1, "median": 0.25, "mean": 0.25, "percentile20": 0.1}]
    call("/v1/evaluation", {"stage": stage, "scores": scores})
if program == "launch":
    serve(7104)
    worker = subprocess.Popen([sys.executable, "-m", "ada_trainer", "train", *sys.argv[2:]], start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
    code = worker.wait()
    sys.exit(code if code >= 0 else 1)
if program == "train":
    sys.exit(train(stage))
