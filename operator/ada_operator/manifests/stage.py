"""What one stage needs: simulators, the elastic trainer group, the evaluation."""

from typing import Any

from ada_api.experiment import AdaExperiment
from ada_api.stages import Stage
from ada_operator import names
from ada_operator.manifests import programs
from ada_operator.manifests.infrastructure import headless_service, metadata, stateful_set
from ada_operator.manifests.pods import pod_template
from ada_operator.manifests.programs import Group, Pinned
from ada_operator.observed import Manifest, Platform

SIMULATOR_PORTS = {"frames": names.SIMULATOR_PORT, "health": names.HEALTH_PORTS["simulator"]}
TRAINER_PORTS = {"health": names.HEALTH_PORTS["trainer"]}

CONFIGURATION_EXIT_CODE = 78
STOPPED_EXIT_CODE = 75
NEVER_BY_COUNT = 2**31 - 1  # the planner counts failures by cause; the Job controller must not give up before it


def simulators(experiment: AdaExperiment, stage: Stage, platform: Platform) -> tuple[Manifest, ...]:
    """Return Service, StatefulSet and disruption budget of a stage's simulators."""
    name = names.workload(experiment.metadata.name, "simulator", stage.name)
    template = pod_template(
        experiment,
        "simulator",
        stage,
        programs.simulator_command(platform),
        SIMULATOR_PORTS,
        platform,
        stage.simulators.pod,
    )
    budget = disruption_budget(experiment, name, "simulator", stage, {"maxUnavailable": "25%"})
    return (
        headless_service(experiment, "simulator", stage.name, SIMULATOR_PORTS),
        stateful_set(experiment, "simulator", stage.name, template, stage.simulators.replicas, "RollingUpdate"),
        budget,
    )


def trainer(experiment: AdaExperiment, stage: Stage, group: Group, platform: Platform) -> tuple[Manifest, ...]:
    """Return Service, Job and, if it has more than one node, disruption budget of a training group."""
    name = names.workload(experiment.metadata.name, "trainer", stage.name)
    command = programs.trainer_command(experiment, stage, group, platform)
    template = pod_template(experiment, "trainer", stage, command, TRAINER_PORTS, platform, stage.trainer.pod)
    _gather(experiment, stage, template)
    marks = {
        names.GENERATION_ANNOTATION: str(group.generation),
        names.BOUNDS_ANNOTATION: programs.node_bounds(stage),
        names.RESIZED_ANNOTATION: group.resized,
    }
    if group.short_since is not None:
        marks[names.SHORT_ANNOTATION] = group.short_since
    job = _job(experiment, "trainer", stage, template, group.nodes, marks)
    # Any node that ends well has seen the stage trained and committed: all nodes agree on it.
    job["spec"]["successPolicy"] = {"rules": [{"succeededCount": 1}]}
    objects = [headless_service(experiment, "trainer", stage.name, TRAINER_PORTS), job]
    if group.nodes > 1:
        # One node at a time may be drained; a single node must not hold up a drain, so it gets no budget.
        objects.append(disruption_budget(experiment, name, "trainer", stage, {"minAvailable": group.nodes - 1}))
    return tuple(objects)


def evaluation(experiment: AdaExperiment, stage: Stage, checkpoint: Pinned, platform: Platform) -> Manifest:
    """Return the Job that scores a stage's last checkpoint."""
    command = programs.evaluation_command(stage, checkpoint, platform)
    template = pod_template(experiment, "evaluation", stage, command, {}, platform, stage.trainer.pod)
    return _job(experiment, "evaluation", stage, template, 1, {})


def disruption_budget(
    experiment: AdaExperiment, name: str, part: names.Part, stage: Stage, limit: dict[str, Any]
) -> Manifest:
    """Return a PodDisruptionBudget; pods that are not ready never hold up a drain."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(experiment, name, part, stage.name),
        "spec": {
            **limit,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(experiment.metadata.name, part, stage.name)},
        },
    }


def _job(
    experiment: AdaExperiment,
    part: names.Part,
    stage: Stage,
    template: Manifest,
    nodes: int,
    annotations: dict[str, str],
) -> Manifest:
    """Return an Indexed Job: disruptions and requested stops are free, a configuration that can't work ends it."""
    template["spec"]["restartPolicy"] = "Never"
    name = names.workload(experiment.metadata.name, part, stage.name)
    job: Manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(experiment, name, part, stage.name, annotations),
        "spec": {
            "completionMode": "Indexed",
            "parallelism": nodes,
            "completions": nodes,
            "backoffLimit": NEVER_BY_COUNT,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [CONFIGURATION_EXIT_CODE]}},
                    {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [STOPPED_EXIT_CODE]}},
                ]
            },
            "template": template,
        },
    }
    queue = experiment.spec.scheduling.queue_name
    if queue:
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = queue
    return job


def _gather(experiment: AdaExperiment, stage: Stage, template: Manifest) -> None:
    """Add to a trainer's template what keeps the group's pods together, in time and in place."""
    scheduling = experiment.spec.scheduling
    if scheduling.gang == "volcano":
        template["spec"]["schedulerName"] = "volcano"
        # The group trains with its fewest nodes: the gang is as large as that, whatever the size now.
        template["metadata"]["annotations"] = {"scheduling.volcano.sh/group-min-member": str(stage.trainer.nodes.min)}
    if scheduling.topology_key:
        chosen = names.selector(experiment.metadata.name, "trainer", stage.name)
        together = {"topologyKey": scheduling.topology_key, "labelSelector": {"matchLabels": chosen}}
        affinity = dict(template["spec"].get("affinity", {}))
        pods = dict(affinity.get("podAffinity", {}))
        required = [*pods.get("requiredDuringSchedulingIgnoredDuringExecution", []), together]
        affinity["podAffinity"] = {**pods, "requiredDuringSchedulingIgnoredDuringExecution": required}
        template["spec"]["affinity"] = affinity
