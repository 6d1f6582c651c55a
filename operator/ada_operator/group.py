"""The training group: made, kept, resized, and made anew under the next number when it can't go on.

A group's pod template never changes; other settings of its pods take effect when the group is next made anew. Reasons
to make it anew, in order:

    spec.stages[].trainer.nodes changed           free; the bounds are fixed at the rendezvous
    the Job ended without the stage being trained counted as a stall; nobody is left
    nodes were lost that it can't do without      a disruption; their pods never end, so no others take their place
    too many updates were not finite              onNan, counted
    the score collapsed                           onCollapse, counted
    no progress for too long                      onStall, counted
"""

from dataclasses import dataclass
from typing import Any, Literal

from ada_api.progress import StageProgress
from ada_api.stages import Stage
from ada_api.status import StageStatus
from ada_operator import conditions, names
from ada_operator.elasticity import index, target_nodes, wanted_nodes
from ada_operator.failure_policy import blocked_reason, unschedulable
from ada_operator.kubernetes_time import seconds, timestamp
from ada_operator.manifests import programs
from ada_operator.manifests import stage as manifests
from ada_operator.manifests.programs import Group, Pinned
from ada_operator.observed import Manifest, is_ready
from ada_operator.restarts import counted_failure, group_restarts, new_group
from ada_operator.view import Failure, Step, View

SETTLE_S = 60.0  # time for the last report to arrive after a Job is complete
STALL_UPDATES = 10  # mean times of an update that a silence must last, beside the least that the spec allows
COLLAPSED_SHARE = 0.5  # of the best score
COLLAPSIBLE_SCORE = 0.1  # a best score below this can't collapse

Remedy = Literal["restart", "rollback", "fail"]


@dataclass(frozen=True)
class Trouble:
    """Why a group can't go on, and what is to be done."""

    reason: str
    message: str
    remedy: Remedy
    cause: str | None = None  # field of the restart counts; None: free


def start(view: View, stage: Stage, memory: StageStatus, teacher: Pinned | None) -> Step:
    """Make a new group, once nothing is left of the one before."""
    left = [pod["metadata"]["name"] for pod in view.pods("trainer", stage) if view.is_stopping(pod)]
    wanted = wanted_nodes(stage.trainer.nodes, view.experiment.spec.nodes)
    if left:
        return Step(memory, "Regrouping", f"waiting for {len(left)} pods to stop: {left[0]}", nodes=(0, wanted))
    resume = memory.resume
    group = Group(
        generation=memory.generation + 1,
        nodes=wanted,
        resized=timestamp(view.now),
        teacher=teacher,
        resume=Pinned(resume.uri, resume.digest) if resume else None,
    )
    started = with_group(memory, group.generation, group.resized)
    objects = manifests.trainer(view.experiment, stage, group, view.platform)
    return Step(started, "Starting", f"group {group.generation} of {wanted} nodes starts", objects, nodes=(0, wanted))


def with_group(memory: StageStatus, generation: int, began: str) -> StageStatus:
    """Return the stage's status with a group that began then; nothing of the one before is held against it."""
    changes = {"generation": generation, "resume": None, "start_time": memory.start_time or began}
    return new_group(memory).model_copy(update={"phase": "Training", **changes})


def carry_on(view: View, stage: Stage, memory: StageStatus, job: Manifest) -> Step:
    """Keep the present group, resize it, or give it up."""
    annotations = job["metadata"].get("annotations", {})
    generation = int(annotations.get(names.GENERATION_ANNOTATION, 0))
    if generation > memory.generation:  # made by an operator that was lost before it could write so
        memory = with_group(memory, generation, annotations.get(names.RESIZED_ANNOTATION, timestamp(view.now)))
    memory = memory.model_copy(update={"phase": "Training"})
    if memory.given_up >= memory.generation:  # counted already; its Job is to go
        return Step(memory, "Regrouping", f"group {memory.generation} was given up; a new one follows")
    pods = view.pods_of(job, "trainer", stage)
    memory = group_restarts(memory, pods)
    failure = counted_failure(view, pods, "trainer", memory)
    if failure is not None:
        return Step(memory, "Failed", failure.message, failure=failure)
    trouble = (
        resized_bounds(stage, annotations)
        or ended(view, job)
        or lost(view, stage, pods)
        or ill(view, stage, memory)
        or stalled(view, stage, memory, pods)
    )
    if trouble is not None:
        return give_up(view, stage, memory, pods, trouble)
    return keep(view, stage, memory, job, pods, annotations)


def resized_bounds(stage: Stage, annotations: dict[str, str]) -> Trouble | None:
    """Return whether the stage's bounds are others than those the group met with."""
    bounds = programs.node_bounds(stage)
    if bounds == annotations.get(names.BOUNDS_ANNOTATION, bounds):
        return None
    return Trouble("BoundsChanged", f"trainer.nodes is now {bounds}", "restart")


def ended(view: View, job: Manifest) -> Trouble | None:
    """Return whether the Job is over although the stage is not trained."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] == "Failed" and condition["status"] == "True":
            if condition.get("reason") == "PodFailurePolicy":
                return Trouble("ConfigurationError", str(condition.get("message")), "fail")
            return Trouble("GroupEnded", f"the trainer Job failed: {condition.get('reason')}", "restart", "stall")
        since = seconds(condition.get("lastTransitionTime"), view.now)
        if condition["type"] == "Complete" and condition["status"] == "True" and view.now - since > SETTLE_S:
            return Trouble(
                "GroupEnded", "the trainer Job is complete, but the stage is not trained", "restart", "stall"
            )
    return None


def lost(view: View, stage: Stage, pods: list[Manifest]) -> Trouble | None:
    """Return whether so many pods are on lost nodes that the group can't go on without them."""
    there = [pod for pod in pods if pod.get("status", {}).get("phase") in ("Pending", "Running")]
    staying = [pod for pod in there if not is_leaving(pod)]
    stuck = [pod for pod in there if is_leaving(pod) and not view.is_stopping(pod)]
    if not stuck or len(staying) >= stage.trainer.nodes.min:
        return None
    name, node = stuck[0]["metadata"]["name"], stuck[0].get("spec", {}).get("nodeName") or "its node"
    return Trouble("NodeLost", f"pod {name} does not end, {node} is most likely lost", "restart", "disruption")


def is_leaving(pod: Manifest) -> bool:
    """Return whether a pod was told to go."""
    return "deletionTimestamp" in pod["metadata"]


def ill(view: View, stage: Stage, memory: StageStatus) -> Trouble | None:
    """Return whether learning itself went wrong: updates that are not finite, or a score that collapsed."""
    progress = view.progress(stage.name)
    if progress is None or progress.generation == 0:
        return None
    policy = view.experiment.spec.failure_policy
    skipped = progress.skipped_updates - memory.skipped_updates_before
    if skipped >= stage.algorithm.max_skipped_updates:
        message = f"{skipped} updates were not finite, fewer than {stage.algorithm.max_skipped_updates} are allowed"
        return Trouble("NotFinite", message, policy.on_nan, "not_finite")
    best, score = memory.best_score, progress.score
    if policy.on_collapse == "ignore" or best is None or score is None or best < COLLAPSIBLE_SCORE:
        return None
    if score < COLLAPSED_SHARE * best:
        message = f"the score fell to {score:.3f} from {best:.3f}"
        return Trouble("Collapsed", message, policy.on_collapse, "collapse")
    return None


def stalled(view: View, stage: Stage, memory: StageStatus, pods: list[Manifest]) -> Trouble | None:
    """Return whether nodes run, but nothing was learned for too long."""
    progress = view.progress(stage.name)
    there = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running" and not is_leaving(pod)]
    running = sorted(_running_since(pod, view.now) for pod in there)
    if progress is None or progress.phase == "trained" or len(running) < stage.trainer.nodes.min:
        return None
    silent_s = view.now - max(progress.last_progress, *running)
    if view.observed.unchanged_s is not None:  # clocks may jump; what was watched can't have taken longer than that
        silent_s = min(silent_s, view.observed.unchanged_s)
    limit_s = stall_limit_s(view.experiment.spec.failure_policy.stall_seconds, progress, memory, view.now)
    if silent_s <= limit_s:
        return None
    message = f"no progress for {silent_s:.0f} s, {limit_s:.0f} s are allowed"
    return Trouble("Stalled", message, view.experiment.spec.failure_policy.on_stall, "stall")


def stall_limit_s(least_s: float, progress: StageProgress, memory: StageStatus, now: float) -> float:
    """Return the silence that counts as a stall: many times what an update of this stage has taken so far."""
    if memory.start_time is None or progress.updates < 1:
        return least_s
    taken_s = progress.last_progress - seconds(memory.start_time, now)
    return max(least_s, STALL_UPDATES * taken_s / progress.updates)


def _running_since(pod: Manifest, now: float) -> float:
    for container in pod["status"].get("containerStatuses", []):
        return seconds(container.get("state", {}).get("running", {}).get("startedAt"), now)
    return now


def give_up(view: View, stage: Stage, memory: StageStatus, pods: list[Manifest], trouble: Trouble) -> Step:
    """Let the group go (its Job is left out, so it is deleted) and say how the next one begins.

    That it was given up, and what for, is written before the Job is deleted: it is counted once, whenever who dies.
    """
    if trouble.remedy == "fail":
        failure = Failure(trouble.reason, f"stage {stage.name}: {trouble.message}")
        return Step(memory, "Failed", failure.message, failure=failure)
    if trouble.cause is not None:
        counts = memory.restarts
        raised = counts.model_copy(update={trouble.cause: getattr(counts, trouble.cause) + 1})
        memory = memory.model_copy(update={"restarts": raised})
    progress = view.progress(stage.name)
    changes: dict[str, Any] = {
        "given_up": memory.generation,
        "skipped_updates_before": progress.skipped_updates if progress else memory.skipped_updates_before,
        "best_score": None,
    }
    if trouble.remedy == "rollback":
        changes["resume"] = memory.earlier_checkpoint or memory.checkpoint
    failure_limit = counted_failure(view, pods, "trainer", memory)
    again = "from an earlier checkpoint" if trouble.remedy == "rollback" else "from the newest checkpoint"
    return Step(
        memory.model_copy(update=changes),
        "Failed" if failure_limit else "Regrouping",
        f"{trouble.reason}: {trouble.message}; a new group starts {again}",
        failure=Failure(trouble.reason, f"{trouble.message}; {failure_limit.message}") if failure_limit else None,
    )


def keep(
    view: View, stage: Stage, memory: StageStatus, job: Manifest, pods: list[Manifest], annotations: dict[str, str]
) -> Step:
    """Keep the group, with as many nodes as the elastic policy says."""
    bounds, current = stage.trainer.nodes, int(job["spec"]["parallelism"])
    wanted = wanted_nodes(bounds, view.experiment.spec.nodes)
    now, short = timestamp(view.now), annotations.get(names.SHORT_ANNOTATION)
    since = None if short is None else seconds(short, view.now)
    nodes = target_nodes(bounds, wanted, current, since, pods, view.now)
    given_up = now if nodes < current else short
    group = Group(
        generation=memory.generation,
        nodes=nodes,
        resized=annotations.get(names.RESIZED_ANNOTATION, now) if nodes == current else now,
        short_since=given_up if nodes < wanted else None,
    )
    objects = manifests.trainer(view.experiment, stage, group, view.platform)
    for child in objects:
        if child["kind"] == "Job":
            child["spec"]["template"] = job["spec"]["template"]
    progress, untold = view.progress(stage.name), is_untold(view, stage)
    learns = progress is not None and progress.phase in ("training", "committing", "trained")
    held = bool(job["spec"].get("suspend"))  # by a queue, which may also take back what trained
    trains = not held and (learns or untold)  # a service that does not answer says nothing about the group
    ready = sum(is_ready(pod) and not is_leaving(pod) for pod in pods)  # the Job's own count comes a second later
    trouble = degraded(pods, wanted, trains=trains and not (progress is not None and progress.phase == "trained"))
    if trouble is None and untold and is_silent(view):
        trouble = ("CurriculumSilent", "the curriculum service does not answer; what is shown is what it last said")
    return Step(
        memory,
        "Training" if trains else "Starting",
        progress_message(view, stage) if trains else waiting_message(view, job, ready, nodes),
        objects,
        trains=trains,
        degraded=trouble,
        nodes=(ready, wanted),
    )


def is_silent(view: View) -> bool:
    """Return whether the service does not answer; one that was not asked yet stays what it was said to be."""
    known = conditions.find(view.before.conditions, "Degraded")
    return view.observed.silent or (known is not None and known.reason == "CurriculumSilent")


def is_untold(view: View, stage: Stage) -> bool:
    """Return whether a group that trained is no longer told of, though the service that should tell is ready."""
    return (
        conditions.holds(view.before.conditions, "Training")
        and view.progress(stage.name) is None
        and view.ready_replicas("curriculum") > 0
    )


def waiting_message(view: View, job: Manifest, ready: int, nodes: int) -> str:
    """Return one sentence on what a group that does not train waits for."""
    group = f"group {job['metadata'].get('annotations', {}).get(names.GENERATION_ANNOTATION, '?')}"
    if job["spec"].get("suspend"):
        queue = view.experiment.spec.scheduling.queue_name
        return f"{group} is held by {'the queue ' + queue if queue else 'spec.suspend of its Job'}"
    if view.ready_replicas("curriculum") < 1:
        return f"{group} waits for the curriculum service"
    return f"{group}: {ready} of {nodes} nodes ready"


def progress_message(view: View, stage: Stage) -> str:
    """Return one sentence on how far the stage is."""
    return f"stage {stage.name} trains towards {stage.frames} frames"


def degraded(pods: list[Manifest], wanted: int, *, trains: bool) -> tuple[str, str] | None:
    """Return what keeps pods from starting, or why a group that trains has fewer nodes than wanted, if so."""
    for pod in pods:
        blocked = blocked_reason(pod)
        if blocked is not None:
            return "PodsBlocked", blocked[1]
    running = sum(pod.get("status", {}).get("phase") == "Running" for pod in pods)
    if not trains or running >= wanted:
        return None
    for pod in pods:
        said = unschedulable(pod)
        if said is not None:
            return "FewerNodes", f"{running} of {wanted} nodes run; node {index(pod)} finds no place: {said}"
    return "FewerNodes", f"{running} of {wanted} nodes run"
