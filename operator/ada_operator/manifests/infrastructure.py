"""What all stages share: ConfigMap, token, curriculum service, rendezvous store, network policy."""

import base64
import json

from ada_api.experiment import API_VERSION, KIND, AdaExperiment
from ada_operator import names
from ada_operator.manifests import programs
from ada_operator.manifests.pods import pod_template
from ada_operator.observed import Manifest, Platform


def metadata(
    experiment: AdaExperiment, name: str, part: str, stage: str | None = None, annotations: dict[str, str] | None = None
) -> Manifest:
    """Return the metadata of a child; it dies with the experiment."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": experiment.metadata.name,
        "uid": experiment.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    found: Manifest = {
        "name": name,
        "namespace": experiment.metadata.namespace,
        "labels": names.labels(experiment.metadata.name, part, stage),
        "ownerReferences": [owner],
    }
    return {**found, "annotations": annotations} if annotations else found


def config_map(experiment: AdaExperiment, template_texts: dict[str, str]) -> Manifest:
    """Return the ConfigMap with the experiment, defaults filled in, templates of other ConfigMaps put inline."""
    spec = experiment.spec.model_dump(mode="json", by_alias=True)
    for template in spec["environment"]["templates"]:
        if template["name"] in template_texts:
            template |= {"text": template_texts[template["name"]], "configMap": None}
    document = {
        "apiVersion": experiment.api_version,
        "kind": experiment.kind,
        "metadata": {"name": experiment.metadata.name, "namespace": experiment.metadata.namespace},
        "spec": spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(experiment, names.config(experiment.metadata.name), "experiment"),
        "data": {names.CONFIG_KEY: json.dumps(document)},
    }


def token_secret(experiment: AdaExperiment, token: str) -> Manifest:
    """Return the Secret with the token that every request between the parts carries."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(experiment, names.token(experiment.metadata.name), "token"),
        "type": "Opaque",
        "data": {names.TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


def headless_service(experiment: AdaExperiment, part: names.Part, stage: str | None, ports: dict[str, int]) -> Manifest:
    """Return the Service that gives a part's pods their names, also before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(experiment, names.workload(experiment.metadata.name, part, stage), part, stage),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": names.selector(experiment.metadata.name, part, stage),
            "ports": [{"name": name, "port": port} for name, port in ports.items()],
        },
    }


def stateful_set(
    experiment: AdaExperiment,
    part: names.Part,
    stage: str | None,
    template: Manifest,
    replicas: int,
    update_strategy: str,
) -> Manifest:
    """Return a StatefulSet whose pods start all at once."""
    name = names.workload(experiment.metadata.name, part, stage)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(experiment, name, part, stage),
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": update_strategy},
            "selector": {"matchLabels": names.selector(experiment.metadata.name, part, stage)},
            "template": template,
        },
    }


CURRICULUM_PORTS = {"http": names.CURRICULUM_PORT, "health": names.HEALTH_PORTS["curriculum"]}
RENDEZVOUS_PORTS = {"store": names.RENDEZVOUS_PORT, "health": names.HEALTH_PORTS["rendezvous"]}


def curriculum(experiment: AdaExperiment, platform: Platform) -> tuple[Manifest, Manifest]:
    """Return Service and StatefulSet of the curriculum service.

    A new template takes effect when the pod next starts: replacing it in the middle of a stage would cost the
    frames since the last checkpoint.
    """
    template = pod_template(
        experiment, "curriculum", None, programs.curriculum_command(platform), CURRICULUM_PORTS, platform
    )
    return (
        headless_service(experiment, "curriculum", None, CURRICULUM_PORTS),
        stateful_set(experiment, "curriculum", None, template, 1, "OnDelete"),
    )


def rendezvous(experiment: AdaExperiment, platform: Platform) -> tuple[Manifest, Manifest]:
    """Return Service and StatefulSet of the rendezvous store; it too is replaced only when its pod goes."""
    template = pod_template(
        experiment, "rendezvous", None, programs.rendezvous_command(platform), RENDEZVOUS_PORTS, platform
    )
    return (
        headless_service(experiment, "rendezvous", None, RENDEZVOUS_PORTS),
        stateful_set(experiment, "rendezvous", None, template, 1, "OnDelete"),
    )


def network_policy(experiment: AdaExperiment, platform: Platform) -> Manifest:
    """Return the policy under which only the experiment's own pods, the operator and scrapers reach its pods."""
    pods = {names.EXPERIMENT_LABEL: names.scope(experiment.metadata.name)}
    ingress: list[Manifest] = [{"from": [{"podSelector": {"matchLabels": pods}}]}]
    ingress.append({"ports": [{"protocol": "TCP", "port": port} for port in sorted(names.HEALTH_PORTS.values())]})
    asked: Manifest = {"ports": [{"protocol": "TCP", "port": names.CURRICULUM_PORT}]}
    if platform.operator_namespace:
        space = {"matchLabels": {"kubernetes.io/metadata.name": platform.operator_namespace}}
        asked["from"] = [{"namespaceSelector": space}]
    ingress.append(asked)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(experiment, names.config(experiment.metadata.name), "experiment"),
        "spec": {"podSelector": {"matchLabels": pods}, "policyTypes": ["Ingress"], "ingress": ingress},
    }
