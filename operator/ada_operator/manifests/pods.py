"""The pods of all parts: one container, restricted security, nothing writable but emptyDirs, no API token."""

from typing import Any

from ada_api.experiment import AdaExperiment
from ada_api.stages import PodTemplate, Stage
from ada_operator import names
from ada_operator.manifests import programs
from ada_operator.manifests.threads import thread_variables
from ada_operator.observed import Manifest, Platform

RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
IMAGES: dict[names.Part, str] = {
    "curriculum": "curriculum_image",
    "rendezvous": "trainer_image",
    "simulator": "simulator_image",
    "trainer": "trainer_image",
    "evaluation": "trainer_image",
}
# Time to commit after SIGTERM, before the kubelet kills.
GRACE_S: dict[names.Part, int] = {"curriculum": 30, "rendezvous": 5, "simulator": 10, "trainer": 180, "evaluation": 30}
NO_OVERRIDES = PodTemplate()


def pod_template(
    experiment: AdaExperiment,
    part: names.Part,
    stage: Stage | None,
    command: list[str],
    ports: dict[str, int],
    platform: Platform,
    overrides: PodTemplate = NO_OVERRIDES,
) -> Manifest:
    """Return the pod template of a part: its program, and over it what the experiment's author set."""
    name = experiment.metadata.name
    stage_name = None if stage is None else stage.name
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "terminationGracePeriodSeconds": GRACE_S[part],
        "subdomain": names.workload(name, part, stage_name),
        "volumes": _volumes(experiment, part) + list(overrides.volumes),
        "containers": [_container(experiment, part, stage, command, ports, platform, overrides)],
    }
    if platform.service_account:
        spec["serviceAccountName"] = platform.service_account
    if platform.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in platform.image_pull_secrets]
    if overrides.node_selector:
        spec["nodeSelector"] = dict(overrides.node_selector)
    if overrides.tolerations:
        spec["tolerations"] = list(overrides.tolerations)
    if overrides.affinity is not None:
        spec["affinity"] = dict(overrides.affinity)
    if overrides.priority_class_name:
        spec["priorityClassName"] = overrides.priority_class_name
    return {"metadata": {"labels": names.labels(name, part, stage_name)}, "spec": spec}


def _container(
    experiment: AdaExperiment,
    part: names.Part,
    stage: Stage | None,
    command: list[str],
    ports: dict[str, int],
    platform: Platform,
    overrides: PodTemplate,
) -> Manifest:
    container: dict[str, Any] = {
        "name": part,
        "image": overrides.image or getattr(platform, IMAGES[part]),
        "imagePullPolicy": platform.image_pull_policy,
        "command": command,
        "env": _merged(
            programs.environment(experiment, stage, platform) + thread_variables(part, stage), overrides.env
        ),
        "ports": [{"name": label, "containerPort": number} for label, number in ports.items()],
        "securityContext": RESTRICTED_CONTAINER,
        # The last lines on stderr become the message of a container that failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(experiment, part) + list(overrides.volume_mounts),
    }
    if overrides.resources:
        container["resources"] = dict(overrides.resources)
    if part in names.HEALTH_PORTS:
        container["readinessProbe"] = {
            "httpGet": {"path": "/healthz", "port": names.HEALTH_PORTS[part]},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        }
    return container


def _merged(ours: list[Manifest], theirs: list[Manifest]) -> list[Manifest]:
    """Return our variables and theirs; theirs win, so that no name stands twice."""
    named = {variable.get("name"): variable for variable in [*ours, *theirs]}  # without one the API server refuses it
    return list(named.values())


def _volumes(experiment: AdaExperiment, part: names.Part) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "experiment", "configMap": {"name": names.config(experiment.metadata.name)}},
        {"name": "tmp", "emptyDir": {}},
    ]
    ca = programs.ca_config_map(experiment)
    if ca is not None:
        volumes.append({"name": "store-ca", "configMap": {"name": ca}})
    if part == "trainer":
        # NCCL shares buffers between the workers of a node; a container's own /dev/shm has 64 MiB.
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    return volumes


def _mounts(experiment: AdaExperiment, part: names.Part) -> list[Manifest]:
    mounts: list[Manifest] = [
        {"name": "experiment", "mountPath": names.CONFIG_DIRECTORY, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if programs.ca_config_map(experiment) is not None:
        mounts.append({"name": "store-ca", "mountPath": names.CA_DIRECTORY, "readOnly": True})
    if part == "trainer":
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    return mounts
