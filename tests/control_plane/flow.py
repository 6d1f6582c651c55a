"""A teacher and its student from apply to Succeeded: a real curriculum service, the tests in the trainers' place.

Pods are played by KWOK, so what the trainer and the evaluation would tell the curriculum service, the tests tell it
over the same HTTP; what they would commit, the tests commit to the same store.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import Kubectl
from tests.cluster.processes import start, stop, wait_until

from ada_curriculum.manifest import (
    CURRICULUM,
    HISTORY,
    Manifest,
    StoredCheckpoint,
    checkpoint_prefix,
    experiment_prefix,
    write_checkpoint,
)
from ada_curriculum.store import open_store

NAME = "demo"
FIRST_FRAMES, TEACHER_FRAMES, STUDENT_FRAMES = 250, 1000, 2000
SCORE = 0.25  # share of the time in the goal that the played agent reaches
CURRICULUM_PORT, HEALTH_PORT = 7001, 7101


def experiment(namespace: str) -> dict[str, Any]:
    """Return an experiment of a teacher and a student."""
    group = {"trainer": {"nodes": {"min": 1, "max": 2}}, "simulators": {"replicas": 2}}
    return {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "environment": {"observation": "symbolic", "taskPool": {"worlds": 50, "games": 50}},
            "curriculum": {"method": "uniform"},
            "stages": [
                {"name": "teacher", "frames": TEACHER_FRAMES, **group},
                {"name": "student", "frames": STUDENT_FRAMES, **group, "distillation": {"teacher": "teacher"}},
            ],
            "evaluation": {"tasks": 16, "trials": [1, 5], "gates": [{"stage": "teacher", "trials": 5, "score": 0.5}]},
        },
    }


def free_loopback_address() -> str:
    """Return a loopback address, another for each process and call, at which nobody listens on the service's port."""
    number = os.getpid() * 16 + time.monotonic_ns() % 16
    for offset in range(1000):
        tail = (number + offset) % (254 * 254 * 254)
        address = f"127.{1 + tail // 64516}.{1 + tail // 254 % 254}.{1 + tail % 254}"
        with socket.socket() as probe:
            try:
                probe.bind((address, CURRICULUM_PORT))
            except OSError:
                continue
            return address
    raise RuntimeError("no free loopback address")


@dataclass
class Flow:
    """One experiment, seen and driven from outside."""

    kubectl: Kubectl
    namespace: str
    folder: Path
    between: Callable[[str], None] = lambda step: None  # called after each step
    address: str = field(default_factory=free_loopback_address)
    _service: subprocess.Popen[bytes] | None = None
    _token: str = ""

    @property
    def store_uri(self) -> str:
        """The directory that stands for the object store."""
        return (self.folder / "store").as_uri()

    def operator_environment(self) -> dict[str, str]:
        """Return what an operator needs to find the curriculum service from outside a cluster."""
        return {"ADA_CURRICULUM_URL_TEMPLATE": f"http://{self.address}:{CURRICULUM_PORT}"}

    def platform(self) -> Path:
        """Write and return the operator's platform file."""
        path = self.folder / "platform.json"
        path.write_text(json.dumps({"defaultStore": self.store_uri}))
        return path

    def close(self) -> None:
        """End the curriculum service."""
        if self._service:
            stop(self._service)

    # --- seeing

    def get(self, *what: str) -> Any:
        """Return objects of the namespace."""
        return self.kubectl.json("get", f"--namespace={self.namespace}", *what)

    def find(self, kind: str, name: str) -> Any | None:
        """Return an object of the namespace, or None if there is none."""
        text = self.kubectl("get", f"--namespace={self.namespace}", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(text) if text else None

    def status(self) -> dict[str, Any]:
        """Return the experiment's status."""
        found = self.find("adaexperiment", NAME)
        return dict(found.get("status") or {}) if found else {}

    def stage(self, name: str) -> dict[str, Any]:
        """Return a stage's status."""
        return next((dict(one) for one in self.status().get("stages", []) if one["name"] == name), {})

    def children(self) -> list[str]:
        """Return `kind/name` of everything that carries the experiment's label."""
        kinds = "configmaps,secrets,services,statefulsets,jobs,pods,poddisruptionbudgets,networkpolicies"
        found = self.kubectl(
            "get", kinds, f"--namespace={self.namespace}", f"--selector=ada.dev/experiment={NAME}", "--output=name"
        )
        return sorted(found.split())

    def wait(self, what: str, probe: Callable[[], Any], timeout_s: float = 60) -> Any:
        """Wait for something, and say how the experiment stood if it does not come."""
        return wait_until(what, probe, timeout_s, lambda: json.dumps(self.status(), indent=1))

    # --- driving

    def apply(self) -> None:
        """Apply the experiment and start its curriculum service once the operator has made what that needs."""
        self.kubectl.apply(experiment(self.namespace))
        self.start_service()
        self.between("applied")

    def start_service(self) -> None:
        """Start the curriculum service on what the operator wrote for it."""
        secret = self.wait("token Secret", lambda: self.find("secret", f"{NAME}-token"))
        config = self.wait("experiment's ConfigMap", lambda: self.find("configmap", f"{NAME}-experiment"))
        self._token = base64.b64decode(secret["data"]["token"]).decode()
        path = self.folder / "experiment.json"
        path.write_text(config["data"]["experiment.json"])
        log = self.folder / "curriculum.log"
        command = [sys.executable, "-m", "ada_curriculum", "--experiment", str(path), "--host", self.address]
        self._service = start(command, log, {**os.environ, "ADA_TOKEN": self._token, "ADA_STORE": self.store_uri})
        wait_until("curriculum service", self._answers, 60, lambda: log.read_text()[-2000:])

    def stop_service(self) -> None:
        """End the curriculum service, as the end of its pod would."""
        assert self._service is not None
        stop(self._service)

    def train(self, stage: str, frames: int) -> StoredCheckpoint:
        """Be a stage's training group from its first frame to its last commit."""
        group = self.begin(stage)
        self.between(f"{stage} trains")
        first = self.commit(group, frames // 2)
        self.wait(f"commit of {stage}", lambda: self.stage(stage).get("checkpoint", {}).get("digest") == first.digest)
        self.between(f"{stage} committed")
        self.post("advance", {**group, "frames": frames, "updates": 40})
        last = self.commit(group, frames)
        self.post("finish", {**group, "outcome": "trained", "message": ""})
        self.end_pods("trainer", stage)
        self.wait(f"evaluation of {stage}", lambda: self.find("job", f"{NAME}-{stage}-evaluation"))
        self.between(f"{stage} trained")
        return last

    def begin(self, stage: str) -> dict[str, Any]:
        """Be a training group that has just begun; return what it calls itself."""
        job = self.wait(f"{stage}'s Job", lambda: self.find("job", f"{NAME}-{stage}-trainer"))
        group = {"stage": stage, "generation": int(job["metadata"]["annotations"]["ada.dev/generation"])}
        self.wait(f"nodes of {stage}", lambda: self.status().get("nodes") == {"ready": 2, "desired": 2})
        self.post("register", {**group, "workers": 2})
        leases = self.post("lease", {**group, "worker": "0", "count": 8})["leases"]
        results = [
            {"lease": lease["id"], "returns": [SCORE] * lease["trials"], "fitness": 0.1, "timesteps": 30}
            for lease in leases
        ]
        self.post("report", {**group, "worker": "0", "results": results})
        self.post("advance", {**group, "frames": FIRST_FRAMES, "updates": 10})
        self.wait(f"phase Training of {stage}", lambda: self.status()["phase"] == "Training")
        self.wait(f"frames of {stage}", lambda: self.stage(stage)["frames"] == FIRST_FRAMES)
        return group

    def suspend(self, suspend: bool) -> None:
        """Set `spec.suspend`."""
        patch = json.dumps({"spec": {"suspend": suspend}})
        self.kubectl(
            "patch", "adaexperiment", NAME, f"--namespace={self.namespace}", "--type=merge", f"--patch={patch}"
        )

    def commit(self, group: dict[str, Any], frames: int) -> StoredCheckpoint:
        """Commit a checkpoint to the store and tell the service."""
        store = open_store(self.store_uri).child(experiment_prefix(self.namespace, NAME))
        snapshot = self.request(f"snapshot?stage={group['stage']}")
        stored = write_checkpoint(
            store,
            checkpoint_prefix(str(group["stage"]), frames, 1),
            {CURRICULUM: snapshot, HISTORY: self.request(f"history?stage={group['stage']}"), "shard-0": b"weights"},
            Manifest(
                experiment=f"{self.namespace}/{NAME}",
                stage=str(group["stage"]),
                frames=frames,
                updates=frames // 100,
                attempt=1,
                generation=int(group["generation"]),
                time=time.time(),
                config_digest="sha256:0",
            ),
        )
        self.post("commit", {**group, "uri": stored.uri, "digest": stored.digest, "frames": frames})
        return stored

    def evaluate(self, stage: str, median: float) -> None:
        """Be a stage's evaluation."""
        scores = [{"trials": k, "median": median * k / 5, "mean": median * k / 5, "percentile20": 0.1} for k in (1, 5)]
        self.post("evaluation", {"stage": stage, "scores": scores, "best_score": median})
        self.end_pods("evaluation", stage)
        self.wait(f"success of {stage}", lambda: self.stage(stage)["phase"] == "Succeeded")
        self.between(f"{stage} evaluated")

    def end_pods(self, part: str, stage: str, code: int = 0, message: str = "") -> None:
        """Have a part's pods end with an exit code."""
        marks = [f"test.ada.dev/exit={code}", f"test.ada.dev/message={message}"]
        chosen = f"ada.dev/experiment={NAME},ada.dev/part={part},ada.dev/stage={stage}"
        pods = self.kubectl("get", "pods", f"--namespace={self.namespace}", f"--selector={chosen}", "--output=name")
        for pod in pods.split():  # one that is gone by now has ended too
            self.kubectl.run("annotate", pod, f"--namespace={self.namespace}", "--overwrite", *marks)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Tell the curriculum service something, as a trainer would, and return its answer."""
        return dict(json.loads(self.request(path, json.dumps(body).encode())))

    def request(self, path: str, body: bytes | None = None) -> bytes:
        """Send a request to the curriculum service and return its answer."""
        request = urllib.request.Request(
            f"http://{self.address}:{CURRICULUM_PORT}/v1/{path}",
            body,
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode()}") from error

    def _answers(self) -> bool:
        if self._service is not None and self._service.poll() is not None:
            raise RuntimeError(f"the curriculum service ended: {(self.folder / 'curriculum.log').read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://{self.address}:{HEALTH_PORT}/healthz", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def run(self) -> None:
        """Go the whole way."""
        self.apply()
        teacher = self.train("teacher", TEACHER_FRAMES)
        self.evaluate("teacher", 0.8)
        self.wait("student's Job", lambda: self.find("job", f"{NAME}-student-trainer"))
        self.teacher_digest = teacher.digest
        self.student_command = self.find("job", f"{NAME}-student-trainer")["spec"]["template"]["spec"]["containers"][0][
            "command"
        ]
        self.train("student", STUDENT_FRAMES)
        self.evaluate("student", 0.9)
        self.wait("success", lambda: self.status()["phase"] == "Succeeded")
