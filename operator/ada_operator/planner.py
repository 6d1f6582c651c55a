"""The plan: what there should be now, and what to say about it. Pure; executors observe, carry it out and ask again.

The order of finality:

    over (succeeded, failed)   nothing but the configuration stays
    not accepted               nothing is started, nothing is lost
    deadline passed            failed
    suspended                  commit, for a bounded time; then nothing but configuration and token stays
    otherwise                  the first stage that is not over takes its next step

Children that a plan leaves out are deleted: Jobs first, and what their pods still talk to only when those are gone.
"""

from dataclasses import dataclass, replace

from ada_api.experiment import KIND, AdaExperiment
from ada_api.stages import CheckpointReference, Stage
from ada_api.status import ExperimentStatus, StageStatus
from ada_operator import conditions, stages
from ada_operator.acceptance import refusal, template_texts
from ada_operator.blocked_pods import OF_STAGE, PARTS, pods_blocked
from ada_operator.events import Event, events_between
from ada_operator.kubernetes_time import seconds
from ada_operator.manifests.programs import Pinned
from ada_operator.observed import Manifest, Observed, Reference
from ada_operator.reported import stage_statuses
from ada_operator.restarts import forgive
from ada_operator.start_failure import hopeless
from ada_operator.summary import ALL_DONE, summarised
from ada_operator.suspension import suspending
from ada_operator.view import Failure, Request, Step, View

LOOK_AGAIN_S = 5.0  # while something is under way
STEADY_S = 15.0  # while a group trains as it should: what is new is heard of before that


@dataclass(frozen=True)
class Plan:
    """What to do now, in this order: apply, ask, write the status, delete, publish the events."""

    objects: tuple[Manifest, ...]  # to be applied
    requests: tuple[Request, ...]  # to the curriculum service
    deletions: tuple[Reference, ...]  # in the background, pods with their grace
    status: ExperimentStatus
    events: tuple[Event, ...]
    requeue_after: float | None  # seconds; None: only when something changes


def plan(experiment: AdaExperiment, observed: Observed, now: float) -> Plan:
    """Return what an experiment needs, from what is seen of it at `now` (s since 1970)."""
    before = ExperimentStatus.model_validate(experiment.status or {})
    view = View(experiment, observed, now, template_texts(experiment, observed), before)
    status = before.model_copy(update={"stages": stage_statuses(view, before)})
    status = reopened(status, experiment)
    step = next_step(view, status)
    status = summarised(view, status, step)
    unwanted = left_out(view, step.objects) if step.deletes else ()
    deletions = deletable(view, unwanted)
    if lifetime_is_over(view, status):
        deletions = (*deletions, Reference(KIND, experiment.metadata.name))
    return Plan(
        objects=step.objects,
        requests=step.requests,
        deletions=deletions,
        status=status,
        events=events_between(before, status),
        requeue_after=requeue_after(view, status, leaves=bool(unwanted or deletions)),
    )


def first_child(experiment: AdaExperiment, observed: Observed, now: float) -> Manifest | None:
    """Return the first object of the plan for an experiment that nobody has looked at, without the rest of the plan.

    It is the configuration, or None if the experiment is not accepted.
    """
    view = View(experiment, observed, now, template_texts(experiment, observed))
    return view.settings()[0] if refusal(view) is None else None


def next_step(view: View, status: ExperimentStatus) -> Step:
    """Return the step of the order of finality that applies."""
    current = next((stage for stage in status.stages if stage.phase != "Succeeded"), None)
    if current is None:
        return Step(status.stages[-1], "Finished", ALL_DONE, view.settings())
    failed = conditions.find(status.conditions, "Failed")
    if failed is not None and failed.status == "True":
        return Step(current, "Failed", failed.message, view.settings(), failure=Failure(failed.reason, failed.message))
    refused = refusal(view)
    if refused is not None:
        return Step(current, "NotAccepted", refused.message, refused=refused, deletes=False)
    limit_s = view.experiment.spec.active_deadline_seconds
    if limit_s is not None and active_seconds(status, view.now) >= limit_s:
        failure = Failure("DeadlineExceeded", f"not finished within {limit_s} s (activeDeadlineSeconds)")
        return Step(current, "Failed", failure.message, view.settings(), failure=failure)
    position = [stage.name for stage in status.stages].index(current.name)
    stage = view.experiment.spec.stages[position]
    if view.experiment.spec.suspend:
        return suspending(view, stage, current, conditions.find(status.conditions, "Suspended"))
    teacher = teacher_of(view, status, position)
    pinned = current if teacher is None else pin(current, teacher)
    step = stages.step(view, stage, pinned, teacher)
    if step.failure is not None:
        return replace(step, objects=view.settings())
    if not step.trains:  # a group that trains is not ended because one more pod can't join it
        found = hopeless_pod(view, stage, step)
        if found is not None:
            return Step(step.stage, "Failed", found.message, view.settings(), failure=found)
    return with_trouble_of_pods(view, stage, step).with_objects(view.infrastructure())


def hopeless_pod(view: View, stage: Stage, step: Step) -> Failure | None:
    """Return why the stage can't go on if one of its pods will never start as it is described, else None."""
    known = conditions.find(view.before.conditions, "Degraded")
    blocked = known is not None and known.status == "True" and known.reason == "PodsBlocked"
    since = seconds(known.last_transition_time, view.now) if known is not None and blocked else None
    for part in PARTS:
        for pod in view.pods(part, stage if part in OF_STAGE else None):
            found = None if "deletionTimestamp" in pod["metadata"] else hopeless(pod, since, view.now)
            if found is not None:
                return Failure(found.reason, f"stage {step.stage.name}: {found.message}")
    return None


def with_trouble_of_pods(view: View, stage: Stage, step: Step) -> Step:
    """Return the step with what keeps any pod of the stage from running, if it does not know worse."""
    if step.degraded is not None:
        return step
    for part in PARTS:
        pods = view.pods(part, stage if part in OF_STAGE else None)
        trouble = pods_blocked(view, pods)
        if trouble is not None:
            return replace(step, degraded=trouble)
    return step


def reopened(status: ExperimentStatus, experiment: AdaExperiment) -> ExperimentStatus:
    """Return the status with its end taken back if the spec changed: somebody mended it, or appended a stage."""
    failed = conditions.find(status.conditions, "Failed")
    if status.phase == "Succeeded" and any(stage.phase != "Succeeded" for stage in status.stages):
        return status.model_copy(update={"start_time": None})  # a stage was appended: its deadline counts from now
    if failed is None or failed.status != "True" or failed.observed_generation >= experiment.metadata.generation:
        return status
    rest = [condition for condition in status.conditions if condition.type != "Failed"]
    tried_again = [stage if stage.phase == "Succeeded" else forgive(stage) for stage in status.stages]
    return status.model_copy(update={"conditions": rest, "stages": tried_again, "start_time": None})


def active_seconds(status: ExperimentStatus, now: float) -> float:
    """Return the time since the experiment started or was last resumed."""
    return now - seconds(status.start_time, now)


def teacher_of(view: View, status: ExperimentStatus, position: int) -> Pinned | None:
    """Return a stage's teacher: pinned already, named by reference, or an earlier stage's last checkpoint."""
    pinned = status.stages[position].teacher
    distillation = view.experiment.spec.stages[position].distillation
    if pinned is not None:
        return Pinned(pinned.uri, pinned.digest)
    if distillation is None:
        return None
    if distillation.checkpoint is not None:
        return Pinned(distillation.checkpoint.uri, distillation.checkpoint.digest)
    found = next(stage for stage in status.stages if stage.name == distillation.teacher)
    if found.checkpoint is None:
        raise ValueError(f"stage {found.name} is a teacher and over, but its status has no checkpoint")
    return Pinned(found.checkpoint.uri, found.checkpoint.digest)


def pin(stage: StageStatus, teacher: Pinned) -> StageStatus:
    """Return the stage's status with its teacher pinned: a later commit of the teacher changes nothing for it."""
    return stage.model_copy(update={"teacher": CheckpointReference(uri=teacher.uri, digest=teacher.digest)})


def left_out(view: View, objects: tuple[Manifest, ...]) -> tuple[Reference, ...]:
    """Return our children that are not wanted any more."""
    wanted = {(child["kind"], child["metadata"]["name"]) for child in objects}
    return tuple(
        Reference(kind, name)
        for kind, name, child in view.children()
        if (kind, name) not in wanted and not child["metadata"].get("deletionTimestamp")
    )


def deletable(view: View, unwanted: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """Return those of the unwanted children that may go by now.

    While a Job or a pod of one is there, only Jobs go: a trainer that was told to stop commits, for which it needs the
    curriculum service.
    """
    jobs = tuple(reference for reference in unwanted if reference.kind == "Job")
    stopping = any(view.is_stopping(pod) for part in ("trainer", "evaluation") for pod in view.pods(part))
    return jobs if jobs or stopping else unwanted


def lifetime_is_over(view: View, status: ExperimentStatus) -> bool:
    """Return whether the experiment ended so long ago that it is to be deleted."""
    ttl_s = view.experiment.spec.ttl_seconds_after_finished
    if ttl_s is None or status.completion_time is None:
        return False
    return view.now - seconds(status.completion_time, view.now) >= ttl_s


def requeue_after(view: View, status: ExperimentStatus, *, leaves: bool) -> float | None:
    """Return when to look again even if nothing is heard.

    Args:
        leaves: something is there that should not be; of a pod on a lost node nothing is heard when its time is over.
    """
    if status.phase not in ("Succeeded", "Failed", "Suspended") or leaves:
        steady = status.phase == "Training" and not conditions.holds(status.conditions, "Degraded")
        return STEADY_S if steady and not leaves else LOOK_AGAIN_S
    ttl_s = view.experiment.spec.ttl_seconds_after_finished
    if ttl_s is None or status.completion_time is None:
        return None
    return max(1.0, seconds(status.completion_time, view.now) + ttl_s - view.now)
