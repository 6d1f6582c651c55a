"""`ada run`: the plan for one experiment, carried out on this machine until it is over or told to stop."""

import base64
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from types import FrameType

from ada_api.experiment import AdaExperiment
from ada_api.progress import Progress
from ada_api.status import ExperimentStatus
from ada_operator import conditions, names
from ada_operator.events import Event
from ada_operator.local import processes
from ada_operator.local.curriculum import CurriculumPoll
from ada_operator.local.directory import RunDirectory
from ada_operator.local.machine import Machine
from ada_operator.local.metrics import Target
from ada_operator.local.network import Network
from ada_operator.local.threads import thread_variables
from ada_operator.observed import Manifest, Observed, Platform
from ada_operator.planner import Plan, plan

LOOK_S = 0.1  # between looks at the processes
PLAN_S = 0.25  # between plans
ACCESS_KEY, SECRET_KEY = "ADA_STORE_ACCESS_KEY", "ADA_STORE_SECRET_KEY"


@dataclass(frozen=True)
class Look:
    """What there is to show after one look."""

    status: ExperimentStatus
    progress: Progress | None
    events: tuple[Event, ...]
    targets: tuple[Target, ...] = ()  # programs that serve metrics


Show = Callable[[Look], None]


class Runner:
    """One run. `run` returns the last status; no process is left when it returns or raises."""

    def __init__(self, experiment: AdaExperiment, directory: RunDirectory, show: Show) -> None:
        self._directory = directory
        self._show = show
        before = directory.status()
        # A run that failed is tried again when it is started again, as a changed spec is in a cluster.
        generation = (before or {}).get("observedGeneration", 0) + 1
        self._metadata = experiment.metadata.model_copy(
            update={"generation": generation, "uid": experiment.metadata.name}
        )
        self._experiment = experiment.model_copy(update={"metadata": self._metadata, "status": before})
        self._platform = Platform(
            python=(sys.executable,), default_store=default_store(directory.path) if local_store(experiment) else None
        )
        self._token = secrets.token_urlsafe(32)
        self._interrupts = 0
        self._wake = threading.Event()
        network = Network(SystemRandom())
        self._machine = Machine(directory.path, network, environments(experiment, os.environ))
        self._curriculum = CurriculumPoll(
            network.address(names.workload(experiment.metadata.name, "curriculum"), 0), names.CURRICULUM_PORT
        )
        self._machine.apply(given_objects(experiment, os.environ))

    def run(self) -> ExperimentStatus:
        """Carry out plans until the experiment is over, suspended, or killed by a second signal."""
        processes.adopt_orphans()
        previous = {number: signal.signal(number, self._interrupt) for number in STOP_SIGNALS}
        try:
            return self._loop()
        finally:
            self._machine.close()
            self._curriculum.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    @property
    def was_interrupted(self) -> bool:
        """Return whether a signal asked the run to stop."""
        return self._interrupts > 0

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        self._wake.set()

    def _loop(self) -> ExperimentStatus:
        planned_at = 0.0
        while True:
            now = time.time()
            self._machine.step(now)
            if self._interrupts or now - planned_at >= PLAN_S:
                planned_at = now
                status = self._carry_out(self._plan(now), now)
                if self._interrupts > 1 or self._is_over(status):
                    return status
            self._wake.wait(LOOK_S)
            if self._interrupts < 2:
                self._wake.clear()

    def _plan(self, now: float) -> Plan:
        self._curriculum.look(self._token, now)
        if self._interrupts and not self._experiment.spec.suspend:
            suspended = self._experiment.spec.model_copy(update={"suspend": True})
            self._experiment = self._experiment.model_copy(update={"spec": suspended})
        return plan(self._experiment, self._observe(now), now)

    def _observe(self, now: float) -> Observed:
        of_kind = self._machine.by_kind
        return Observed(
            platform=self._platform,
            fresh_token=self._token,
            configmaps=of_kind("ConfigMap"),
            secrets=of_kind("Secret"),
            services=of_kind("Service"),
            statefulsets=of_kind("StatefulSet"),
            jobs=of_kind("Job"),
            pods={name: pod.manifest for name, pod in self._machine.pods.items()},
            disruption_budgets=of_kind("PodDisruptionBudget"),
            network_policies=of_kind("NetworkPolicy"),
            progress=self._curriculum.progress,
            progress_age_s=self._curriculum.age_s(now),
            silent=self._curriculum.silent,
        )

    def _carry_out(self, decided: Plan, now: float) -> ExperimentStatus:
        self._machine.apply(decided.objects)
        for request in decided.requests:
            self._curriculum.send(request, self._token)
        written = decided.status.model_dump(mode="json", by_alias=True)
        if written != self._experiment.status:
            self._directory.write_status(written)
            self._experiment = self._experiment.model_copy(update={"status": written})
        # The experiment itself is a file of somebody's: it outlives its time.
        self._machine.delete((one for one in decided.deletions if one.kind != self._experiment.kind), now)
        self._show(Look(decided.status, self._curriculum.progress, decided.events, self._machine.targets()))
        return decided.status

    def _is_over(self, status: ExperimentStatus) -> bool:
        """Return whether nothing is left to do and nothing runs."""
        refused = conditions.find(status.conditions, "Accepted")
        if refused is not None and refused.status == "False":
            return True
        return status.phase in ("Succeeded", "Failed", "Suspended") and not self._machine.pods


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def local_store(experiment: AdaExperiment) -> bool:
    """Return whether the store is a directory of the run."""
    return experiment.spec.checkpoint.store is None


def default_store(directory: Path) -> str:
    """Return the URI of the store in a run's directory."""
    return (directory / "store").as_uri()


def given_objects(experiment: AdaExperiment, environment: Mapping[str, str]) -> list[Manifest]:
    """Return what a cluster would hold beside the experiment: credentials and CA of its store, from the environment."""
    store = experiment.spec.checkpoint.store
    found: list[Manifest] = []
    if store is not None and store.secret_name and ACCESS_KEY in environment and SECRET_KEY in environment:
        data = {
            key: base64.b64encode(environment[variable].encode()).decode()
            for key, variable in (("accessKey", ACCESS_KEY), ("secretKey", SECRET_KEY))
        }
        found.append({"kind": "Secret", "metadata": {"name": store.secret_name}, "data": data})
    if store is not None and store.ca_config_map and "ADA_STORE_CA" in environment:
        text = Path(environment["ADA_STORE_CA"]).read_text()
        found.append({"kind": "ConfigMap", "metadata": {"name": store.ca_config_map}, "data": {"ca.crt": text}})
    return found


def environments(experiment: AdaExperiment, environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what the processes of each part inherit: our environment, no setting of ours, and a number of threads."""
    inherited = {name: value for name, value in environment.items() if not name.startswith("ADA_")}
    # Logs are read while the programs run.
    inherited["PYTHONUNBUFFERED"] = "1"
    cores = len(os.sched_getaffinity(0))
    return {part: {**threads, **inherited} for part, threads in thread_variables(experiment, cores).items()}
