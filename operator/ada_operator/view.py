"""One look at one experiment: what the decisions about its stages read, and what they come to."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ada_api.experiment import AdaExperiment
from ada_api.progress import StageProgress
from ada_api.stages import Stage
from ada_api.status import ExperimentStatus, StageStatus
from ada_operator import names
from ada_operator.kubernetes_time import seconds
from ada_operator.manifests import infrastructure
from ada_operator.observed import Manifest, Observed, Platform

LINGER_S = 30.0  # a pod that should be gone this long is on a lost node; nobody waits for it
FRESH_S = 30.0  # progress older than this is not acted on


@dataclass(frozen=True)
class Request:
    """A POST to the experiment's curriculum service."""

    path: str
    body: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """Why an experiment can't go on."""

    reason: str
    message: str


@dataclass(frozen=True)
class Step:
    """What one look comes to. Children that are not among `objects` are deleted, Jobs first."""

    stage: StageStatus
    reason: str  # of the condition Training
    message: str
    objects: tuple[Manifest, ...] = ()
    trains: bool = False
    failure: Failure | None = None  # for good
    refused: Failure | None = None  # until somebody mends it
    deletes: bool = True
    degraded: tuple[str, str] | None = None  # reason and message
    requests: tuple[Request, ...] = ()
    nodes: tuple[int, int] = (0, 0)  # ready, wanted

    def with_objects(self, objects: Iterable[Manifest]) -> "Step":
        """Return the step with these objects before its own."""
        return replace(self, objects=(*objects, *self.objects))


@dataclass(frozen=True)
class View:
    """What there is to read."""

    experiment: AdaExperiment
    observed: Observed
    now: float
    texts: dict[str, str] = field(default_factory=dict)  # of task templates that ConfigMaps hold
    before: ExperimentStatus = field(default_factory=ExperimentStatus)  # as it was last written

    @property
    def name(self) -> str:
        """Return the experiment's name."""
        return self.experiment.metadata.name

    @property
    def platform(self) -> Platform:
        """Return what the platform decided."""
        return self.observed.platform

    def progress(self, stage: str) -> StageProgress | None:
        """Return the stage's progress if it is fresh enough to act on."""
        return self.observed.stage_progress(stage) if self.is_answered() else None

    def is_answered(self) -> bool:
        """Return whether the curriculum service said lately how all stages stand."""
        age = self.observed.progress_age_s
        return age is not None and age <= FRESH_S

    def workload(self, part: names.Part, stage: Stage | None = None) -> str:
        """Return the name of a part's workload."""
        return names.workload(self.name, part, stage.name if stage else None)

    def trainer_of(self, stage: str) -> str:
        """Return the name of a stage's trainer Job."""
        return names.workload(self.name, "trainer", stage)

    def job(self, part: names.Part, stage: Stage) -> Manifest | None:
        """Return a part's Job unless it is being deleted."""
        job = self.observed.jobs.get(self.workload(part, stage))
        return job if job and not job["metadata"].get("deletionTimestamp") else None

    def pods(self, part: names.Part, stage: Stage | None = None) -> list[Manifest]:
        """Return a part's pods (of any stage, if none is named), by name."""
        chosen = names.selector(self.name, part, stage.name if stage else None).items()
        return [pod for pod in self.all_pods() if chosen <= pod["metadata"].get("labels", {}).items()]

    def pods_of(self, job: Manifest, part: names.Part, stage: Stage) -> list[Manifest]:
        """Return a Job's own pods, by name: none that one of the same name before it has left."""
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self.pods(part, stage)
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", []))
        ]

    def all_pods(self) -> list[Manifest]:
        """Return the pods of all parts."""
        return [pod for _, pod in sorted(self.observed.pods.items())]

    def ready_replicas(self, part: names.Part, stage: Stage | None = None) -> int:
        """Return how many pods of a StatefulSet are ready."""
        found = self.observed.statefulsets.get(self.workload(part, stage), {})
        return int(found.get("status", {}).get("readyReplicas") or 0)

    def children(self) -> Iterator[tuple[str, str, Manifest]]:
        """Return kind, name and manifest of everything of ours that is there; pods belong to their workloads."""
        label = names.scope(self.name)
        kinds = {
            "Job": self.observed.jobs,
            "StatefulSet": self.observed.statefulsets,
            "Service": self.observed.services,
            "PodDisruptionBudget": self.observed.disruption_budgets,
            "NetworkPolicy": self.observed.network_policies,
            "Secret": self.observed.secrets,
            "ConfigMap": self.observed.configmaps,
        }
        for kind, found in kinds.items():
            for name, child in sorted(found.items()):
                if child["metadata"].get("labels", {}).get(names.EXPERIMENT_LABEL) == label:
                    yield kind, name, child

    def is_stopping(self, pod: Manifest) -> bool:
        """Return whether a pod still runs that nobody can be expected to lose."""
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return False
        deadline = pod["metadata"].get("deletionTimestamp")
        return deadline is None or self.now - seconds(deadline, self.now) < LINGER_S

    def settings(self) -> tuple[Manifest, ...]:
        """Return what stays as long as the experiment does."""
        return (infrastructure.config_map(self.experiment, self.texts),)

    def token(self) -> tuple[Manifest, ...]:
        """Return the Secret with the token, which never changes once it is there."""
        known = self.observed.secrets.get(names.token(self.name), {}).get("data", {}).get(names.TOKEN_KEY)
        token = base64.b64decode(known).decode() if known else self.observed.fresh_token
        return (infrastructure.token_secret(self.experiment, token),)

    def infrastructure(self) -> tuple[Manifest, ...]:
        """Return what all stages share."""
        return (
            *self.settings(),
            *self.token(),
            infrastructure.network_policy(self.experiment, self.platform),
            *infrastructure.curriculum(self.experiment, self.platform),
            *infrastructure.rendezvous(self.experiment, self.platform),
        )
