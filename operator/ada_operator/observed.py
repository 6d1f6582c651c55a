"""What the planner sees (`Observed`) and what it is told about where it runs (`Platform`).

Children are dicts in Kubernetes' own shape, so that a cluster and a single machine are seen in one vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ada_api.experiment import AdaExperiment
from ada_api.progress import Progress, StageProgress

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Platform:
    """What whoever installed the operator decided for all experiments."""

    curriculum_image: str = "ada-curriculum"
    trainer_image: str = "ada-trainer"  # rendezvous, trainer and evaluation
    simulator_image: str = "ada-simulator"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    default_store: str | None = None  # the value of ADA_STORE for experiments that name no store
    default_store_secret: str | None = None  # Secret in the experiment's namespace, keys accessKey and secretKey
    operator_namespace: str | None = None  # from where the curriculum service may be asked; None: from everywhere
    python: tuple[str, ...] = ("python",)  # how a program is started
    # What experiments may name, as patterns in which * is any text; None: anything, (): only the defaults above.
    allowed_images: tuple[str, ...] | None = None
    allowed_store_endpoints: tuple[str, ...] | None = None
    allowed_priority_classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Observed:
    """The experiment's children by name, as last seen, and the newest progress."""

    platform: Platform
    fresh_token: str  # the token of the Secret, if there is none yet
    configmaps: Mapping[str, Manifest] = field(default_factory=dict)  # ours, and those of `references`
    secrets: Mapping[str, Manifest] = field(default_factory=dict)  # ours, and those of `references`
    services: Mapping[str, Manifest] = field(default_factory=dict)
    statefulsets: Mapping[str, Manifest] = field(default_factory=dict)
    jobs: Mapping[str, Manifest] = field(default_factory=dict)
    pods: Mapping[str, Manifest] = field(default_factory=dict)
    disruption_budgets: Mapping[str, Manifest] = field(default_factory=dict)
    network_policies: Mapping[str, Manifest] = field(default_factory=dict)
    progress: Progress | None = None
    progress_age_s: float | None = None  # seconds since `progress` was read; None: never
    silent: bool = False  # whether the curriculum service was asked since, and did not answer
    unchanged_s: float | None = None  # seconds for which `progress` was seen to say the same; None: not known

    def stage_progress(self, stage: str) -> StageProgress | None:
        """Return what the curriculum service last said about a stage."""
        stages = self.progress.stages if self.progress else []
        return next((one for one in stages if one.stage == stage), None)


@dataclass(frozen=True)
class Reference:
    """An object by kind and name, in the experiment's namespace."""

    kind: str
    name: str


def is_ready(pod: Manifest) -> bool:
    """Return whether a pod runs and passed its readiness probe."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def references(experiment: AdaExperiment, platform: Platform) -> tuple[Reference, ...]:
    """Return the objects that the experiment names and somebody else keeps; executors observe them too."""
    found = [
        Reference("ConfigMap", template.config_map.name)
        for template in experiment.spec.environment.templates
        if template.config_map
    ]
    store = experiment.spec.checkpoint.store
    if store is None:
        if platform.default_store_secret:
            found.append(Reference("Secret", platform.default_store_secret))
    else:
        if store.secret_name:
            found.append(Reference("Secret", store.secret_name))
        if store.ca_config_map:
            found.append(Reference("ConfigMap", store.ca_config_map))
    return tuple(dict.fromkeys(found))
