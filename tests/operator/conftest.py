"""A cluster that exists only in memory: it carries out plans, runs the controllers, and lets tests play the pods."""

import itertools
from typing import Any

import pytest

from ada_api.experiment import AdaExperiment
from ada_api.progress import CommittedCheckpoint, Progress, StageProgress, TrialScore
from ada_operator import names
from ada_operator.kubernetes_time import timestamp
from ada_operator.local import workloads
from ada_operator.local.workloads import BackOff
from ada_operator.observed import Observed, Platform, Reference
from ada_operator.planner import Plan, plan
from ada_operator.view import FRESH_S

NOW = 1_800_000_000.0


def spec(**changes: Any) -> dict[str, Any]:
    """Return a teacher and a student of 1000 frames."""
    stages = [
        {"name": "teacher", "frames": 1000},
        {
            "name": "student",
            "frames": 1000,
            "distillation": {"teacher": "teacher", "frames": 500},
            "trainer": {"nodes": {"min": 1, "max": 4}},
            "simulators": {"replicas": 4},
        },
    ]
    store = {"endpoint": "https://minio.example:9000", "bucket": "ada", "secretName": "store"}
    return {"stages": stages, "checkpoint": {"store": store}, **changes}


class Clock:
    """Stands still until a test sets it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class FakeCluster:
    """Objects, pods and the curriculum service's answers."""

    def __init__(self, **changes: Any) -> None:
        self.document: dict[str, Any] = {
            "apiVersion": "ada.dev/v1alpha1",
            "kind": "AdaExperiment",
            "metadata": {"name": "quick", "namespace": "lab", "uid": "u-1", "generation": 1},
            "spec": spec(**changes),
        }
        self.platform = Platform()
        self.objects: dict[Reference, dict[str, Any]] = {
            Reference("Secret", "store"): {"kind": "Secret", "metadata": {"name": "store"}, "data": {}}
        }
        self.pods: dict[str, dict[str, Any]] = {}
        self.stages: dict[str, dict[str, Any]] = {}
        self.progress_age_s: float | None = 1.0
        self.requests: list[Any] = []
        self.events: list[Any] = []
        self.phases: list[str] = []
        self.status: dict[str, Any] | None = None
        self.now = NOW
        self.serial = itertools.count(1)

    # what tests do

    def edit(self, **changes: Any) -> None:
        """Change the spec, as a person would."""
        self.document["spec"] = {**self.document["spec"], **changes}
        self.document["metadata"]["generation"] += 1

    def given(self, kind: str, name: str) -> None:
        """Have an object of somebody else's be there."""
        self.objects[Reference(kind, name)] = {"kind": kind, "metadata": {"name": name}, "data": {}}

    def learn(self, stage: str, frames: int, *, commit: bool = True, phase: str = "training", **more: Any) -> None:
        """Let the curriculum service report progress."""
        known = self.stages.setdefault(stage, {"stage": stage, "generation": 1})
        known |= {"frames": frames, "phase": phase, "last_progress": self.now, **more}
        if commit:
            digest = f"sha256:{frames:064x}"
            known["checkpoint"] = CommittedCheckpoint(
                uri=f"s3://ada/{stage}/{frames}", digest=digest, frames=frames, time=self.now
            )

    def finish(self, stage: str, score: float = 0.5) -> None:
        """Train a stage to its end, and evaluate it."""
        self.settle()
        self.learn(stage, 1000, phase="trained")
        self.end_pods("trainer", 0)
        self.settle()
        self.evaluated(stage, score)
        self.end_pods("evaluation", 0)
        self.settle()

    def evaluated(self, stage: str, score: float) -> None:
        """Let the evaluation's scores arrive."""
        scores = [TrialScore(trials=k, median=score, mean=score, percentile20=score) for k in (1, 5)]
        self.stages[stage]["evaluation"] = scores

    def end_pods(self, part: str, code: int, *, reason: str = "", disrupted: bool = False, message: str = "") -> None:
        """End the containers of a part's pods."""
        for pod in self.of_part(part):
            if workloads.is_over(pod):
                continue
            ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": timestamp(self.now)}
            conditions = [{"type": "DisruptionTarget", "status": "True"}] if disrupted else []
            pod["status"] = {
                "phase": "Failed" if code else "Succeeded",
                "conditions": conditions,
                "containerStatuses": [{"name": part, "state": {"terminated": ended}, "restartCount": 0}],
            }

    def of_part(self, part: str) -> list[dict[str, Any]]:
        """Return the pods of a part."""
        return [pod for pod in self.pods.values() if pod["metadata"]["labels"][names.PART_LABEL] == part]

    def kinds(self) -> set[str]:
        """Return `kind/name` of everything of ours."""
        return {f"{one.kind}/{one.name}" for one in self.objects if one.name != "store"}

    def job(self, stage: str, part: Any = "trainer") -> dict[str, Any] | None:
        """Return a stage's Job."""
        return self.objects.get(Reference("Job", names.workload("quick", part, stage)))

    # what clusters do

    def experiment(self) -> AdaExperiment:
        """Return the experiment as the API server would."""
        return AdaExperiment.model_validate({**self.document, "status": self.status})

    def observe(self) -> Observed:
        """Return what an executor would see."""

        def of_kind(kind: str) -> dict[str, Any]:
            return {one.name: found for one, found in self.objects.items() if one.kind == kind}

        return Observed(
            platform=self.platform,
            fresh_token=f"token-{next(self.serial)}",
            configmaps=of_kind("ConfigMap"),
            secrets=of_kind("Secret"),
            services=of_kind("Service"),
            statefulsets=of_kind("StatefulSet"),
            jobs=of_kind("Job"),
            pods=dict(self.pods),
            disruption_budgets=of_kind("PodDisruptionBudget"),
            network_policies=of_kind("NetworkPolicy"),
            progress=Progress(
                experiment="lab/quick", stages=[StageProgress(**stage) for stage in self.stages.values()]
            ),
            progress_age_s=self.progress_age_s,
            silent=self.progress_age_s is not None and self.progress_age_s > FRESH_S,
        )

    def look(self) -> Plan:
        """Ask for a plan and carry it out."""
        decided = plan(self.experiment(), self.observe(), self.now)
        for wanted in decided.objects:
            key = Reference(wanted["kind"], wanted["metadata"]["name"])
            known = self.objects.get(key, {})
            uid = known.get("metadata", {}).get("uid") or f"o-{next(self.serial)}"
            self.objects[key] = {
                **wanted,
                "metadata": {**wanted["metadata"], "uid": uid, "creationTimestamp": timestamp(self.now)},
                "status": known.get("status", {}),
            }
        for reference in decided.deletions:
            gone = self.objects.pop(reference, None)
            if gone is not None and "uid" in gone["metadata"]:
                for pod in workloads.owned(gone, list(self.pods.values())):
                    del self.pods[pod["metadata"]["name"]]
        self.requests += decided.requests
        self.events += decided.events
        self.status = decided.status.model_dump(mode="json", by_alias=True)
        if not self.phases or self.phases[-1] != decided.status.phase:
            self.phases.append(decided.status.phase)
        return decided

    def run_controllers(self, *, ready: bool = True) -> None:
        """Let the controllers make and remove pods; new ones run and are ready at once."""
        for reference, workload in list(self.objects.items()):
            if reference.kind not in ("StatefulSet", "Job"):
                continue
            pods = list(self.pods.values())
            if reference.kind == "Job":
                decision = workloads.job(workload, pods, self.now, BackOff(0, 0))
            else:
                decision = workloads.stateful_set(workload, pods, self.now)
            workload["status"] = decision.status
            for name in decision.stop:
                del self.pods[name]
            for pod in decision.start:
                pod["metadata"]["uid"] = f"p-{next(self.serial)}"
                pod["status"] = running_status(self.now, ready)
                self.pods[pod["metadata"]["name"]] = pod

    def settle(self, looks: int = 40) -> Plan:
        """Look until nothing changes any more."""
        for _ in range(looks):
            before = self.fingerprint()
            decided = self.look()
            self.run_controllers()
            self.run_controllers()
            if self.fingerprint() == before:
                return decided
            self.now += 1
        raise AssertionError(f"no rest after {looks} looks: {self.status}")

    def fingerprint(self) -> str:
        """Return everything that a plan may change, as text."""
        status = {**(self.status or {}), "looked": None, "trainingSeconds": None, "goodput": None}
        return repr((sorted(self.kinds()), sorted(self.pods), status))


def running_status(now: float, ready: bool) -> dict[str, Any]:
    """Return the status of a pod that runs."""
    state = {"running": {"startedAt": timestamp(now)}}
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [{"name": "x", "state": state, "restartCount": 0, "lastState": {}}],
    }


@pytest.fixture
def make_cluster() -> type[FakeCluster]:
    """Return the class, for tests with a spec of their own."""
    return FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    """Return a cluster with the teacher and the student."""
    return FakeCluster()
